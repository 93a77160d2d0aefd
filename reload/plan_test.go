package reload

import (
	"reflect"
	"strings"
	"testing"

	"openclaw/reload/config"
)

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		mode  string
		asked bool
		in    string // path:class ...
		want  string // apply ...; restart ...; wait ...
	}{
		{"hybrid", false, "", ";;"},
		{"hybrid", false, "a:hot b:none", "a b;;"},
		{"hybrid", false, "a:hot p:restart b:none q:restart", "a b;p q;"},
		{"hybrid", true, "a:hot p:restart b:none", "a b;p;"},
		{"hybrid", false, "z:hot a:hot m:hot", "z a m;;"},
		{"hybrid", false, "a:hot a:hot p:restart p:restart", "a;p;"},
		{"hybrid", false, "a:hot b:hot a:restart", "b;a;"},
		{"hybrid", false, "x:unheard", ";x;"},
		{"", false, "a:hot p:restart", "a;p;"},
		{"unheard", false, "a:hot p:restart", "a;p;"},
		{"off", false, "a:hot p:restart b:none a:none", ";;a p b"},
		{"off", true, "a:hot p:restart b:none", "a b;p;"},
		{"hot", false, "a:hot p:restart b:none", "a b;;p"},
		{"hot", true, "a:hot p:restart b:none", "a b;p;"},
		{"hot", false, "x:unheard", ";;x"},
		{"restart", false, "a:hot", ";a;"},
		{"restart", false, "b:none a:hot p:restart", ";b a p;"},
		{"restart", false, "b:none c:none", "b c;;"},
		{"restart", true, "b:none p:restart", ";b p;"},
		{"restart", false, "b:none x:unheard b:none", ";b x;"},
	} {
		var changes []config.Change
		for _, f := range strings.Fields(tt.in) {
			path, class, _ := strings.Cut(f, ":")
			changes = append(changes, config.Change{Path: path, Class: config.Class(class)})
		}
		got := Decide(tt.mode, tt.asked, changes)
		lists := strings.Split(tt.want, ";")
		want := Plan{fields(lists[0]), fields(lists[1]), fields(lists[2])}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Decide(%q, %v, %q) = %+v, want %+v", tt.mode, tt.asked, tt.in, got, want)
		}
	}
}

// fields is strings.Fields with nil for none.
func fields(s string) []string { return append([]string(nil), strings.Fields(s)...) }
