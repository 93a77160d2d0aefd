package svc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"openclaw/wire"
)

func sessionsList(ctx context.Context, e *Env, a *Args) error {
	limit, err := a.Int("last", 100, 1, 10000)
	if err != nil {
		return err
	}
	in := &wire.SessionsList{Limit: limit, AgentID: a.Get("agent"), Search: a.Get("search")}
	active, err := a.Duration("active", 0, time.Minute)
	if err != nil {
		return err
	}
	in.ActiveMinutes = int64((active + time.Minute - 1) / time.Minute)
	return query(ctx, e, a, "sessions.list", in, func(_ *link, page *wire.SessionsPage) error {
		if len(page.Sessions) == 0 {
			e.Warn("no sessions yet")
			return nil
		}
		var rows [][]string
		for _, s := range page.Sessions {
			rows = append(rows, []string{s.Key, e.ago(s.UpdatedAt), fmt.Sprint(s.TotalTokens), s.ModelProvider + "/" + s.Model, s.SessionID})
		}
		return e.table([]string{"KEY", "USED", "TOKENS", "MODEL", "ID"}, rows)
	})
}

// withSession calls fn with a connection and the canonical key of the session
// that a person named by key, id or label.
func withSession(ctx context.Context, e *Env, a *Args, fn func(l *link, key string) error) error {
	l, err := dial(ctx, e, a, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	name := a.Word(0)
	var first error
	for _, in := range []*wire.SessionsResolve{{Key: name}, {SessionID: name}, {Label: name}} {
		var found wire.SessionsResolved
		_, err := l.ask(ctx, "sessions.resolve", in, &found)
		if err == nil {
			return fn(l, found.Key)
		}
		var se *Error
		if !errors.As(err, &se) || se.Code != string(wire.CodeInvalidRequest) {
			return err // it did not look
		}
		first = cmp.Or(first, err)
	}
	return first
}

// sessionsShow prints a conversation, oldest message first.
func sessionsShow(ctx context.Context, e *Env, a *Args) error {
	limit, err := a.Int("last", 200, 1, 1000)
	if err != nil {
		return err
	}
	return withSession(ctx, e, a, func(l *link, key string) error {
		return answer(ctx, e, l, "chat.history", &wire.ChatHistory{SessionKey: key, Limit: limit}, func(_ *link, page *wire.ChatHistoryPage) error {
			if page.HasMore {
				e.Warn("older messages left out: --last shows up to 1000")
			}
			for _, raw := range page.Messages {
				var m shownMessage
				if err := wire.DecodeLoose(raw, &m); err != nil {
					return fmt.Errorf("message: %w", err)
				}
				m.print(e)
			}
			return nil
		})
	})
}

// shownMessage is a message of a transcript, as far as a person reads it.
type shownMessage struct {
	Role         string   `json:"role"`
	Content      wire.Raw `json:"content"` // text, or a list of parts
	Timestamp    int64    `json:"timestamp"`
	ToolName     string   `json:"toolName"`
	StopReason   string   `json:"stopReason"`
	ErrorMessage string   `json:"errorMessage"`
}

func (m *shownMessage) print(e *Env) {
	who := strings.TrimSpace(m.Role + " " + m.ToolName)
	if m.StopReason == "error" || m.StopReason == "aborted" {
		who += ", " + m.StopReason
	}
	head := time.UnixMilli(m.Timestamp).Format(time.DateTime) + "  " + oneLine(who)
	e.printf("%s\n%s\n\n", e.paint(e.OutTTY, bold, head), strings.TrimRight(escape(cmp.Or(m.text(), m.ErrorMessage)), "\n"))
}

func (m *shownMessage) text() string {
	var text string
	if wire.DecodeLoose(m.Content, &text) == nil {
		return text
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
		Name string `json:"name"`
	}
	if wire.DecodeLoose(m.Content, &parts) != nil {
		return ""
	}
	var lines []string
	for _, p := range parts {
		switch p.Type {
		case "text":
			lines = append(lines, p.Text)
		case "thinking":
		default:
			lines = append(lines, strings.TrimSpace("["+p.Type+" "+p.Name)+"]")
		}
	}
	return strings.Join(lines, "\n")
}

func sessionsReset(ctx context.Context, e *Env, a *Args) error {
	return withSession(ctx, e, a, func(l *link, key string) error {
		return answer(ctx, e, l, "sessions.reset", &wire.SessionsReset{Key: key}, func(*link, *wire.SessionsWereReset) error {
			return e.printf("%s begins anew; the old transcript stays on disk\n", oneLine(key))
		})
	})
}

func sessionsDelete(ctx context.Context, e *Env, a *Args) error {
	return withSession(ctx, e, a, func(l *link, key string) error {
		return answer(ctx, e, l, "sessions.delete", &wire.SessionsDelete{Key: key}, func(_ *link, gone *wire.SessionsDeleted) error {
			if !gone.Deleted {
				return &Error{Msg: "there is no session " + key}
			}
			e.printf("%s is deleted\n", oneLine(key))
			for _, path := range gone.Archived {
				e.printf("transcript kept as %s\n", oneLine(path))
			}
			return nil
		})
	})
}
