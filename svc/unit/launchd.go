package unit

import (
	"encoding/xml"
	"errors"
	"fmt"
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
			write := plistScalar
			if d.name == "EnvironmentVariables" {
				write = plistString
			}
			for _, e := range v {
				fmt.Fprintf(&b, "\t\t<key>%s</key>\n\t\t%s", e.Name, write(e.Value))
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

// An element is one of a property list, with what is in it.
type element struct {
	XMLName xml.Name
	Text    string    `xml:",chardata"`
	In      []element `xml:",any"`
}

// pairs calls f with each key of a dict and its value.
func (e element) pairs(f func(key string, value element)) {
	for i := 0; i+1 < len(e.In); i += 2 {
		f(e.In[i].Text, e.In[i+1])
	}
}

// parsePlist reads a property list, in any order and with any other keys.
func parsePlist(_ place, text string) (Unit, error) {
	var doc element
	err := xml.Unmarshal([]byte(text), &doc)
	if err == nil && len(doc.In) != 1 {
		err = errors.New("not one value")
	}
	if err != nil {
		return Unit{}, fmt.Errorf("property list: %w", err)
	}
	var u Unit
	var argv []string
	var label, stop string
	doc.In[0].pairs(func(key string, value element) {
		switch key {
		case "Label":
			label = value.Text
		case "ExitTimeOut":
			stop = value.Text
		case "StandardErrorPath":
			u.LogDir = filepath.Dir(value.Text)
		case "ProgramArguments":
			for _, a := range value.In {
				argv = append(argv, a.Text)
			}
		case "EnvironmentVariables":
			value.pairs(func(name string, v element) { u.fromVar(name + "=" + v.Text) })
		}
	})
	if u.Grace, err = fromStop(stop); err != nil {
		return Unit{}, fmt.Errorf("ExitTimeOut: %w", err)
	}
	if err := u.fromArgv(argv); err != nil {
		return Unit{}, err
	}
	if label != u.Label() {
		return Unit{}, errors.New("Label: not that of the profile")
	}
	return u, nil
}
