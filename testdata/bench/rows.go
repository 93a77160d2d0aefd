package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sample is what one row measured of one server: a rate or a time, and
// processor time per operation where that says more.
type sample struct {
	value float64 // in the row's unit
	cpu   float64 // microseconds of the server's processor time per operation; 0 = not measured
}

const (
	rpcTime = 1500 * time.Millisecond
)

// perSecond is the sample of what was done in a time, unless something failed.
func perSecond(done *atomic.Int64, took, cpu time.Duration, errs <-chan error) (sample, error) {
	select {
	case err := <-errs:
		return sample{}, err
	default:
	}
	n := float64(done.Load())
	return sample{n / took.Seconds(), float64(cpu.Microseconds()) / n}, nil
}

// rpc drives conns connections, each with depth requests in flight, for a fixed time.
func rpc(t *target, method string, conns, depth int) (sample, error) {
	cs := make([]*wsConn, conns)
	for i := range cs {
		c, err := t.open()
		if err != nil {
			return sample{}, err
		}
		defer c.Close()
		cs[i] = c
	}
	msg := `{"type":"req","id":"r1","method":"` + method + `","params":{}}`
	var done atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, conns)
	cpu, at := t.cpu(), time.Now()
	for _, c := range cs {
		wg.Go(func() {
			for time.Since(at) < rpcTime {
				for range depth {
					c.queue(msg)
				}
				if err := c.flush(); err != nil {
					errs <- err
					return
				}
				for range depth {
					if _, err := c.until(`"id":"r1"`); err != nil {
						errs <- err
						return
					}
				}
				done.Add(int64(depth))
			}
		})
	}
	wg.Wait()
	return perSecond(&done, time.Since(at), t.cpu()-cpu, errs)
}

// handshake connects, gets its hello and leaves, sixteen at once.
func handshake(t *target) (sample, error) {
	var done atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	cpu, at := t.cpu(), time.Now()
	for range 16 {
		wg.Go(func() {
			for time.Since(at) < rpcTime {
				c, err := t.open()
				if err != nil {
					errs <- err
					return
				}
				c.Close()
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return perSecond(&done, time.Since(at), t.cpu()-cpu, errs)
}

func openMany(t *target, n int) ([]*wsConn, error) {
	cs := make([]*wsConn, 0, n)
	for range n {
		c, err := t.open()
		if err != nil {
			return cs, fmt.Errorf("connection %d: %w", len(cs)+1, err)
		}
		cs = append(cs, c)
	}
	return cs, nil
}

func closeAll(cs []*wsConn) {
	for _, c := range cs {
		c.Close()
	}
}

// idle opens n connections and gives the kilobytes each costs; then every one must answer.
func idle(t *target, n int) (sample, error) {
	before := t.rss()
	cs, err := openMany(t, n)
	defer closeAll(cs)
	if err != nil {
		return sample{}, err
	}
	time.Sleep(2 * time.Second)
	each := float64(t.rss()-before) / float64(n) / 1024
	for i, c := range cs {
		c.queue(`{"type":"req","id":"alive","method":"last-heartbeat","params":{}}`)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if err := c.flush(); err != nil {
			return sample{}, fmt.Errorf("connection %d of %d died: %w", i, n, err)
		}
		if _, err := c.until(`"id":"alive"`); err != nil {
			return sample{}, fmt.Errorf("connection %d of %d does not answer: %w", i, n, err)
		}
	}
	return sample{each, 0}, nil
}

// storm opens n connections and counts the events that the first of them was sent for each connect.
func storm(t *target, n int) (sample, error) {
	first, err := t.open()
	if err != nil {
		return sample{}, err
	}
	defer first.Close()
	cs, err := openMany(t, n)
	defer closeAll(cs)
	if err != nil {
		return sample{}, err
	}
	first.queue(`{"type":"req","id":"end","method":"last-heartbeat","params":{}}`)
	if err := first.flush(); err != nil {
		return sample{}, err
	}
	events, err := first.until(`"id":"end"`)
	return sample{float64(events) / float64(n), 0}, err
}

// broadcast has n subscribers and one sender; every event must reach every one.
func broadcast(t *target, n int) (sample, error) {
	cs, err := openMany(t, n)
	defer closeAll(cs)
	if err != nil {
		return sample{}, err
	}
	const rounds = 8
	var wg sync.WaitGroup
	var seen atomic.Int64
	var mu sync.Mutex
	var lat []float64
	sent := make([]atomic.Int64, rounds)
	text := func(i int) string { return fmt.Sprintf("Node: bench-%d", i) }
	for _, c := range cs {
		wg.Go(func() {
			c.SetDeadline(time.Now().Add(30 * time.Second))
			for i := range rounds {
				if _, err := c.until(`"presence"`, text(i)); err != nil {
					return
				}
				d := float64(time.Now().UnixNano()-sent[i].Load()) / 1e6
				seen.Add(1)
				mu.Lock()
				lat = append(lat, d)
				mu.Unlock()
			}
		})
	}
	sender, err := t.open()
	if err != nil {
		return sample{}, err
	}
	defer sender.Close()
	cpu := t.cpu()
	for i := range rounds {
		sent[i].Store(time.Now().UnixNano())
		sender.queue(fmt.Sprintf(`{"type":"req","id":"b%d","method":"system-event","params":{"text":%q,"host":"bench","mode":"node","reason":"bench","instanceId":"bench-broadcast"}}`, i, text(i)))
		if err := sender.flush(); err != nil {
			return sample{}, err
		}
		time.Sleep(250 * time.Millisecond)
	}
	wg.Wait()
	used := t.cpu() - cpu
	if int(seen.Load()) != n*rounds {
		return sample{}, fmt.Errorf("%d of %d deliveries", seen.Load(), n*rounds)
	}
	slices.Sort(lat)
	return sample{lat[len(lat)/2], float64(used.Microseconds()) / float64(n*rounds)}, nil
}

var tags atomic.Int64

func chatBody(stream bool, extra string) (string, string) {
	tag := fmt.Sprint(tags.Add(1))
	return tag, fmt.Sprintf(`{"model":"openclaw","stream":%v,"messages":[{"role":"user","content":"tag=%s %s"}]}`, stream, tag, extra)
}

func (t *target) chat(hc *http.Client, session, body string) (*http.Response, error) {
	req, err := http.NewRequest("POST", "http://"+t.addr+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+t.token)
	if session != "" {
		req.Header.Set("x-openclaw-session-key", session)
	}
	res, err := hc.Do(req)
	if err == nil && res.StatusCode != 200 {
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		return nil, fmt.Errorf("%s: %s", res.Status, b)
	}
	return res, err
}

// chatStream gives three medians in milliseconds: client sent to upstream
// received, and upstream wrote to client read of the first and the last token.
func chatStream(t *target, u *upstream, rounds int) (in, first, last float64, err error) {
	hc := &http.Client{}
	var ins, firsts, lasts []float64
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	for i := range rounds {
		tag, body := chatBody(true, "tokens=50 first=20000 delay=5000")
		at := time.Now()
		res, err := t.chat(hc, fmt.Sprintf("agent:main:bench-%d", i%4), body)
		if err != nil {
			return 0, 0, 0, err
		}
		var got []time.Time
		sc := bufio.NewScanner(res.Body)
		for sc.Scan() {
			if bytes.Contains(sc.Bytes(), []byte(`"content":"tok`)) {
				got = append(got, time.Now())
			}
		}
		res.Body.Close()
		u.mu.Lock()
		received, wrote := u.in[tag], u.out[tag]
		u.mu.Unlock()
		if len(got) != 50 || len(wrote) != 50 {
			return 0, 0, 0, fmt.Errorf("%d tokens read, %d written", len(got), len(wrote))
		}
		ins, firsts, lasts = append(ins, ms(received.Sub(at))), append(firsts, ms(got[0].Sub(wrote[0]))), append(lasts, ms(got[49].Sub(wrote[49])))
	}
	return median(ins), median(firsts), median(lasts), nil
}

// chatRate is how many whole answers a second eight clients get of an instant upstream.
func chatRate(t *target, run int) (sample, error) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	var done atomic.Int64
	errs := make(chan error, 8)
	var wg sync.WaitGroup
	cpu, at := t.cpu(), time.Now()
	for i := range 8 {
		wg.Go(func() {
			for n := 0; time.Since(at) < 2*time.Second; n++ {
				_, body := chatBody(false, "")
				// A session is left after 20 turns, so that its history stays short.
				res, err := t.chat(hc, fmt.Sprintf("agent:main:rate-%d-%d-%d", run, i, n/20), body)
				if err != nil {
					errs <- err
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return perSecond(&done, time.Since(at), t.cpu()-cpu, errs)
}

// manySessions writes the index and transcripts of n sessions, as turns would have left them.
func manySessions(t *target, n int) error {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for i := range 8 {
		wg.Go(func() {
			for j := i; j < n; j += 8 {
				_, body := chatBody(false, "")
				res, err := t.chat(hc, fmt.Sprintf("agent:main:many-%d", j), body)
				if err != nil {
					errs <- err
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// debounce is gateway.hotReload.debounceMs where nobody says otherwise.
const debounce = 300 * time.Millisecond

// reload is how long after the file has settled a change of it is in effect
// and told, with 100 providers in the file.
func reload(t *target) (sample, error) {
	file := t.home + "/state/openclaw.json"
	raw, err := os.ReadFile(file)
	if err != nil {
		return sample{}, err
	}
	var more strings.Builder
	for i := range 100 {
		fmt.Fprintf(&more, "p%d: {baseUrl: 'http://127.0.0.1:9/v1', models: [{id: 'a', contextWindow: 9000}, {id: 'b'}]},\n", i)
	}
	text := strings.Replace(string(raw), "providers: {", "providers: {\n"+more.String(), 1)
	c, err := t.open()
	if err != nil {
		return sample{}, err
	}
	defer c.Close()
	var ms []float64
	for i := range 5 {
		next := strings.Replace(text, "defaults: {", fmt.Sprintf("defaults: {timeoutSeconds: %d,", 100+i), 1)
		if err := os.WriteFile(file+".new", []byte(next), 0o600); err != nil {
			return sample{}, err
		}
		at := time.Now()
		if err := os.Rename(file+".new", file); err != nil {
			return sample{}, err
		}
		c.SetDeadline(at.Add(10 * time.Second))
		if _, err := c.until(`"config.changed"`); err != nil {
			return sample{}, err
		}
		ms = append(ms, float64((time.Since(at)-debounce).Microseconds())/1000)
	}
	return sample{median(ms), 0}, nil
}

// cli is the whole time of one call of the command line, which ends with code.
func cli(t *target, code int, args string, env ...string) (map[string]float64, error) {
	var ms []float64
	for range 15 {
		cmd := exec.Command("bin/openclaw", strings.Fields(args)...)
		cmd.Env = append(append(os.Environ(), "HOME="+t.home, "OPENCLAW_STATE_DIR="+t.home+"/state"), env...)
		at := time.Now()
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != code {
			return nil, fmt.Errorf("%s: exit code %d: %s", args, cmd.ProcessState.ExitCode(), out)
		}
		ms = append(ms, float64(time.Since(at).Microseconds())/1000)
	}
	return map[string]float64{"ms": median(ms)}, nil
}

// down is the environment of a gateway with t's configuration that does not run.
func down(t *target) []string {
	return []string{"OPENCLAW_STATE_DIR=" + t.home + "/down", "OPENCLAW_CONFIG_PATH=" + t.home + "/state/openclaw.json", fmt.Sprintf("OPENCLAW_GATEWAY_PORT=%d", freePort())}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}
