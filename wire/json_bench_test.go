package wire

import (
	"strings"
	"testing"
)

var benchFrame = []byte(`{"type":"req","id":"0193b2f1-6a1c-7c55-b3a4-2f1d0f7c9e11","method":"health","params":{"probe":false}}`)

func BenchmarkParseRequest(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(benchFrame)))
	for b.Loop() {
		if _, err := ParseRequest(benchFrame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	small := []byte(`{"sessionKey":"agent:main:main","message":"hello there","deliver":false,"idempotencyKey":"0193b2f1-6a1c"}`)
	large := []byte(`{"sessionKey":"main","message":"` + strings.Repeat("words and words, ", 1<<16) + `","idempotencyKey":"k"}`)
	for _, bc := range []struct {
		name string
		data []byte
	}{{"small", small}, {"large", large}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bc.data)))
			for b.Loop() {
				var p ChatSend
				if err := Decode(bc.data, &p); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bc.name+"/params", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bc.data)))
			for b.Loop() {
				var p ChatSend
				if err := DecodeParams("chat.send", bc.data, &p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	payload := []byte(`{"ok":true}`)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendResponse(buf[:0], "0193b2f1-6a1c-7c55-b3a4-2f1d0f7c9e11", payload)
	}
}
