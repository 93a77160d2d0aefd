package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSendOnce: a message that was refused for good, or that may have arrived,
// invites no repeat, and is not sent again for the same idempotency key. The
// answer names the account that was chosen.
func TestSendOnce(t *testing.T) {
	dir := t.TempDir()
	script, told := filepath.Join(dir, "channel.sh"), filepath.Join(dir, "told")
	if err := os.WriteFile(script, []byte(`echo '{"type":"hello","protocol":1,"features":[]}'
while read -r line; do
	case $line in *'"type":"send"'*) echo "$line" >>'`+told+`' ;; esac
	id=${line#*'"id":"'} id=${id%%'"'*}
	case $line in
	*'"text":"well"'*) echo '{"type":"sent","id":"'$id'","messageId":"9"}' ;;
	*'"text":"refuse"'*) echo '{"type":"failed","id":"'$id'","code":"PERMANENT","message":"no such chat"}' ;;
	*'"text":"die"'*) exit 1 ;;
	esac
done
`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"}},channels:{demo:{kind:"process",accounts:{work:{command:["/bin/sh",`+fmt.Sprintf("%q", script)+`]}}}}}`))
	c := r.connect()
	for _, text := range []string{"well", "refuse", "die"} {
		for range 2 {
			answer := r.call(c, "send", `{"channel":"demo","to":"me","message":"`+text+`","idempotencyKey":"`+text+`"}`)
			if strings.Contains(answer, `"retryable":true`) || strings.Contains(answer, `"accountId":"work"`) != (text == "well") {
				t.Errorf("%s: %s", text, answer)
			}
		}
		raw, _ := os.ReadFile(told)
		if n := strings.Count(string(raw), `"text":"`+text+`"`); n != 1 {
			t.Errorf("%s was said to the program %d times", text, n)
		}
	}
}

// TestHealthOfChannels: that a channel is down is told at once, and not when
// somebody next looks.
func TestHealthOfChannels(t *testing.T) {
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"}},channels:{demo:{kind:"process",command:["/nonexistent"]}}}`))
	c := r.connect()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(r.call(c, "health", "{}"), "channel demo:default is waiting"); {
		if time.Now().After(end) {
			t.Fatal("not told")
		}
	}
}
