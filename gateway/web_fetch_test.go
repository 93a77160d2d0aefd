package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestWebFetchOfLoopback: a model that asks for what listens on this host, the
// gateway itself among it, is refused and told why; nothing is connected to.
func TestWebFetchOfLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			t.Error("it connected")
			conn.Close()
		}
	}()
	addresses := []string{"http://127.0.0.1/", "http://" + l.Addr().String() + "/", "http://localhost/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data/"}
	pipes, asked := newPipeListener(), make(chan string, 10)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- string(body)
		w.Header().Set("Content-Type", "text/event-stream")
		delta, stop := `{"content":"so be it"}`, "stop"
		if !strings.Contains(string(body), `"role":"tool"`) {
			var calls []string
			for i, a := range addresses {
				calls = append(calls, fmt.Sprintf(`{"index":%d,"id":"c%d","function":{"name":"web_fetch","arguments":%q}}`, i, i, `{"url":"`+a+`"}`))
			}
			delta, stop = `{"tool_calls":[`+strings.Join(calls, ",")+`]}`, "tool_calls"
		}
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":%s}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":%q}]}\n\ndata: [DONE]\n\n", delta, stop)
	})}
	go s.Serve(pipes)
	t.Cleanup(func() { s.Close() })
	r := start(t, withModel(testOptions(t, modelConfig), &fakeModel{pipeListener: pipes}))
	c := r.connect()
	r.call(c, "chat.send", `{"sessionKey":"main","message":"look","idempotencyKey":"1"}`)
	if final := r.until(c, `"state":"final"`); !strings.Contains(final, "so be it") {
		t.Error(final)
	}
	if first := <-asked; !strings.Contains(first, `"name":"web_fetch"`) {
		t.Errorf("it is not offered: %s", first)
	}
	second := <-asked
	if n := strings.Count(second, "not fetched: the host is not on the public internet"); n != len(addresses) {
		t.Errorf("%d refusals in %s", n, second)
	}

	auth := bearer(testToken)
	for body, want := range map[string]string{
		`{"tool":"web_fetch","args":{}}`:                                `{"ok":false,"error":{"message":"url: is required","type":"tool_error"}}`,
		`{"tool":"web_fetch","args":{"url":"http://127.0.0.1/"}}`:       `not fetched: the host is not on the public internet`,
		`{"tool":"web_fetch","args":{"url":"http://0x7f.1/"}}`:          `not fetched: the host is neither a public name`,
		`{"tool":"web_fetch","args":{"url":"x:","maxChars":1}}`:         `maxChars: must be at least 100`,
		`{"tool":"web_fetch","args":{"url":"http://8.8.8.8:53/"}}`:      `not fetched: only ports 80 and 443`,
		`{"tool":"web_fetch","args":{"url":"file:///etc/passwd"}}`:      `not fetched: only http and https`,
		`{"tool":"web_fetch","args":{"url":"http://u:p@example.com/"}}`: `not fetched: an address with a user`,
	} {
		if status, _, got := r.do("POST", "/tools/invoke", auth, body); status != 400 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s", body, status, got)
		}
	}
}

// TestWebFetchSwitchedOff is as if it did not exist.
func TestWebFetchSwitchedOff(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"}},tools:{alsoAllow:["web_fetch"],web:{fetch:{enabled:false}}}}`))
	if status, _, body := r.do("POST", "/tools/invoke", bearer(testToken), `{"tool":"web_fetch","args":{"url":"http://127.0.0.1/"}}`); status != 404 {
		t.Error(status, body)
	}
	if hello := r.call(r.connect(), "tools.catalog", `{}`); !strings.Contains(hello, `"id":"web_fetch"`) || strings.Contains(hello, `"class":"network","defaultProfiles":["coding","full"],"effective":true`) {
		t.Error(hello)
	}
}
