// Command bench measures the gateway beside bare servers on the same library,
// in one run on one machine, and prints the figures and their ratios as a
// Markdown table. Servers run in processes of their own, on loopback, a fresh
// one per row and round, rounds interleaved; figures are medians.
//
// bare is testdata/bench/bare. A ratio is gateway over bare of the same run.
// Processor time per operation is steadier than rates on a shared machine.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// row is one line of the table: what it measures, its goal, and how.
type row struct {
	name string
	goal string
	bare bool // whether the bare server is measured too
	run  func(t *target, u *upstream, round int) (map[string]float64, error)
}

func rateAndCPU(s sample, err error) (map[string]float64, error) {
	return map[string]float64{"per s": s.value, "µs CPU": s.cpu}, err
}

func table(n int) []row {
	return []row{
		{"stop on SIGTERM, idle", "≤ 20 ms", true, nil},
		{"CLI: health --json", "≤ 30 ms", false, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return cli(t, 0, "health --json")
		}},
		{"CLI: gateway status --json", "≤ 30 ms", false, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return cli(t, 0, "gateway status --json")
		}},
		{"CLI: gateway status --json, gateway down", "≤ 100 ms", false, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return cli(t, 3, "gateway status --json", down(t)...)
		}},
		{"CLI: doctor", "≤ 300 ms", false, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return cli(t, 0, "doctor")
		}},
		{"configuration of 100 providers changed, applied after the debounce", "≤ 50 ms", false, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			s, err := reload(t)
			return map[string]float64{"ms": s.value}, err
		}},
		{"cheapest RPC, 16 connections", "≥ 0.85 × rate, ≤ 1.2 × CPU", true, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return rateAndCPU(rpc(t, "last-heartbeat", 16, 1))
		}},
		{"cheapest RPC, 64 connections", "≥ 0.85 × rate, ≤ 1.2 × CPU", true, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return rateAndCPU(rpc(t, "last-heartbeat", 64, 1))
		}},
		{"the same, 16 connections, pipelined 8 deep", "≤ 0.8 × CPU", true, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return rateAndCPU(rpc(t, "last-heartbeat", 16, 8))
		}},
		{"health, 16 connections", "≤ 1.4 × CPU", true, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return rateAndCPU(rpc(t, "health", 16, 1))
		}},
		{"connect to hello-ok, 16 at once", "≤ 1.6 × CPU", true, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			return rateAndCPU(handshake(t))
		}},
		{"events per connect, 1,000 connects", "does not grow with N", false, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			s, err := storm(t, 1000)
			return map[string]float64{"events": s.value}, err
		}},
		{fmt.Sprintf("idle connection, %d open, all answer", n), "≤ 10 KB", true, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			s, err := idle(t, n)
			return map[string]float64{"KB": s.value}, err
		}},
		{"broadcast to 1,000", "≤ 1.0 × CPU", true, func(t *target, _ *upstream, _ int) (map[string]float64, error) {
			s, err := broadcast(t, 1000)
			return map[string]float64{"ms p50": s.value, "µs CPU": s.cpu}, err
		}},
		{"chat, streamed, durable", "in ≤ 3 ms; token ≤ 1.3 ×", true, func(t *target, u *upstream, _ int) (map[string]float64, error) {
			in, first, last, err := chatStream(t, u, 12)
			return map[string]float64{"ms in": in, "ms first token": first, "ms last token": last}, err
		}},
		{"chat, streamed, 10,000 sessions stored", "in ≤ 3 ms", false, func(t *target, u *upstream, _ int) (map[string]float64, error) {
			if err := manySessions(t, 10000); err != nil {
				return nil, err
			}
			in, first, last, err := chatStream(t, u, 12)
			return map[string]float64{"ms in": in, "ms first token": first, "ms last token": last}, err
		}},
		{"chat, 8 at once, instant upstream, durable", "≥ 0.25 × rate", true, func(t *target, _ *upstream, round int) (map[string]float64, error) {
			return rateAndCPU(chatRate(t, round))
		}},
	}
}

func main() {
	rounds := flag.Int("rounds", 3, "rounds per row")
	only := flag.String("only", "", "rows whose name contains this")
	conns := flag.Int("n", 10000, "connections of the idle row")
	flag.Parse()
	if err := run(*rounds, *only, *conns); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, only string, conns int) error {
	for _, b := range [][]string{{"bin/bare", "./testdata/bench/bare"}} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b[0], b[1])
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", b[0], err, out)
		}
	}
	u, err := startUpstream()
	if err != nil {
		return err
	}
	fmt.Println("| what | gateway | bare | ratio | goal |\n|---|---|---|---|---|")
	if only == "" || strings.Contains("start memory binary", only) {
		if err := startRows(u, max(rounds, 5)); err != nil {
			return err
		}
	}
	for _, r := range table(conns) {
		if only != "" && !strings.Contains(r.name, only) {
			continue
		}
		got := map[string]map[string][]float64{}
		for round := range rounds {
			for _, name := range []string{"openclaw", "bare"} {
				if name == "bare" && !r.bare {
					continue
				}
				m, err := once(name, u, r, round)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", r.name, name, err)
				}
				for k, v := range m {
					if got[k] == nil {
						got[k] = map[string][]float64{}
					}
					got[k][name] = append(got[k][name], v)
				}
			}
		}
		for _, k := range []string{"ms", "per s", "µs CPU", "events", "KB", "ms p50", "ms in", "ms first token", "ms last token"} {
			if got[k] != nil {
				line(r.name+", "+k, median(got[k]["openclaw"]), median(got[k]["bare"]), r.goal)
			}
		}
	}
	return nil
}

func line(name string, ours, bare float64, goal string) {
	if bare == 0 {
		fmt.Printf("| %s | %s | – | – | %s |\n", name, figure(ours), goal)
		return
	}
	fmt.Printf("| %s | %s | %s | %.2f | %s |\n", name, figure(ours), figure(bare), ours/bare, goal)
}

// figure shows three digits, and no exponent.
func figure(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// once runs one row against a fresh server.
func once(name string, u *upstream, r row, round int) (map[string]float64, error) {
	dir, err := os.MkdirTemp("", "openclaw-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	t, err := start(name, u.addr, dir)
	if err != nil {
		return nil, err
	}
	if err := t.ready(); err != nil {
		t.cmd.Process.Kill()
		return nil, err
	}
	if r.run == nil {
		return map[string]float64{"ms": float64(t.stop().Microseconds()) / 1000}, nil
	}
	defer t.stop()
	m, err := r.run(t, u, round)
	if err != nil {
		err = fmt.Errorf("%w %s", err, t.errs.String())
	}
	return m, err
}

// startRows measures a cold start to the first hello, the memory two seconds later, and the binaries.
func startRows(u *upstream, rounds int) error {
	ms, mb := map[string][]float64{}, map[string][]float64{}
	for range rounds {
		for _, name := range []string{"openclaw", "bare"} {
			dir, err := os.MkdirTemp("", "openclaw-bench-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			at := time.Now()
			t, err := start(name, u.addr, dir)
			if err != nil {
				return err
			}
			if err := t.ready(); err != nil {
				t.cmd.Process.Kill()
				return err
			}
			ms[name] = append(ms[name], float64(time.Since(at).Microseconds())/1000)
			time.Sleep(2 * time.Second)
			mb[name] = append(mb[name], float64(t.rss())/1e6)
			t.stop()
		}
	}
	line("cold start to hello-ok, ms", median(ms["openclaw"]), median(ms["bare"]), "≤ 2.5 ×")
	line("resident memory 2 s after start, MB", median(mb["openclaw"]), median(mb["bare"]), "≤ 1.6 ×")
	size := func(p string) float64 {
		fi, err := os.Stat(p)
		if err != nil {
			return 0
		}
		return float64(fi.Size()) / 1e6
	}
	line("binary, stripped, MB", size("bin/openclaw"), size("bin/bare"), "≤ 12 MB")
	return nil
}
