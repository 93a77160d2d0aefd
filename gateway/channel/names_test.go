package channel

import "testing"

// TestOwnFiles: no two accounts share a file, whatever their ids.
func TestOwnFiles(t *testing.T) {
	r := newRig(t)
	at := map[string]string{}
	for _, ids := range [][3]string{{"a", "b-c", "process"}, {"a-b", "c", "process"}, {"telegram", "x-4242", "process"}, {"telegram", "x", "telegram"}} {
		c := bot("http://127.0.0.1:1")
		c.Channel, c.Account, c.Kind, c.Command = ids[0], ids[1], ids[2], []string{"/nonexistent"}
		run := r.set.open(c)
		if run.err != nil {
			t.Fatal(run.err)
		}
		defer run.journal.file.Close()
		names := []string{journalName(&c)}
		if p, ok := run.channel.(*process); ok {
			names = append(names, p.home())
		}
		for _, name := range names {
			if other, taken := at[name]; taken {
				t.Errorf("%s is that of %s and of %s", name, other, run.name())
			}
			at[name] = run.name()
		}
	}
}
