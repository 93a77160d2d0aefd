package qr

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"image"
	"image/png"
	"strconv"
	"strings"
	"testing"
)

// link is a text as WhatsApp's codes have, of n bytes.
func link(n int) string {
	s := "https://wa.me/settings/linked_devices#"
	if n < 45 {
		s = strings.Repeat("openclaw, a gateway", 3)
	}
	for i := 0; len(s) < n; i++ {
		sum := sha256.Sum256([]byte(strconv.Itoa(i)))
		s += base64.StdEncoding.EncodeToString(sum[:])
	}
	return s[:n]
}

func drawn(c *Code) string {
	var b strings.Builder
	for y := range c.Size {
		for x := range c.Size {
			b.WriteByte(map[bool]byte{true: '#', false: '.'}[c.Dark(x, y)])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestVectors compares codes, module by module, with those of an encoder that
// other people wrote (qrcode 1.5.4 of npm): length, version, mask, SHA-256.
func TestVectors(t *testing.T) {
	const vectors = `
5 1 0 c3523c31527d0a29c3d9ae79e2482e8a79b2449a3e0ae109851bee4cae1e6722
17 1 1 da6ba4eea49f5a91940f35a0a2c485c6252cb9402754f4bdf1a26c1b5172e929
18 2 2 629c293ec4a48d181f812f2324af85e248c0f5c56c11da28e60454e73d56078f
50 3 3 3021e9f77fcd1ae80763822f56a1867d10c4f332fbd3e50ec2e2f80cb8bb972c
60 4 4 96d98149e8275214c526a5851024c706d2e18a234da6e275e27913fefe0806e5
100 5 5 94f550a60ef575fbe1805443222e04e91186199f4731e0d5a11849373b1da184
120 6 6 f2783c9fe96334b5dfbbdf8acece53e2b41e77ff7a3c1120a6a78e586b334b76
154 7 7 9041d044a88a9611241428b1259f5a35b0ffebcd8318905fa26bb4bcaa5ea27f
155 8 0 ea78f0f4c758c8fdf4f0ab9115e20eccacfe258731dda92284d336cedeed5c4d
188 8 1 cfc7db58ddc4045dc8bd91981bc62c70c4f30732c2b2206c33144b22f78ee405
230 9 2 1a276d48ad33b9f281c2616091f4b0e73d9db386b3653c50dab3194c8b131a0c
231 10 3 a1d305984e3be85f63f71e5069ea7bfa9bd3223b3cb005fdc3370338a5151b44
240 10 4 ea80fd0d459a7053537574d05a96fb5fe7be78a21c0c30c8e74591a41d14c607
271 10 5 e84ba39d614091e8bf4700497259de2efe613e5a0a3b0426cb948230fdfd798c
272 11 6 e25f8ebb5a0d4594c82fc66383a18e4988016e543f1d2f9b0eaf401cd6101548
300 11 7 04ea06055ac9babfa26f35ba4d250fe7ecf71e8a75eab46edfbed3f7a8444039
367 12 0 27bcdd97b2a916fe1902de0560e5d8f223fd1c86a22979e4e412f8c6ddcd0862
425 13 1 3ca03b1931d74bb42a7608412eaa58921eca9366a8387cae11f5ef20cc30d98a
450 14 2 9830fee2d183345ed048d34022e3063cb864dea16dfbc5c16acecdddbe76cda5
500 15 3 6ef217f3489f8c729e09cf96c2cefd7e19de5fbd3509b393ec833688e3ef0ffd
586 16 4 90882ceb17e2f6b13e5d30b6de5c50b11e0b8ab2e879b9acac4ba5e64a00997c
644 17 5 7f86166c5686c73d5052e84e432bde0ca38bb0b7c3fa0b36ace3d7e60a802043
718 18 6 bbe57d8b7c666e366897854fc4b2728a11b01011a6dea22d54238e260ce883e4
792 19 7 e497ac70d7d7e918f376ff800fb4407dcfabfac1cc35d33c05f338f480acee34
858 20 0 c99e1b35d3ccfcd4270efa16ee6842b7e1a5d0fb2e68776d525f3bd5bfda0030
`
	seen := map[int]bool{}
	for line := range strings.Lines(strings.TrimSpace(vectors)) {
		var n, version, mask int
		var want string
		if _, err := fmt.Sscan(line, &n, &version, &mask, &want); err != nil {
			t.Fatal(err)
		}
		c, err := Encode(link(n))
		if err != nil {
			t.Fatal(err)
		}
		if c.Size != 4*version+17 {
			t.Errorf("%d bytes: %d modules, not version %d", n, c.Size, version)
			continue
		}
		c.flip(c.masked)
		c.flip(mask)
		c.format(mask)
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(drawn(c)))); got != want {
			t.Errorf("%d bytes, version %d, mask %d: another code\n%s", n, version, mask, drawn(c))
		}
		seen[version] = true
	}
	if len(seen) != len(checkWords)-1 {
		t.Errorf("%d versions have a vector", len(seen))
	}
}

// TestForms is what is shown: the picture and the lines hold the modules and their quiet zone.
func TestForms(t *testing.T) {
	c, err := Encode(link(240))
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(c.PNG(4)))
	if err != nil {
		t.Fatal(err)
	}
	if side := (c.Size + 2*quiet) * 4; img.Bounds() != image.Rect(0, 0, side, side) {
		t.Error(img.Bounds())
	}
	lines := c.Lines()
	for y := -2; y < c.Size+2; y++ {
		row := []rune(lines[(y+2)/2])
		for x := -2; x < c.Size+2; x++ {
			r, _, _, _ := img.At((x+quiet)*4+1, (y+quiet)*4+2).RGBA()
			block := row[x+2]
			light := block == '█' || block == '▀' && y%2 == 0 || block == '▄' && y%2 != 0
			if dark := c.Dark(x, y); dark != (r == 0) || dark == light {
				t.Fatalf("module %d,%d: dark %v, picture %v, line %c", x, y, dark, r, block)
			}
		}
	}
	if _, err := Encode(strings.Repeat("x", 859)); err == nil {
		t.Error("859 bytes fit into version 20")
	}
	if _, err := Encode(""); err != nil {
		t.Error(err)
	}
}
