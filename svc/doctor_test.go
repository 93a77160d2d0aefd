package svc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"openclaw/gateway/store"
)

func said(list []*finding) string {
	var lines []string
	for _, f := range list {
		lines = append(lines, f.Severity+" "+f.Message)
	}
	return strings.Join(lines, "|")
}

// TestSupervisorFindings judges what the supervisor says.
func TestSupervisorFindings(t *testing.T) {
	e := newConsole(t).Env
	good := serviceReport{Managed: true, Enabled: true, Name: "openclaw-gateway", File: "/u/x.service", State: "active", Detail: "runs"}
	for _, c := range []struct {
		change func(*serviceReport)
		want   string
	}{
		{func(*serviceReport) {}, "ok runs"},
		{func(s *serviceReport) { *s = serviceReport{Detail: "by hand"} }, "info by hand"},
		{func(s *serviceReport) { s.Enabled = false }, "warn openclaw-gateway does not start at boot or login"},
		{func(s *serviceReport) { s.State, s.Detail = "failed", "exit 1" }, "warn openclaw-gateway has failed: exit 1"},
		{func(s *serviceReport) { s.Drift = []string{"RestartSec is 1"} }, "warn /u/x.service is not what install would write: RestartSec is 1"},
		{func(s *serviceReport) { s.Legacy = []string{"com.openclaw.old"} }, "warn an older unit could start a second gateway: com.openclaw.old"},
	} {
		s := good
		c.change(&s)
		r := &result{check: &check{id: "supervisor"}}
		superviseFindings(e, s, r)
		if got := said(r.done().list); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestSpaceFindings tells little room from none, and files from bytes.
func TestSpaceFindings(t *testing.T) {
	for want, s := range map[string]store.Space{
		"ok 1.0 GiB free at /x":                        {Bytes: 1 << 30, Files: -1},
		"warn only 511 MiB are left at /x":             {Bytes: 512<<20 - 1, Files: 5000},
		"error only 63 MiB are left at /x":             {Bytes: 64<<20 - 1, Files: 5000},
		"error only 999 files can still be made at /x": {Bytes: 1 << 40, Files: 999},
	} {
		r := &result{check: &check{id: "disk"}}
		spaceFindings("/x", s, r)
		if got := said(r.done().list); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestExamineHangs: a check that never ends costs its time and nothing else, and
// what it says later is not heard.
func TestExamineHangs(t *testing.T) {
	c := newConsole(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hang := func(_ *patient, r *result) {
			<-release
			r.fail("", "too late")
		}
		rows := []check{
			{id: "dead", gravest: sevError, run: hang},
			{id: "well", run: func(_ *patient, r *result) { r.fact("fine") }},
			{id: "slow", gravest: sevWarn, run: hang},
		}
		began := time.Now()
		got := examine(context.Background(), c.Env, false, rows)
		if took := time.Since(began); took != checkTime {
			t.Errorf("took %v", took)
		}
		close(release)
		synctest.Wait()
		var all []*finding
		for _, r := range got {
			all = append(all, r.list...)
		}
		if s := said(all); s != "error did not answer within 2s: a disk or a file system hangs|ok fine|warn did not answer within 2s: a disk or a file system hangs" {
			t.Error(s)
		}

		f := &finding{mend: func() (string, error) { <-t.Context().Done(); return "", nil }}
		if err := f.apply(); err == nil || !strings.Contains(err.Error(), "did not end within 5s") {
			t.Error(err)
		}
	})
}

// TestMendFails: what could not be mended stays found, and the reason is told.
func TestMendFails(t *testing.T) {
	c := newConsole(t)
	r := &result{check: &check{id: "x", run: func(*patient, *result) {}}}
	r.warn("", "broken").mend = func() (string, error) { return "", errors.New("not today") }
	out := mendAll(context.Background(), c.Env, false, []*result{r})
	if said(out[0].list) != "warn broken" || !strings.Contains(c.err.String(), "x: broken: not mended: not today") {
		t.Errorf("%s %s", said(out[0].list), &c.err)
	}
}

// TestDoctorEscapes: names from elsewhere move nothing on a terminal.
func TestDoctorEscapes(t *testing.T) {
	c := newConsole(t)
	c.Home = filepath.Join(c.Home, "a\x1b[2Jb\u202e")
	state := filepath.Join(c.Home, ".openclaw")
	d, err := store.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Publish(store.Instance{PID: os.Getpid(), Port: 1, Version: "v\x1b[31m\u202e", Addr: "127.0.0.1:1", StartedAt: 1}); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile("backup.json", []byte(`{"file":"/gone\u001b[2J\u202e","at":`+"99999999999999"+`}`)); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]string{{"doctor"}, {"doctor", "--json"}, {"gateway", "status", "--deep"}, {"gateway", "status", "--json", "--deep"}} {
		c.main(line...)
		if s := c.out.String() + c.err.String(); strings.ContainsAny(s, "\x1b\u202e") || !strings.Contains(s, "b") {
			t.Errorf("%v: %q", line, s)
		}
	}
}

// TestLastError tells only what still stands.
func TestLastError(t *testing.T) {
	const (
		start    = `{"time":"2026-01-01T00:00:10Z","level":"INFO","msg":"listening on ws://127.0.0.1:1 (PID 1)"}`
		old      = `{"time":"2026-01-01T00:00:05Z","level":"ERROR","msg":"old"}`
		fresh    = `{"time":"2026-01-01T00:00:20Z","level":"ERROR","msg":"fresh"}`
		rejected = `{"time":"2026-01-01T00:00:30Z","level":"ERROR","msg":"config reload rejected","sub":"reload"}`
		applied  = `{"time":"2026-01-01T00:00:40Z","level":"INFO","msg":"config reload applied","sub":"reload"}`
	)
	since := time.Date(2026, 1, 1, 0, 0, 10, 0, time.UTC).UnixMilli()
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{old, start}, ""},
		{[]string{old, start, fresh}, "fresh"},
		{[]string{old, start, fresh, rejected}, "config reload rejected"},
		{[]string{old, start, fresh, rejected, applied}, "fresh"},
		{[]string{old, start, rejected, applied}, ""},
		{[]string{old, start, rejected, applied, rejected}, "config reload rejected"},
	} {
		e := newConsole(t)
		p := e.paths
		p.StateDir = filepath.Join(e.Home, "state")
		if err := os.MkdirAll(filepath.Join(p.StateDir, "logs"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(logPath(p, nil), []byte(strings.Join(c.lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, since := range []int64{since, 0} {
			got := ""
			if l := lastError(p, nil, since); l != nil {
				got = l.Msg
			}
			if got != c.want {
				t.Errorf("since %d, %d lines: %q, want %q", since, len(c.lines), got, c.want)
			}
		}
	}
}
