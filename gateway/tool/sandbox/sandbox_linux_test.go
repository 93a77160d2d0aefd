package sandbox

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"testing"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func TestProbe(t *testing.T) {
	for _, l := range Probe() {
		if !l.On {
			t.Errorf("%s: %s", l.Name, l.Detail)
		}
		t.Logf("%+v", l)
	}
}

func BenchmarkExec(b *testing.B) {
	ctx := b.Context()
	dir := b.TempDir()
	for name, command := range map[string]func() *exec.Cmd{
		"plain": func() *exec.Cmd { return exec.CommandContext(ctx, "/bin/true") },
		"sandbox": func() *exec.Cmd {
			c, err := Command(ctx, Spec{Argv: []string{"/bin/true"}, Dir: dir, Write: []string{dir}})
			if err != nil {
				b.Fatal(err)
			}
			return c
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var out bytes.Buffer
				c := command()
				c.Stderr = &out
				if err := c.Run(); err != nil {
					b.Fatal(err, out.String())
				}
			}
		})
	}
}

var _ context.Context
