package qr

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// PNG is the code with its quiet zone, each module scale pixels wide, as a
// picture of one bit a pixel. Package image/png would bring its decoder along,
// which has no place in a program that decodes no pictures.
func (c *Code) PNG(scale int) []byte {
	side := (c.Size + 2*quiet) * scale
	var pixels bytes.Buffer
	z := zlib.NewWriter(&pixels) // a Buffer takes everything
	for y := range side {
		row := make([]byte, 1+(side+7)/8) // after the filter, which is none
		for x := range side {
			if !c.Dark(x/scale-quiet, y/scale-quiet) {
				row[1+x/8] |= 0x80 >> (x % 8)
			}
		}
		z.Write(row)
	}
	z.Close()
	out := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, data []byte) {
		out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
		begin := len(out)
		out = append(append(out, kind...), data...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[begin:]))
	}
	size := binary.BigEndian.AppendUint32(nil, uint32(side))
	chunk("IHDR", slices.Concat(size, size, []byte{1, 0, 0, 0, 0})) // one bit, grey
	chunk("IDAT", pixels.Bytes())
	chunk("IEND", nil)
	return out
}
