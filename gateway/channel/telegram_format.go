package channel

import (
	"strings"
)

// formatted is text as the API's HTML: code blocks, code and bold, of which no
// character can be lost; everything else is as it was written.
func formatted(text string) string {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	var b strings.Builder
	end := "" // of the block that we are in
	for line := range strings.Lines(text) {
		body := strings.TrimRight(line, "\n")
		fence := strings.TrimSpace(body)
		switch {
		case end == "" && strings.HasPrefix(fence, "```") && !strings.Contains(fence[3:], "`"):
			info := strings.TrimSpace(fence[3:])
			b.WriteString("<pre>")
			end = "</pre>"
			if language(info) {
				b.WriteString(`<code class="language-` + info + `">`)
				end = "</code></pre>"
			} else if info != "" {
				b.WriteString(escape(info) + "\n")
			}
			continue
		case end != "" && fence == "```":
			b.WriteString(end + line[len(body):])
			end = ""
			continue
		case end != "":
			b.WriteString(escape(line))
			continue
		}
		parts := strings.Split(body, "`")
		if len(parts)%2 == 0 {
			parts = []string{body}
		}
		for i, part := range parts {
			switch {
			case i%2 == 0:
				b.WriteString(bold(escape(part)))
			case part == "":
				b.WriteString("``")
			default:
				b.WriteString("<code>" + escape(part) + "</code>")
			}
		}
		b.WriteString(line[len(body):])
	}
	return b.String() + end
}

// language reports whether what follows the opening fence names one.
func language(s string) bool {
	return 0 < len(s) && len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r|0x20 && r|0x20 <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("+-_.#", r))
	})
}

// bold marks what stands between pairs of two asterisks.
func bold(s string) string {
	parts := strings.Split(s, "**")
	if len(parts)%2 == 0 {
		return s
	}
	var b strings.Builder
	for i, p := range parts {
		switch {
		case i%2 == 0:
			b.WriteString(p)
		case p == "":
			b.WriteString("****")
		default:
			b.WriteString("<b>" + p + "</b>")
		}
	}
	return b.String()
}
