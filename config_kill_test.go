package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// configWriter tells a child of this test binary to write the configuration at
// this path over and over, one of two texts after the other, until it is killed.
const configWriter = "OPENCLAW_TEST_CONFIG_WRITER"

func init() {
	path := os.Getenv(configWriter)
	if path == "" {
		return
	}
	texts := twoTexts()
	for i := 0; ; i++ {
		err := store.UpdateFile(path, config.MaxFile, func(old []byte) ([]byte, error) {
			return texts[(bytes.Count(old, []byte("debug"))+1)%2], nil
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if i == 0 {
			fmt.Println("writing")
		}
	}
}

// twoTexts are configurations of 200 KB that differ in one value in the middle.
func twoTexts() (texts [2][]byte) {
	lines := strings.Repeat("  // what stays as it is written, whatever becomes of the value\n", 1600)
	for i, level := range []string{"info", "debug"} {
		texts[i] = []byte("{\n" + lines + "  logging: { level: \"" + level + "\" },\n" + lines + "}\n")
	}
	return texts
}

// oneOf wants a file that is exactly one of two texts, and says which.
func oneOf(t *testing.T, path string, texts [2][]byte) int {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		if bytes.Equal(raw, text) {
			return i
		}
	}
	t.Fatalf("%s has %d bytes, neither the old text nor the new", path, len(raw))
	return -1
}

// leftovers removes what killed writers left beside the file, and counts it.
func leftovers(t *testing.T, path string) int {
	t.Helper()
	temps, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.tmp"))
	for _, temp := range temps {
		if err == nil {
			err = os.Remove(temp)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(temps)
}

func rounds(t *testing.T, few int) int {
	s := os.Getenv(crashRounds)
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", crashRounds, err)
	}
	return n
}

// TestConfigSurvivesKill kills a writer of the configuration at random moments.
// The file and its copy are then whole, each the old text or the new one, and
// the next writer is not kept out.
func TestConfigSurvivesKill(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	texts := twoTexts()
	for _, text := range texts {
		if _, err := config.ParseJSON5(text); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "openclaw.json")
	most, midway, seen := rounds(t, 12), 0, [2]int{}
	for round := range most {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), configWriter+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		<-time.After(time.Duration(rand.Int64N(int64(20 * time.Millisecond))))
		cmd.Process.Kill()
		cmd.Wait()
		if line != "writing\n" {
			t.Fatalf("round %d: the writer says %q, %v", round, line, err)
		}
		seen[oneOf(t, path, texts)]++
		if _, err := os.Stat(path + ".bak"); err == nil || round > 0 {
			oneOf(t, path+".bak", texts)
		}
		if leftovers(t, path) > 0 {
			midway++
		}
	}
	if most > 50 && min(midway, seen[0], seen[1]) == 0 {
		t.Errorf("the test does not test: %d rounds, %d killed midway, %v of either text", most, midway, seen)
	}
	t.Logf("%d rounds: %d killed midway, %v of either text", most, midway, seen)
}

// TestConfigSetSurvivesKill does the same to the command.
func TestConfigSetSurvivesKill(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	texts := twoTexts()
	h.write(texts[0])
	begun := time.Now()
	if r := h.run("config", "set", "logging.level", "debug"); r.code != 0 || r.stdout != "logging.level: hot\n" {
		t.Fatal(r)
	}
	took := time.Since(begun)
	at, changed, midway, most := oneOf(t, h.config, texts), 0, 0, rounds(t, 12)
	if at != 1 {
		t.Fatal("it changed nothing")
	}
	for range most {
		cmd := h.program(h.ctx, "config", "set", "logging.level", []string{"debug", "info"}[at])
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(rand.Int64N(int64(took*5/4))), func() { cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		now := oneOf(t, h.config, texts)
		if err == nil && now == at {
			t.Fatal("it ended well and changed nothing")
		}
		if now != at {
			changed++
		}
		at = now
		oneOf(t, h.config+".bak", texts)
		if leftovers(t, h.config) > 0 {
			midway++
		}
	}
	if most > 50 && min(midway, changed, most-changed) == 0 {
		t.Errorf("the test does not test: %d rounds, %d killed midway, %d had changed the file", most, midway, changed)
	}
	t.Logf("%d rounds: %d killed midway, %d had changed the file", most, midway, changed)
}

// TestConfigSetAtOnce has twenty set a key each, at the same time.
func TestConfigSetAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	const n = 20
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if r := h.run("config", "set", fmt.Sprintf("models.providers.p%d.baseUrl", i), fmt.Sprintf("http://127.0.0.1:%d/v1", 1000+i)); r.code != 0 {
				t.Error(r)
			}
		})
	}
	all.Wait()
	r := h.run("config", "show", "models", "--json")
	for i := range n {
		if want := fmt.Sprintf("http://127.0.0.1:%d/v1", 1000+i); !strings.Contains(r.stdout, want) {
			t.Errorf("%s is lost: %s", want, r)
		}
	}
	if left := leftovers(t, h.config); left != 0 {
		t.Errorf("%d temporary files are left", left)
	}
}
