package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw/reload/config"
)

// TestMain makes the test binary a stranger that holds a port, for the tests
// of conflicts.
func TestMain(m *testing.M) {
	if how := os.Getenv("OPENCLAW_TEST_STRANGER"); how != "" {
		holdPort(how == "hardened")
	}
	os.Exit(m.Run())
}

// holdPort listens, tells the port, and answers 200 to every request until it is ended.
func holdPort(hardened bool) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		os.Exit(1)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if hardened {
		harden(slog.New(slog.DiscardHandler), port)
	}
	os.Stdout.WriteString(strconv.Itoa(port) + "\n")
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(liveBody)) }))
	os.Exit(1)
}

// stranger starts a process that holds a port.
func stranger(t *testing.T) (cmd *exec.Cmd, port int) {
	t.Helper()
	return startStranger(t, "plain")
}

func startStranger(t *testing.T, how string) (cmd *exec.Cmd, port int) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "OPENCLAW_TEST_STRANGER="+how)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	buf := make([]byte, 16)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	port, err = strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatal(err)
	}
	return cmd, port
}

func canNameHolders(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, err := os.Stat("/usr/sbin/lsof"); err != nil {
			t.Skip("no lsof")
		}
	}
}

// onPort makes o bind a real port.
func onPort(o Options, port int) Options {
	o.listen, o.PortOverride = nil, port
	return o
}

func TestPortTakenByStranger(t *testing.T) {
	canNameHolders(t)
	cmd, port := stranger(t)
	_, err := New(onPort(testOptions(t, ""), port))
	want := "port " + itoa(port) + " is taken by pid " + itoa(cmd.Process.Pid) + " ("
	if exitCode(err) != 1 || !strings.Contains(err.Error(), want) {
		t.Errorf("exit %d: %v", exitCode(err), err)
	}
}

func TestPortTakenByGateway(t *testing.T) {
	canNameHolders(t)
	r := start(t, testOptions(t, ""))
	o := onPort(testOptions(t, ""), r.port)
	_, err := New(o)
	o.Bind = "lan" // which the kernel refuses as well, under an address that nobody serves
	if _, err := New(o); exitCode(err) != 78 {
		t.Errorf("bind lan: exit %d: %v", exitCode(err), err)
	}
	if exitCode(err) != 78 || !strings.Contains(err.Error(), "held by a healthy gateway (pid "+itoa(os.Getpid())) {
		t.Errorf("exit %d: %v", exitCode(err), err)
	}
}

// TestForce ends the stranger and takes its port.
func TestForce(t *testing.T) {
	canNameHolders(t)
	cmd, port := stranger(t)
	o := onPort(testOptions(t, ""), port)
	o.Force = true
	r := start(t, o)
	if r.port != port {
		t.Errorf("port %d", r.port)
	}
	if want := "openclaw: ended pid " + itoa(cmd.Process.Pid); !strings.Contains(r.stderr.String(), want) {
		t.Errorf("stderr: %s", r.stderr)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the stranger ended with %v", err)
	}
}

// TestForceSparesItself refuses to end this process, its ancestors and what others run.
func TestForceSparesItself(t *testing.T) {
	canNameHolders(t)
	r := start(t, testOptions(t, ""))
	o := onPort(testOptions(t, ""), r.port)
	o.Force = true
	_, err := New(o)
	if exitCode(err) != 1 || !strings.Contains(err.Error(), "started this process") {
		t.Errorf("exit %d: %v", exitCode(err), err)
	}
}

// TestDevPort takes the first block that is wholly free, and the same one at the next start.
func TestDevPort(t *testing.T) {
	taken := map[int]bool{config.DevPort: true, config.DevPort + config.DevPortStep + 4: true}
	o := testOptions(t, "")
	o.Dev = true
	var asked []int
	o.listen = func(port int) ([]net.Listener, error) {
		asked = append(asked, port)
		if taken[port] {
			return nil, &portTaken{addr: itoa(port)}
		}
		return []net.Listener{newPipeListener()}, nil
	}
	for range 2 {
		g, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if want := config.DevPort + 2*config.DevPortStep; g.port != want {
			t.Errorf("port %d, asked for %v", g.port, asked)
		}
		g.releaseTo(nil)
		clear(taken) // the kept one is used although the first is free again
	}
}

func TestBindHosts(t *testing.T) {
	for _, tc := range []struct{ text, override, want string }{
		{`{}`, "", "127.0.0.1 ::1"},
		{`{gateway:{bind:"auto"}}`, "", "127.0.0.1 ::1"},
		{`{gateway:{bind:"lan"}}`, "", "0.0.0.0"},
		{`{gateway:{bind:"lan"}}`, "loopback", "127.0.0.1 ::1"},
		{`{gateway:{bind:"custom",customBindHost:"192.0.2.7"}}`, "", "192.0.2.7"},
		{`{gateway:{bind:"custom",customBindHost:"::ffff:192.0.2.7"}}`, "", "192.0.2.7"},
		{`{}`, "custom", "error"},
		{`{}`, "everywhere", "error"},
	} {
		l, err := config.Parse("", []byte(tc.text), config.Source{})
		if err != nil {
			t.Fatal(tc.text, err)
		}
		o := Options{Bind: tc.override, AllowUnconfigured: true, Env: func(string) (string, bool) { return "", false }}
		if err := o.settle(l.Config); err != nil {
			t.Fatal(err)
		}
		hosts, err := bindHosts(l.Config.Gateway)
		got := strings.Join(hosts, " ")
		if err != nil {
			got = "error"
		}
		if got != tc.want {
			t.Errorf("%s %s: %s %v", tc.text, tc.override, got, err)
		}
	}
}

func TestReachable(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:1": "127.0.0.1:1", "[::1]:1": "[::1]:1", "192.0.2.7:80": "192.0.2.7:80",
		"0.0.0.0:18789": "127.0.0.1:18789", "[::]:18789": "[::1]:18789",
	} {
		if got := reachable(addr); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

// TestTLS serves over a certificate of its own, kept from start to start, and
// is recognised as a healthy gateway all the same.
func TestTLS(t *testing.T) {
	o := testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},tls:{enabled:true,autoGenerate:true}}}`)
	var serials []string
	for range 2 {
		o.Stderr = &syncBuffer{}
		r := start(t, o)
		pem, err := os.ReadFile(filepath.Join(o.Paths.StateDir, certName))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
		resp, err := client.Get("https://" + r.addr + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.ProtoMajor != 1 {
			t.Error(resp.Status, resp.Proto)
		}
		serials = append(serials, resp.TLS.PeerCertificates[0].SerialNumber.String())
		if !probe(r.addr) {
			t.Error("not recognised over TLS")
		}
		if fi, err := os.Stat(filepath.Join(o.Paths.StateDir, keyName)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Error(fi, err)
		}
		r.stop(Signal{"SIGTERM"})
		r.wait()
	}
	if serials[0] != serials[1] {
		t.Error("a new certificate at each start")
	}
}

// TestTLSRenewal serves a renewed certificate once a reload is asked for, and
// the old one as long as the new one cannot be read.
func TestTLSRenewal(t *testing.T) {
	o := testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},tls:{enabled:true,autoGenerate:true}}}`)
	r := start(t, o)
	serial := func() string {
		c, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	reload := func() {
		if out, err := r.askReload(t.Context(), reloadRequest{source: fromAsked}); err != nil || out.err != nil {
			t.Fatal(err, out.err)
		}
	}
	first := serial()
	key := filepath.Join(o.Paths.StateDir, keyName)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(key, 0o700); err != nil {
		t.Fatal(err)
	}
	reload()
	if serial() != first || !strings.Contains(r.stderr.String(), "keeps the old certificate") {
		t.Errorf("a certificate that cannot be read: %s", r.stderr)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	reload()
	if serial() == first {
		t.Error("the new certificate is not served")
	}
}

func TestTLSWithoutCertificate(t *testing.T) {
	_, err := New(testOptions(t, `{gateway:{auth:{token:"`+testToken+`"},tls:{enabled:true}}}`))
	if exitCode(err) != 78 {
		t.Errorf("exit %d: %v", exitCode(err), err)
	}
}
