package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"openclaw/reload/config"
)

const (
	callTime      = 30 * time.Second
	telegramLimit = 4096    // UTF-16 units of a message, after its entities were parsed
	maxAnswer     = 8 << 20 // bytes of one answer of the API
)

// telegram is a bot, over the Bot API (core.telegram.org/bots/api).
type telegram struct {
	root      string // of the API, without a slash at the end
	token     string
	maxFile   int64
	transport *transport
	me        atomic.Pointer[tgUser]
	turf      turf
	strange   atomic.Int32 // sends in a row that something before the API refused

	webhookURL, webhookSecret string // empty: it polls
	posting                   sync.Mutex
}

func newTelegram(c *config.ChannelAccount, dial func(ctx context.Context, network, addr string) (net.Conn, error)) (*telegram, error) {
	if c.BotToken.IsZero() {
		return nil, final("botToken is missing")
	}
	return &telegram{
		root: strings.TrimRight(c.APIRoot, "/"), token: c.BotToken.Reveal(), maxFile: int64(c.MediaMaxMb) << 20,
		transport: newTransport(c.Network.Family, dial), webhookURL: c.WebhookURL, webhookSecret: c.WebhookSecret.Reveal(),
	}, nil
}

// Limit is the length of a message.
func (t *telegram) Limit() int { return telegramLimit }

// apiError is an answer of the API that is not ok.
type apiError struct {
	code   int
	text   string
	after  time.Duration
	moved  int64 // the chat has become this one
	spoken bool  // the API itself said so, not something before it
}

func (e *apiError) Error() string {
	if !e.spoken {
		return fmt.Sprintf("telegram: %d %s, which is not the API's own answer", e.code, e.text)
	}
	return fmt.Sprintf("telegram: %d %s", e.code, e.text)
}

var errTooMuch = fmt.Errorf("telegram: an answer of more than %d bytes", maxAnswer)

// errBegun marks a failure after the request went out.
type errBegun struct{ error }

func (e errBegun) Unwrap() error { return e.error }

// call makes one request of the API and decodes its result. The token is in the
// address, and in no error.
func (t *telegram) call(ctx context.Context, limit time.Duration, method string, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return final("telegram: the request cannot be written: %w", err)
	}
	return t.post(ctx, limit, method, "application/json", raw, out)
}

func (t *telegram) post(ctx context.Context, limit time.Duration, method, contentType string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var begun atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { begun.Store(true) }})
	resp, err := t.request(ctx, http.MethodPost, "/bot"+t.token+"/"+method, contentType, body)
	if err != nil {
		if begun.Load() {
			return errBegun{err}
		}
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	var answer struct {
		OK          bool            `json:"ok"`
		Result      json.RawMessage `json:"result"`
		ErrorCode   int             `json:"error_code"`
		Description string          `json:"description"`
		Parameters  struct {
			RetryAfter int64 `json:"retry_after"`
			MigrateTo  int64 `json:"migrate_to_chat_id"`
		} `json:"parameters"`
	}
	switch {
	case err != nil && resp.StatusCode == http.StatusOK:
		return errBegun{t.redact(fmt.Errorf("telegram: the answer broke off: %w", err))}
	case len(raw) > maxAnswer:
		return errBegun{errTooMuch}
	}
	bad := json.Unmarshal(raw, &answer)
	switch {
	case bad == nil && answer.OK && resp.StatusCode == http.StatusOK:
		if out == nil {
			return nil
		}
		if err := json.Unmarshal(answer.Result, out); err != nil {
			return errBegun{fmt.Errorf("telegram: the answer to %s cannot be read: %w", method, err)}
		}
		return nil
	case bad != nil && resp.StatusCode == http.StatusOK:
		return errBegun{fmt.Errorf("telegram: the answer to %s is not JSON", method)}
	}
	e := &apiError{code: resp.StatusCode, text: http.StatusText(resp.StatusCode), spoken: bad == nil && answer.ErrorCode != 0}
	if e.spoken {
		e.code, e.text = answer.ErrorCode, plain(strings.ReplaceAll(answer.Description, t.token, "[redacted]"), 300)
		e.after, e.moved = time.Duration(answer.Parameters.RetryAfter)*time.Second, answer.Parameters.MigrateTo
	}
	return e
}

// request makes one request below the root.
func (t *telegram) request(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, t.root+path, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("telegram: apiRoot or botToken cannot be made an address")
	}
	req.Header.Set("User-Agent", "openclaw")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		return nil, t.redact(fmt.Errorf("telegram: %w", err))
	}
	return resp, nil
}

// redact returns err if the token is not in its text, else one that says the
// same without it.
func (t *telegram) redact(err error) error {
	if s := err.Error(); strings.Contains(s, t.token) {
		return errors.New(strings.ReplaceAll(s, t.token, "[redacted]"))
	}
	return err
}

// Send sends a text, formatted where the API can parse it, or one file.
func (t *telegram) Send(ctx context.Context, out Outbound) (Sent, error) {
	m, err := t.deliver(ctx, out)
	var e *apiError
	if errors.As(err, &e) && e.moved != 0 {
		out.To = strconv.FormatInt(e.moved, 10)
		m, err = t.deliver(ctx, out)
	}
	return t.sent(m, err)
}

// Check refuses what names a message or topic by what is no number.
func (t *telegram) Check(out Outbound) error {
	for name, id := range map[string]string{"replyTo": out.ReplyTo, "threadId": out.Thread} {
		if id != "" && !isNumber(id) {
			return final("%w: %s is a number at Telegram, not %q", ErrTarget, name, plain(id, 64))
		}
	}
	return nil
}

func (t *telegram) deliver(ctx context.Context, out Outbound) (m tgMessage, err error) {
	if err := t.Check(out); err != nil { // of a journal, of older days
		return m, err
	}
	in := map[string]any{"chat_id": out.To}
	if out.Thread != "" && out.Thread != generalTopic {
		in["message_thread_id"] = json.Number(out.Thread)
	}
	if out.ReplyTo != "" {
		in["reply_parameters"] = map[string]any{"message_id": json.Number(out.ReplyTo), "allow_sending_without_reply": true}
	}
	if len(out.Files) > 0 {
		return t.upload(ctx, in, out.Files[0])
	}
	return m, t.text(ctx, "sendMessage", in, out.Text, &m)
}

// text makes a request with a text: formatted, and as it is where the API does
// not take that.
func (t *telegram) text(ctx context.Context, method string, in map[string]any, text string, out any) error {
	in["text"], in["parse_mode"] = formatted(text), "HTML"
	err := t.call(ctx, callTime, method, in, out)
	var e *apiError
	if errors.As(err, &e) && e.code == http.StatusBadRequest &&
		(strings.Contains(e.text, "parse entities") || strings.Contains(e.text, "too long") || strings.Contains(e.text, "empty")) {
		in["text"] = text
		delete(in, "parse_mode")
		err = t.call(ctx, callTime, method, in, out)
	}
	return err
}

// Edit puts a text in place of one that was sent. To do so twice changes
// nothing, so that what is not known to have been done may be done again.
func (t *telegram) Edit(ctx context.Context, to, message, text string) error {
	err := t.text(ctx, "editMessageText", map[string]any{"chat_id": to, "message_id": json.Number(message)}, text, nil)
	var e *apiError
	if err == nil || errors.As(err, &e) && strings.Contains(e.text, "message is not modified") {
		return nil
	}
	if _, err = t.sent(tgMessage{}, err); !errors.As(err, new(*Fault)) {
		err = &Fault{Err: err, Wait: 3 * time.Second}
	}
	return err
}

// sent says what the outcome of a send means: not sent, refused, or unknown.
func (t *telegram) sent(m tgMessage, err error) (Sent, error) {
	var e *apiError
	var begun errBegun
	if errors.As(err, &e) && !e.spoken && e.code < 500 && e.code != http.StatusRequestEntityTooLarge {
		// A proxy or portal: what it refuses today the API may take tomorrow.
		return Sent{}, &Fault{Err: err, Wait: min(firstBackoff<<min(t.strange.Add(1), 20), lastBackoff)}
	}
	t.strange.Store(0)
	switch {
	case err == nil:
		return Sent{MessageID: fmt.Sprint(m.ID)}, nil
	case errors.As(err, new(*Fault)):
		return Sent{}, err
	case errors.As(err, &e) && e.code == http.StatusTooManyRequests:
		return Sent{}, &Fault{Err: err, Wait: max(e.after, time.Second)}
	case errors.As(err, &e) && (e.code == 401 || e.code >= 500 && (e.spoken || e.code == 502 || e.code == 503)):
		return Sent{}, &Fault{Err: err, Wait: 3 * time.Second}
	case errors.As(err, &e) && e.code < 500:
		return Sent{}, &Fault{Err: err, Final: true}
	case e == nil && !errors.As(err, &begun):
		return Sent{}, &Fault{Err: err, Wait: 3 * time.Second} // nothing left this host
	}
	return Sent{}, err
}

// Typing shows that an answer is being made.
func (t *telegram) Typing(ctx context.Context, m Inbound) {
	in := map[string]any{"chat_id": m.Chat, "action": "typing"}
	if m.Thread != "" {
		in["message_thread_id"] = json.Number(m.Thread)
	}
	t.call(ctx, 5*time.Second, "sendChatAction", in, nil)
}

// React sets the bot's reaction to a message.
func (t *telegram) React(ctx context.Context, m Inbound, emoji string) {
	t.call(ctx, 5*time.Second, "setMessageReaction", map[string]any{
		"chat_id": m.Chat, "message_id": json.Number(m.Message), "reaction": []any{map[string]string{"type": "emoji", "emoji": emoji}},
	}, nil)
}
