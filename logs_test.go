package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw/gateway/store"
)

// TestFollowTheLog has the program follow the log from before the first gateway
// runs until after the last: through rotations by each of them, a kill with a
// line half written, and a stop. What it printed is what is in the files.
func TestFollowTheLog(t *testing.T) {
	const maxSize, maxFiles = 64 << 10, 200
	h := newHouse(t, object{"logging": object{"level": "debug", "rotation": object{"maxSize": "64K", "maxFiles": maxFiles}}})
	path := filepath.Join(h.state, "logs", "gateway.log")
	next := 0
	// log writes as a gateway does, until the current file has left so many bytes.
	log := func(rotations int, left int64) {
		t.Helper()
		d, err := store.Open(h.state)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		l, err := d.OpenLog(maxSize, maxFiles)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for full, room := 0, int64(maxSize); full < rotations; next++ {
			text := strings.Repeat(".", 1000)
			if room <= left { // over the edge
				text += strings.Repeat("-", int(left))
			}
			line := fmt.Sprintf(`{"time":%q,"level":"INFO","msg":"line %d %s"}`, time.Now().Format(time.RFC3339Nano), next, text)
			if _, err := l.Write([]byte(line)); err != nil {
				t.Fatal(err)
			}
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if room = maxSize - fi.Size(); room <= left {
				full++
			}
		}
	}

	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	cmd := h.program(ctx, "logs", "--follow", "--format", "json", "--last", "1000")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log(1, 40<<10)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string, 1<<16)
	go func() {
		defer close(shown)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			shown <- lines.Text()
		}
	}()
	var got []string
	until := func(words string) {
		t.Helper()
		late := time.NewTimer(patience)
		defer late.Stop()
		for {
			select {
			case line, ok := <-shown:
				if !ok {
					t.Fatalf("it ended without %q: %s", words, complaints.String())
				}
				if got = append(got, line); strings.Contains(line, words) {
					return
				}
			case <-late.C:
				t.Fatalf("no line with %q among %d", words, len(got))
			}
		}
	}
	until(fmt.Sprintf("line %d ", next-1))

	log(25, 2<<10)
	for life := range 2 {
		g := h.start()
		for range 40 { // two lines each, more than the file has room for
			c, err := h.connect(nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		if life == 0 {
			g.kill()
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(f, `{"time":"2026-`)
			f.Close()
			continue
		}
		g.signal(syscall.SIGTERM)
		g.wait()
		until(`"msg":"stopping"`)
	}
	log(25, 2<<10)
	until(fmt.Sprintf("line %d ", next-1))
	cancel()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 0 || complaints.Len() > 0 {
		t.Errorf("%v: %s", err, complaints.String())
	}

	var want []string
	rotations := 0
	for i := maxFiles; i >= 0; i-- {
		name := path
		if i > 0 {
			name = fmt.Sprint(path, ".", i)
		}
		raw, err := os.ReadFile(name)
		if i > 0 && os.IsNotExist(err) {
			continue
		}
		if err != nil || len(raw) > maxSize {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
		rotations++
		want = append(want, strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")...)
	}
	if rotations < 50 {
		t.Errorf("only %d files", rotations)
	}
	if !slices.Equal(got, want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		t.Errorf("%d lines were shown of %d, they differ from line %d:\n%.200s\n%.200s", len(got), len(want), i, got[i:min(i+1, len(got))], want[i:min(i+1, len(want))])
	}
}
