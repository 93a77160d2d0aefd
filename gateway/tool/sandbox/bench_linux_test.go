package sandbox

import (
	"context"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// BenchmarkExec runs /bin/true behind the walls, beside plain os/exec and
// beside a keeper that gives up at once, which is the price of starting it.
// They take turns, so that whatever else the machine does hits all alike.
func BenchmarkExec(b *testing.B) {
	dir := b.TempDir()
	ways := map[string]func() *exec.Cmd{
		"plain":  func() *exec.Cmd { return exec.CommandContext(b.Context(), "/bin/true") },
		"reexec": func() *exec.Cmd { c := exec.Command("/proc/self/exe"); c.Args = []string{keeperName}; return c },
		"sandbox": func() *exec.Cmd {
			return command1(b, b.Context(), Spec{Argv: []string{"/bin/true"}, Dir: dir, Write: []string{dir}, Limits: Limits{Processes: 512}})
		},
		"light": func() *exec.Cmd {
			return command1(b, b.Context(), Spec{Argv: []string{"/bin/true"}, Dir: dir, Light: true, Hidden: []string{dir}, Limits: Limits{Processes: 512}})
		},
	}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for name, way := range ways {
			cmd := way()
			begin := time.Now()
			if err := cmd.Run(); err != nil && name != "reexec" {
				b.Fatal(err)
			}
			times[name] = append(times[name], time.Since(begin))
		}
	}
	for name, ts := range times {
		slices.Sort(ts)
		b.ReportMetric(float64(ts[len(ts)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(ts[len(ts)*95/100].Microseconds()), name+"-p95-µs")
	}
	b.ReportMetric(0, "ns/op")
}

func command1(t testing.TB, ctx context.Context, s Spec) *exec.Cmd {
	t.Helper()
	c, err := Command(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
