package unit

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	plistHead = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	plistTop  = `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
`
	plistTail = "</dict>\n</plist>\n"
)

// renderPlist writes the rows of the table as a property list (launchd.plist(5)).
func renderPlist(p place, u Unit) string {
	var b strings.Builder
	b.WriteString(plistHead + plistTop)
	for _, d := range directives {
		v := d.of(p, u)
		if v == nil {
			continue
		}
		if d.why != "" {
			fmt.Fprintf(&b, "\t<!-- %s -->\n", d.why)
		}
		fmt.Fprintf(&b, "\t<key>%s</key>\n", d.name)
		switch v := v.(type) {
		case []string:
			b.WriteString("\t<array>\n")
			for _, s := range v {
				b.WriteString("\t\t" + plistString(s))
			}
			b.WriteString("\t</array>\n")
		case []Var:
			b.WriteString("\t<dict>\n")
			for _, e := range v {
				fmt.Fprintf(&b, "\t\t<key>%s</key>\n\t\t", e.Name)
				if d.name == "EnvironmentVariables" {
					b.WriteString(plistString(e.Value))
				} else {
					b.WriteString(plistScalar(e.Value))
				}
			}
			b.WriteString("\t</dict>\n")
		case string:
			b.WriteString("\t" + plistString(v))
		default:
			b.WriteString("\t" + plistScalar(fmt.Sprint(v)))
		}
	}
	return b.String() + plistTail
}

func plistString(s string) string {
	var b strings.Builder
	b.WriteString("<string>")
	xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String() + "</string>\n"
}

// plistScalar writes true, false or a number.
func plistScalar(s string) string {
	if _, err := strconv.Atoi(s); err == nil {
		return "<integer>" + s + "</integer>\n"
	}
	return "<" + s + "/>\n"
}

// parsePlist reads a property list, in any order and with any other keys.
func parsePlist(_ place, text string) (Unit, error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	var u Unit
	var argv []string
	var key, in string // the key at hand, and the key whose dict or array is open
	label := ""
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Unit{}, fmt.Errorf("property list: %w", err)
		}
		switch tok := tok.(type) {
		case xml.EndElement:
			in = "" // only dict and array get here open, and they do not nest further
		case xml.StartElement:
			switch tok.Name.Local {
			case "dict", "array":
				in = key
				continue
			case "key", "string", "integer":
			default:
				continue
			}
			var s string
			if err := dec.DecodeElement(&s, &tok); err != nil {
				return Unit{}, fmt.Errorf("property list: %w", err)
			}
			switch at := in + "/" + key; {
			case tok.Name.Local == "key":
				key = s
			case in == "ProgramArguments":
				argv = append(argv, s)
			case in == "EnvironmentVariables":
				u.fromVar(key + "=" + s)
			case at == "/Label":
				label = s
			case at == "/ExitTimeOut":
				if u.Grace, err = fromStop(s); err != nil {
					return Unit{}, fmt.Errorf("ExitTimeOut: %w", err)
				}
			case at == "/StandardErrorPath":
				u.LogDir = filepath.Dir(s)
			}
		}
	}
	if err := u.fromArgv(argv); err != nil {
		return Unit{}, err
	}
	if label != u.Label() {
		return Unit{}, errors.New("Label: not that of the profile")
	}
	return u, nil
}
