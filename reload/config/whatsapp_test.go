package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestWhatsApp: numbers become JIDs however they are written, names are nobody,
// and the channel of that name is of that kind, no other.
func TestWhatsApp(t *testing.T) {
	parse := func(channels string) (*Loaded, error) {
		return Parse("t", []byte(`{gateway: {auth: {token: "7d1f0b6c2a9e48f35b60c7d8e1f2a3b4c5d6e7f8"}}, agents: {list: [{id: "main"}, {id: "ada"}]}, bindings: [{agentId: "ada", match: {channel: "whatsapp", peer: {kind: "direct", id: "+49 151 1234567"}}}], channels: `+channels+`}`), Source{})
	}
	l, err := parse(`{whatsapp: {allowFrom: ["+49 (151) 123-4567", "491511234568", "491511234569@s.whatsapp.net", "900100200@lid", "Ada", "*", "4915112345@evil.example"],
		groupAllowFrom: [], selfChatMode: true, debounceMs: 5, sendReadReceipts: true,
		accounts: {default: {}, work: {allowFrom: ["+1 555 0001111"], sendReadReceipts: false, authDir: "/x"}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	list := l.Config.ChannelAccounts()
	if len(list) != 2 || list[0].Kind != "whatsapp" || list[0].Account != "default" || list[1].Account != "work" {
		t.Fatalf("%+v", list)
	}
	want := []string{"491511234567@s.whatsapp.net", "491511234568@s.whatsapp.net", "491511234569@s.whatsapp.net", "900100200@lid", "Ada", "*", "4915112345@evil.example"}
	if a := list[0]; !reflect.DeepEqual(a.AllowFrom, want) || a.GroupAllowFrom == nil || len(a.GroupAllowFrom) != 0 || !a.ReadReceipts {
		t.Errorf("%+v", a)
	}
	if a := list[1]; !reflect.DeepEqual(a.AllowFrom, []string{"15550001111@s.whatsapp.net"}) || a.ReadReceipts {
		t.Errorf("%+v", a)
	}
	if l.Config.AgentFor("whatsapp", "default", false, "491511234567@s.whatsapp.net") != "ada" || l.Config.AgentFor("whatsapp", "default", false, "491511234568@s.whatsapp.net") != "main" {
		t.Error("a binding of a number")
	}
	var warned strings.Builder
	for _, w := range l.Warnings {
		warned.WriteString(w.Error() + "\n")
	}
	for _, says := range []string{`"Ada" is nobody`, `"4915112345@evil.example" is nobody`, "selfChatMode", "debounceMs", "authDir"} {
		if !strings.Contains(warned.String(), says) {
			t.Errorf("no warning of %s:\n%s", says, &warned)
		}
	}
	if strings.Contains(warned.String(), "491511234568") || strings.Contains(warned.String(), `"*"`) { // who is everybody
		t.Error(&warned)
	}
	for _, bad := range []string{`{whatsapp: {kind: "process", command: ["/bin/true"]}}`, `{mine: {kind: "whatsapp"}}`, `{telegram: {kind: "whatsapp"}}`} {
		if _, err := parse(bad); err == nil || !strings.Contains(err.Error(), "of the kinds of these names") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
