package fetch

import (
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxDepth = 128  // of elements
	maxLink  = 1024 // bytes of an address that is shown
)

// readable makes text of HTML: its title, and what a person would see of the
// rest with headings, lists, tables, links and preformatted text marked as in
// Markdown. It stops after most bytes and says whether it did. Time and space
// are linear in the source, whatever stands in it.
func readable(src string, base *url.URL, most int, xml bool) (title, text string, cut bool) {
	r := &reader{base: base, xml: xml, stack: make([]element, 1, maxDepth), open: map[string]int{}}
	for src != "" {
		if r.out.Len() > most {
			cut = true
			break
		}
		n := strings.IndexByte(src, '<')
		if n != 0 {
			if n < 0 {
				n = len(src)
			}
			r.text(src[:n])
			src = src[n:]
			continue
		}
		switch {
		case strings.HasPrefix(src, "<!--"):
			src = after(src[4:], "-->")
		case strings.HasPrefix(src, "<!") || strings.HasPrefix(src, "<?"):
			src = after(src, ">")
		case len(src) > 1 && letter(src[1]):
			var t tag
			t, src = scan(src, 1)
			if !rawNames[t.name] || t.empty && xml {
				r.start(t)
				break
			}
			var inside string
			inside, src = untilEnd(src, t.name)
			if t.name == "title" && r.title == "" {
				r.title = strings.Join(strings.Fields(html.UnescapeString(inside)), " ")
			}
		case len(src) > 2 && src[1] == '/' && letter(src[2]):
			var t tag
			t, src = scan(src, 2)
			r.end(t.name)
		case strings.HasPrefix(src, "</"):
			src = after(src, ">")
		default:
			r.text("<")
			src = src[1:]
		}
	}
	r.pop(1)
	return r.title, r.out.String(), cut
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// after is what follows end in s, "" where there is none.
func after(s, end string) string {
	_, s, _ = strings.Cut(s, end)
	return s
}

// untilEnd splits s at the end tag of an element whose content is no markup.
func untilEnd(s, name string) (inside, rest string) {
	for i := 0; ; i++ {
		n := strings.Index(s[i:], "</")
		if n < 0 {
			return s, ""
		}
		i += n
		if tail := s[i+2:]; len(tail) >= len(name) && strings.EqualFold(tail[:len(name)], name) && (len(tail) == len(name) || !letter(tail[len(name)])) {
			return s[:i], after(tail, ">")
		}
	}
}

type tag struct {
	name  string // in lower case
	attrs map[string]string
	empty bool // it ends in />
}

const spaces = " \t\n\f\r"

// scan reads a tag whose name begins at src[at], and returns what follows it.
func scan(src string, at int) (t tag, rest string) {
	s := src[at:]
	word := func(until string) string {
		n := strings.IndexAny(s, until)
		if n < 0 {
			n = len(s)
		}
		w := s[:n]
		s = s[n:]
		return w
	}
	t.name = strings.ToLower(word(spaces + "/>"))
	for {
		before := s
		if s = strings.TrimLeft(s, spaces+"/"); s == "" {
			return t, ""
		}
		if s[0] == '>' {
			t.empty = strings.HasSuffix(before[:len(before)-len(s)], "/")
			return t, s[1:]
		}
		first := s[:1] // an = here belongs to the name
		s = s[1:]
		key, value := strings.ToLower(first+word(spaces+"/>=")), ""
		if tail, ok := strings.CutPrefix(strings.TrimLeft(s, spaces), "="); ok {
			if s = strings.TrimLeft(tail, spaces); s != "" && (s[0] == '"' || s[0] == '\'') {
				quote := s[:1]
				s = s[1:]
				value = word(quote)
				s = strings.TrimPrefix(s, quote)
			} else {
				value = word(spaces + ">")
			}
		}
		if _, twice := t.attrs[key]; !twice && attrNames[key] {
			if t.attrs == nil {
				t.attrs = map[string]string{}
			}
			t.attrs[key] = html.UnescapeString(value)
		}
	}
}

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

var (
	attrNames  = set("href alt hidden aria-hidden style")
	rawNames   = set("script style title textarea xmp iframe noembed noframes")
	voidNames  = set("area base br col embed hr img input link meta source track wbr")
	blindNames = set("template svg math select datalist object audio video canvas") // not shown as text
	// single and double are elements with a line of their own, or a paragraph.
	single = set("address article aside center dd details div dt fieldset figcaption figure footer form header li main nav section summary tr td th")
	double = set("blockquote dl h1 h2 h3 h4 h5 h6 hr ol p pre table ul")
	// ends are the elements that a start tag ends where they were left open,
	// beside p, which every block ends; beyond within it ends none.
	ends   = map[string][]string{"li": {"li"}, "dt": {"dt", "dd"}, "dd": {"dt", "dd"}, "tr": {"tr", "td", "th"}, "td": {"td", "th"}, "th": {"td", "th"}}
	within = set("ul ol dl table")
)

type element struct {
	name  string
	hides bool
	wall  bool // see within
	n     int  // items of a list, cells of a row
}

type reader struct {
	base        *url.URL
	xml         bool
	title, href string
	out         strings.Builder
	stack       []element      // the first is nothing
	open        map[string]int // how many of stack have a name
	deeper      int            // elements open beyond maxDepth
	hidden      int            // how many of stack hide what is in them
	lines       int            // line ends before the next text
	space       bool           // a space before it
	prefix      string         // what its line begins with
	linked      bool           // the text of the link to href began
}

// begin writes what comes before a text.
func (r *reader) begin() {
	if r.out.Len() > 0 && r.lines > 0 {
		r.out.WriteString("\n\n"[:r.lines])
	} else if r.out.Len() > 0 && r.space && r.prefix == "" {
		r.out.WriteByte(' ')
	}
	r.out.WriteString(r.prefix)
	if r.href != "" && !r.linked {
		r.linked = true
		r.out.WriteByte('[')
	}
	r.lines, r.space, r.prefix = 0, false, ""
}

func (r *reader) text(s string) {
	if r.hidden > 0 || s == "" {
		return
	}
	s = html.UnescapeString(s)
	if r.open["pre"] > 0 {
		r.begin()
		r.out.WriteString(s)
		return
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	r.space = r.space || unicode.IsSpace(first)
	for w := range strings.FieldsSeq(s) {
		r.begin()
		r.out.WriteString(w)
		r.space = true
	}
	r.space = r.space && unicode.IsSpace(last)
}

func (r *reader) start(t tag) {
	if single[t.name] || double[t.name] {
		left := r.open["p"]
		for _, n := range ends[t.name] {
			left += r.open[n]
		}
		for i := len(r.stack) - 1; i > 0 && left > 0 && !r.stack[i].wall; i-- {
			if n := r.stack[i].name; n == "p" || slices.Contains(ends[t.name], n) {
				r.pop(i)
			}
		}
	}
	style := strings.ToLower(strings.Join(strings.Fields(t.attrs["style"]), ""))
	_, hides := t.attrs["hidden"]
	hides = hides || blindNames[t.name] || t.attrs["aria-hidden"] == "true" || strings.Contains(style, "display:none") || strings.Contains(style, "visibility:hidden")
	if r.hidden == 0 && !hides {
		r.mark(t)
	}
	switch {
	case voidNames[t.name] || t.empty && r.xml:
		return
	case len(r.stack) == maxDepth:
		r.deeper++
		return
	case hides:
		r.hidden++
	}
	r.stack = append(r.stack, element{name: t.name, hides: hides, wall: within[t.name]})
	r.open[t.name]++
}

// mark writes, or lets the next text write, what a start tag stands for.
func (r *reader) mark(t tag) {
	r.block(t.name)
	top := &r.stack[len(r.stack)-1]
	switch t.name {
	case "br":
		r.lines = max(r.lines, 1)
	case "hr":
		r.begin()
		r.out.WriteString("---")
		r.block(t.name)
	case "img":
		r.text(html.EscapeString(t.attrs["alt"]))
	case "base":
		if u := r.link(t.attrs["href"]); u != nil {
			r.base = u
		}
	case "a":
		r.unlink()
		if u := r.link(t.attrs["href"]); u != nil && !strings.HasPrefix(t.attrs["href"], "#") {
			r.href = strings.NewReplacer("(", "%28", ")", "%29", "<", "%3C", ">", "%3E", " ", "%20").Replace(u.String())
		}
	case "h1", "h2", "h3", "h4", "h5", "h6":
		if !strings.HasSuffix(r.prefix, "# ") {
			r.prefix += "######"[:t.name[1]-'0'] + " "
		}
	case "li":
		r.prefix = strings.Repeat("  ", min(max(r.open["ul"]+r.open["ol"]-1, 0), 8)) + "- "
		if top.name == "ol" {
			top.n++
			r.prefix = fmt.Sprintf("%s%d. ", strings.TrimSuffix(r.prefix, "- "), top.n)
		}
	case "td", "th":
		if top.n++; top.n > 1 {
			r.lines, r.prefix = 0, " | "
		}
	case "pre":
		r.begin()
		r.out.WriteString("```")
		r.lines = 1
	}
}

// block ends the line, or the paragraph, before and after a block.
func (r *reader) block(name string) {
	if double[name] && r.open["li"]+r.open["table"] == 0 {
		r.lines = 2
	} else if single[name] || double[name] {
		r.lines = max(r.lines, 1)
	}
}

func (r *reader) end(name string) {
	if r.deeper > 0 {
		r.deeper--
		return
	}
	for i := len(r.stack) - 1; i > 0 && r.open[name] > 0; i-- {
		if r.stack[i].name == name {
			r.pop(i)
			return
		}
	}
}

// pop closes the elements from the i-th on.
func (r *reader) pop(i int) {
	for len(r.stack) > i {
		e := r.stack[len(r.stack)-1]
		r.stack = r.stack[:len(r.stack)-1]
		r.open[e.name]--
		switch {
		case e.hides:
			r.hidden--
			continue
		case r.hidden > 0:
			continue
		case e.name == "a":
			r.unlink()
		case e.name == "pre":
			r.out.WriteString("\n```")
		}
		if r.block(e.name); single[e.name] || double[e.name] {
			r.prefix = ""
		}
	}
}

// unlink ends the link, if its text began.
func (r *reader) unlink() {
	if r.linked {
		r.out.WriteString("](" + r.href + ")")
	}
	r.href, r.linked = "", false
}

// link resolves the address of another page of the web.
func (r *reader) link(href string) *url.URL {
	u, err := r.base.Parse(strings.TrimSpace(href))
	if err != nil || href == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || len(u.String()) > maxLink {
		return nil
	}
	return u
}
