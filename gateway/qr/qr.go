// Package qr draws QR codes (ISO/IEC 18004): bytes, error correction level L,
// versions 1 to 20, which is more than a link to scan ever needs.
package qr

import (
	"fmt"
	"strings"
)

// The two tables of the standard for level L, by version.
var (
	checkWords = [...]int{1: 7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28} // of each block
	blockCount = [...]int{1: 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8}
)

// Code is a QR code: square, Size modules wide, without its quiet zone.
type Code struct {
	Size  int
	dark  [][]bool
	fixed [][]bool // modules that are no data

	masked int // by which of the masks
}

// Dark reports whether a module is dark; outside of the code none is.
func (c *Code) Dark(x, y int) bool {
	return x >= 0 && y >= 0 && x < c.Size && y < c.Size && c.dark[y][x]
}

// Encode makes the smallest code that holds text.
func Encode(text string) (*Code, error) {
	for version := 1; version < len(checkWords); version++ {
		room := wordsOf(version) - checkWords[version]*blockCount[version]
		head := 12 // mode and length, in bits
		if version > 9 {
			head = 20
		}
		if head+8*len(text) > 8*room {
			continue
		}
		c := newCode(version)
		c.place(interleave(version, dataWords(text, head-4, room)))
		c.mask()
		return c, nil
	}
	return nil, fmt.Errorf("%d bytes are more than a QR code here holds", len(text))
}

// wordsOf is the number of code words of a version, data and check.
func wordsOf(version int) int {
	bits := (16*version+128)*version + 64
	if version > 1 {
		n := version/7 + 2
		bits -= (25*n-10)*n - 55
		if version > 6 {
			bits -= 36
		}
	}
	return bits / 8
}

// dataWords is the byte segment, its end and the padding.
func dataWords(text string, lengthBits, room int) []byte {
	var bits []byte
	add := func(v, n int) {
		for n--; n >= 0; n-- {
			bits = append(bits, byte(v>>n&1))
		}
	}
	add(4, 4)
	add(len(text), lengthBits)
	for i := range len(text) {
		add(int(text[i]), 8)
	}
	add(0, min(4, 8*room-len(bits)))
	add(0, -len(bits)&7)
	words := make([]byte, 0, room)
	for i := 0; i < len(bits); i += 8 {
		var w byte
		for _, b := range bits[i : i+8] {
			w = w<<1 | b
		}
		words = append(words, w)
	}
	for pad := byte(0xec); len(words) < room; pad ^= 0xec ^ 0x11 {
		words = append(words, pad)
	}
	return words
}

// interleave splits data into blocks, of which the last may have a word more,
// and takes a word of each in turn, then a check word of each.
func interleave(version int, data []byte) []byte {
	n, check := blockCount[version], checkWords[version]
	short, long := len(data)/n, len(data)%n
	var blocks, checks [][]byte
	for i := range n {
		size := short
		if i >= n-long {
			size++
		}
		blocks = append(blocks, data[:size])
		checks = append(checks, remainder(data[:size], check))
		data = data[size:]
	}
	var out []byte
	for i := range short + 1 {
		for _, b := range blocks {
			if i < len(b) {
				out = append(out, b[i])
			}
		}
	}
	for i := range check {
		for _, c := range checks {
			out = append(out, c[i])
		}
	}
	return out
}

// times multiplies in GF(256) modulo x⁸+x⁴+x³+x²+1.
func times(a, b byte) (p byte) {
	for ; b > 0; b >>= 1 {
		if b&1 != 0 {
			p ^= a
		}
		a = a<<1 ^ a>>7*0x1d
	}
	return p
}

// remainder is the Reed-Solomon check words of data.
func remainder(data []byte, n int) []byte {
	divisor := make([]byte, n) // ∏ (x - 2ⁱ), without its leading 1
	divisor[n-1] = 1
	for root, i := byte(1), 0; i < n; root, i = times(root, 2), i+1 {
		for j := range divisor {
			divisor[j] = times(divisor[j], root)
			if j+1 < n {
				divisor[j] ^= divisor[j+1]
			}
		}
	}
	rest := make([]byte, n)
	for _, b := range data {
		factor := b ^ rest[0]
		rest = append(rest[1:], 0)
		for j := range rest {
			rest[j] ^= times(divisor[j], factor)
		}
	}
	return rest
}

// newCode draws what every code of a version has.
func newCode(version int) *Code {
	c := &Code{Size: 4*version + 17}
	for range c.Size {
		c.dark, c.fixed = append(c.dark, make([]bool, c.Size)), append(c.fixed, make([]bool, c.Size))
	}
	last := c.Size - 1
	for i := range c.Size { // timing
		c.set(6, i, i%2 == 0)
		c.set(i, 6, i%2 == 0)
	}
	for _, at := range [][2]int{{3, 3}, {last - 3, 3}, {3, last - 3}} { // finders
		for dy := -4; dy <= 4; dy++ {
			for dx := -4; dx <= 4; dx++ {
				if d := max(dx, -dx, dy, -dy); at[0]+dx >= 0 && at[0]+dx <= last && at[1]+dy >= 0 && at[1]+dy <= last {
					c.set(at[0]+dx, at[1]+dy, d != 2 && d != 4)
				}
			}
		}
	}
	places := alignment(version)
	for i, x := range places {
		for j, y := range places {
			if i == 0 && j == 0 || i == 0 && j == len(places)-1 || i == len(places)-1 && j == 0 {
				continue // a finder is there
			}
			for dy := -2; dy <= 2; dy++ {
				for dx := -2; dx <= 2; dx++ {
					c.set(x+dx, y+dy, max(dx, -dx, dy, -dy) != 1)
				}
			}
		}
	}
	c.format(0)
	if version > 6 {
		word := version<<12 | bch(version, 12, 0x1f25)
		for i := range 18 {
			c.set(last-10+i%3, i/3, word>>i&1 != 0)
			c.set(i/3, last-10+i%3, word>>i&1 != 0)
		}
	}
	return c
}

// alignment is where alignment patterns have their centres, in both directions.
func alignment(version int) []int {
	if version == 1 {
		return nil
	}
	n := version/7 + 2
	step := (version*8 + n*3 + 5) / (n*4 - 4) * 2
	places := make([]int, n)
	for i := range places {
		places[n-1-i] = 4*version + 10 - i*step
	}
	places[0] = 6
	return places
}

func (c *Code) set(x, y int, dark bool) { c.dark[y][x], c.fixed[y][x] = dark, true }

// bch is the remainder of v·xⁿ by a generator polynomial.
func bch(v, n, generator int) int {
	rest := v
	for range n {
		rest = rest<<1 ^ rest>>(n-1)*generator
	}
	return rest
}

// format writes level and mask, twice.
func (c *Code) format(mask int) {
	word := 1<<3 | mask // level L is 01
	word = (word<<10 | bch(word, 10, 0x537)) ^ 0x5412
	last := c.Size - 1
	for i := range 15 {
		dark := word>>i&1 != 0
		switch { // around the finder at the top left
		case i < 6:
			c.set(8, i, dark)
		case i < 8:
			c.set(8, i+1, dark)
		case i == 8:
			c.set(7, 8, dark)
		default:
			c.set(14-i, 8, dark)
		}
		if i < 8 { // beside the two others
			c.set(last-i, 8, dark)
		} else {
			c.set(8, last-14+i, dark)
		}
	}
	c.set(8, last-7, true)
}

// place writes words into the free modules: upwards and downwards in pairs of
// columns from the right.
func (c *Code) place(words []byte) {
	i := 0
	for right := c.Size - 1; right > 0; right -= 2 {
		if right == 6 {
			right-- // the timing column
		}
		for step := range c.Size {
			y := step
			if (right+1)&2 == 0 {
				y = c.Size - 1 - step
			}
			for x := right; x > right-2; x-- {
				if !c.fixed[y][x] && i < 8*len(words) {
					c.dark[y][x] = words[i/8]>>(7-i%8)&1 != 0
					i++
				}
			}
		}
	}
}

var masks = [8]func(x, y int) bool{
	func(x, y int) bool { return (x+y)%2 == 0 },
	func(x, y int) bool { return y%2 == 0 },
	func(x, y int) bool { return x%3 == 0 },
	func(x, y int) bool { return (x+y)%3 == 0 },
	func(x, y int) bool { return (x/3+y/2)%2 == 0 },
	func(x, y int) bool { return x*y%2+x*y%3 == 0 },
	func(x, y int) bool { return (x*y%2+x*y%3)%2 == 0 },
	func(x, y int) bool { return ((x+y)%2+x*y%3)%2 == 0 },
}

// flip applies a mask, or takes it off again.
func (c *Code) flip(mask int) {
	for y := range c.Size {
		for x := range c.Size {
			if !c.fixed[y][x] && masks[mask](x, y) {
				c.dark[y][x] = !c.dark[y][x]
			}
		}
	}
}

// mask applies the mask that leaves the fewest patterns that confuse readers.
func (c *Code) mask() {
	best, least := 0, -1
	for m := range masks {
		c.flip(m)
		c.format(m)
		if p := c.penalty(); least < 0 || p < least {
			best, least = m, p
		}
		c.flip(m)
	}
	c.masked = best
	c.flip(best)
	c.format(best)
}

func (c *Code) penalty() (p int) {
	const finder, pale = "1011101", "0000"
	for i := range c.Size {
		for _, at := range []func(j int) bool{func(j int) bool { return c.dark[i][j] }, func(j int) bool { return c.dark[j][i] }} {
			var line strings.Builder
			for j, run := 0, 0; j < c.Size; j++ {
				if j > 0 && at(j) == at(j-1) {
					run++
				} else {
					run = 1
				}
				if run == 5 {
					p += 3
				} else if run > 5 {
					p++
				}
				line.WriteByte('0' + map[bool]byte{true: 1}[at(j)])
			}
			s := line.String()
			for j := range s {
				if strings.HasPrefix(s[j:], finder+pale) || strings.HasPrefix(s[j:], pale+finder) {
					p += 40
				}
			}
		}
	}
	dark := 0
	for y := range c.Size {
		for x := range c.Size {
			d := c.dark[y][x]
			if d {
				dark++
			}
			if x > 0 && y > 0 && d == c.dark[y-1][x] && d == c.dark[y][x-1] && d == c.dark[y-1][x-1] {
				p += 3
			}
		}
	}
	off := dark*20 - c.Size*c.Size*10
	return p + max(off, -off)/(c.Size*c.Size)*10
}

const quiet = 4 // modules around a code

// Lines draw the code, with half of its quiet zone, for a terminal: two modules
// in a character, light ones as full blocks. On a dark ground that looks as
// printed; elsewhere the caller sets white on black.
func (c *Code) Lines() (lines []string) {
	const margin = quiet / 2
	for y := -margin; y < c.Size+margin; y += 2 {
		var b strings.Builder
		for x := -margin; x < c.Size+margin; x++ {
			switch up, down := c.Dark(x, y), c.Dark(x, y+1) || y+1 >= c.Size+margin; {
			case up && down:
				b.WriteByte(' ')
			case up:
				b.WriteString("▄")
			case down:
				b.WriteString("▀")
			default:
				b.WriteString("█")
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}
