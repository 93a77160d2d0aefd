package gateway

import (
	"fmt"
	"strings"
	"testing"
)

// TestWebhookDoor: where updates are posted, nothing is read before the secret
// is right, little after it, and nothing is there unless it is configured.
func TestWebhookDoor(t *testing.T) {
	const secret = "a-secret-of-a-webhook"
	r := start(t, testOptions(t, `{gateway:{auth:{token:"`+testToken+`"}},channels:{telegram:{botToken:"4242:abc",apiRoot:"http://127.0.0.1:1",webhookUrl:"https://bot.example/x",webhookSecret:"`+secret+`",webhookPath:"/hooks/tg"}}}`))
	post := func(path, proof, body string, more ...string) string {
		return r.raw(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\nX-Telegram-Bot-Api-Secret-Token: %s\r\n%s\r\n%s", path, r.port, len(body), proof, strings.Join(more, ""), body))
	}
	for _, c := range []struct{ name, answer, want string }{
		{"no secret", post("/hooks/tg", "", "{}"), "401"},
		{"a wrong one", post("/hooks/tg", secret+"x", "{}"), "401"},
		{"a part of it", post("/hooks/tg", secret[:8], "{}"), "401"},
		{"the gateway's own", post("/hooks/tg", testToken, "{}"), "401"},
		{"another path", post("/hooks/tg2", secret, "{}"), "404"},
		{"GET", r.raw(fmt.Sprintf("GET /hooks/tg HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Telegram-Bot-Api-Secret-Token: %s\r\n\r\n", r.port, secret)), "405"},
		{"another host", r.raw(fmt.Sprintf("POST /hooks/tg HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\nX-Telegram-Bot-Api-Secret-Token: %s\r\n\r\n{}", secret)), "421"},
		{"not an update", post("/hooks/tg", secret, "{}"), "400"},
		{"too large", r.raw(fmt.Sprintf("POST /hooks/tg HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\nX-Telegram-Bot-Api-Secret-Token: %s\r\n\r\n", r.port, maxUpdate+1, secret)), "413"},
		{"before it is connected", post("/hooks/tg", secret, `{"update_id":1,"message":{}}`), "503"},
	} {
		if !strings.HasPrefix(c.answer, c.want+" ") || strings.Contains(c.answer, secret) {
			t.Errorf("%s: %q, want %s", c.name, c.answer, c.want)
		}
	}
}
