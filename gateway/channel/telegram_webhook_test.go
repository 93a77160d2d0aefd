package channel

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"openclaw/reload/config"
)

const hookURL, hookSecret = "https://bot.example/telegram-webhook", "a-secret-of-a-webhook"

func hooked() config.ChannelAccount {
	c := bot(pipeRoot)
	c.WebhookURL, c.WebhookSecret, c.WebhookPath = hookURL, config.NewSecret(hookSecret), "/telegram-webhook"
	return c
}

// hookAPI keeps what setWebhook was told.
func (f *fakeAPI) hookAPI() (told func() (url, secret string), says func(string)) {
	url, secret, info := "", "", ""
	f.answer = func(method string, _ int, in map[string]any, w http.ResponseWriter) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch method {
		case "setWebhook":
			url, _ = in["url"].(string)
			secret, _ = in["secret_token"].(string)
		case "deleteWebhook":
			url, secret = "", ""
		case "getWebhookInfo":
			fmt.Fprintf(w, `{"ok":true,"result":{"url":%q,"pending_update_count":0%s}}`, url, info)
			return true
		case "getUpdates":
			return url != "" && fakeFail(w, 409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first", "")
		}
		return false
	}
	return func() (string, string) { f.mu.Lock(); defer f.mu.Unlock(); return url, secret }, func(s string) { f.mu.Lock(); info = s; f.mu.Unlock() }
}

// TestTelegramWebhook: updates are posted, each is taken once, by the same
// policy; and without the configuration the webhook goes.
func TestTelegramWebhook(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		told, says := api.hookAPI()
		post := func(raw string) error { return r.set.Posted(t.Context(), "telegram", "default", []byte(raw)) }
		update := func(id, from int) string {
			return fmt.Sprintf(`{"update_id":%d,"message":{"message_id":1,"from":{"id":%d},"chat":{"id":%[2]d,"type":"private"},"text":"number %[1]d"}}`, id, from)
		}
		r.set.Apply([]config.ChannelAccount{hooked()})
		r.until("open", func() bool { return r.account().Status().State == StateOpen })
		if url, secret := told(); url != hookURL || secret != hookSecret {
			t.Errorf("told %q, %q", url, secret)
		}
		for _, raw := range []string{update(10, 7), update(10, 7), update(11, 8), update(12, 7), update(10, 7)} {
			if err := post(raw); err != nil {
				t.Error(err)
			}
		}
		r.settled(13)
		if sent := api.sent(); len(sent) != 2 || sent[0] != "you said number 10" || sent[1] != "you said number 12" || api.count("getUpdates") != 0 {
			t.Errorf("sent %q", sent)
		}
		for _, raw := range []string{"", "[]", "{}", `{"update_id":"x"}`, strings.Repeat("[", 9999)} {
			var f *Fault
			if err := post(raw); !errors.As(err, &f) || !f.Final {
				t.Errorf("%.20q: %v", raw, err)
			}
		}
		says(fmt.Sprintf(`,"last_error_date":%d,"last_error_message":"Connection refused"`, time.Now().Add(time.Minute).Unix()))
		time.Sleep(webhookEvery + time.Minute)
		if s := r.account().Status(); s.State != StateOpen || !strings.Contains(s.LastError, "Connection refused") {
			t.Errorf("%+v", s)
		}
		if n := api.count("setWebhook"); n != 1 {
			t.Errorf("set %d times", n)
		}
		r.set.Apply([]config.ChannelAccount{bot(pipeRoot)}) // back to polling
		api.say(13, 7, "by poll")
		r.settled(14)
		if url, _ := told(); url != "" || !strings.Contains(r.logs.String(), "takes back its webhook") {
			t.Errorf("the webhook stays at %q", url)
		}
		if err := post(update(14, 7)); !errors.Is(err, ErrUnknown) {
			t.Errorf("posted to a bot that polls: %v", err)
		}
		if strings.Contains(r.logs.String(), hookSecret) {
			t.Error("the secret is in the log")
		}
	})
}

// TestTelegramWebhookTaken: who finds another's webhook says so, and comes back
// after a while.
func TestTelegramWebhookTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig, api *fakeAPI) {
		other := false
		api.answer = func(method string, _ int, _ map[string]any, w http.ResponseWriter) bool {
			if method != "getWebhookInfo" {
				return false
			}
			api.mu.Lock()
			defer api.mu.Unlock()
			fmt.Fprintf(w, `{"ok":true,"result":{"url":%q}}`, map[bool]string{true: "https://other.example/", false: hookURL}[other])
			return true
		}
		r.set.Apply([]config.ChannelAccount{hooked()})
		r.until("open", func() bool { return r.account().Status().State == StateOpen })
		api.mu.Lock()
		other = true
		api.mu.Unlock()
		r.until("its word", func() bool { return strings.Contains(r.account().Status().LastError, "another program has taken") })
		api.mu.Lock()
		other, api.calls["setWebhook"] = false, 0
		api.mu.Unlock()
		time.Sleep(turfYield - time.Minute)
		if n := api.count("setWebhook"); n != 0 {
			t.Errorf("set %d times at once", n)
		}
		r.until("open again", func() bool { return r.account().Status().State == StateOpen })
	})
}
