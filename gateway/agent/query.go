package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// Query selects sessions. Zero fields do not.
type Query struct {
	AgentID        string
	Label          string
	SpawnedBy      string
	Search         string // in key, label and display name, without regard to case
	Since          time.Time
	IncludeGlobal  bool
	IncludeUnknown bool
	Offset, Limit  int // 0 is no limit

	// These read transcripts; at most maxDescribed rows have them.
	DerivedTitles bool
	LastMessage   bool
}

// Info is one session, as listed.
type Info struct {
	Key, AgentID, Kind string
	store.Entry
	Provider, Model string // that the next turn would ask
	ContextTokens   int64
	Title           string
	LastMessage     string
}

const (
	maxDescribed   = 200
	maxTitle       = 60  // characters
	maxLastMessage = 200 // characters
)

// CanonicalKey is the session key that key and agentID mean, and the agent it
// belongs to.
func (a *Agents) CanonicalKey(key, agentID string) (canonical, agent string, err error) {
	to, err := resolve(a.config(), key, agentID)
	return to.key, to.agent, err
}

// List returns the sessions that q selects, the last updated first, and how
// many there are without Offset and Limit.
func (a *Agents) List(q Query) (rows []Info, total int, err error) {
	type row struct {
		Info
		agent config.ResolvedAgent
		index *store.Sessions
	}
	var all []*row
	err = a.indexes(q.AgentID, func(agent config.ResolvedAgent, index *store.Sessions) bool {
		for _, e := range index.List() {
			if q.selects(&e) {
				all = append(all, &row{Info{Key: e.Key, AgentID: agent.ID, Kind: keyKind(e.Key), Entry: e.Entry}, agent, index})
			}
		}
		return true
	})
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(all, func(x, y *row) int {
		return cmp.Or(cmp.Compare(y.UpdatedAt, x.UpdatedAt), strings.Compare(x.Key, y.Key))
	})
	total = len(all)
	all = all[min(max(q.Offset, 0), total):]
	if q.Limit > 0 {
		all = all[:min(q.Limit, len(all))]
	}
	for i, r := range all {
		if m, err := a.config().Model(a.sessionModel(r.agent, r.Entry)); err == nil {
			r.Provider, r.Model, r.ContextTokens = m.Provider, m.ID, int64(m.ContextWindow)
		}
		if (q.DerivedTitles || q.LastMessage) && i < maxDescribed {
			title, last := a.describe(r.index, &r.Info)
			if q.DerivedTitles {
				r.Title = cmp.Or(r.DisplayName, title)
			}
			if q.LastMessage {
				r.LastMessage = last
			}
		}
		rows = append(rows, r.Info)
	}
	return rows, total, nil
}

// indexes calls fn with the session index of each agent, or of one, until fn
// returns false.
func (a *Agents) indexes(agentID string, fn func(config.ResolvedAgent, *store.Sessions) bool) error {
	for _, agent := range a.config().AgentList() {
		if agentID != "" && normalAgentID(agentID) != agent.ID {
			continue
		}
		index, err := a.dir.Sessions(agent.ID)
		if err != nil {
			return err
		}
		if !fn(agent, index) {
			break
		}
	}
	return nil
}

func (q *Query) selects(e *store.Keyed) bool {
	switch kind := keyKind(e.Key); {
	case kind == KindGlobal && !q.IncludeGlobal, kind == KindUnknown && !q.IncludeUnknown,
		q.Label != "" && e.Label != q.Label,
		q.SpawnedBy != "" && e.SpawnedBy != q.SpawnedBy,
		!q.Since.IsZero() && e.UpdatedAt < q.Since.UnixMilli():
		return false
	}
	if q.Search == "" {
		return true
	}
	search := strings.ToLower(q.Search)
	for _, text := range []string{e.Key, e.Label, e.DisplayName, e.SessionID} {
		if strings.Contains(strings.ToLower(text), search) {
			return true
		}
	}
	return false
}

// description is what List tells of a transcript, as of the entry's updatedAt.
type description struct {
	updatedAt   int64
	title, last string
}

// describe returns a session's title and last message, remembered until the
// session changes.
func (a *Agents) describe(index *store.Sessions, r *Info) (title, last string) {
	a.mu.Lock()
	d, ok := a.described[r.SessionID]
	a.mu.Unlock()
	if ok && d.updatedAt == r.UpdatedAt {
		return d.title, d.last
	}
	d = description{updatedAt: r.UpdatedAt}
	records := a.readTranscript(index, r.SessionID)
	if records == nil {
		return "", ""
	}
	for _, rec := range records {
		if rec.Type != store.TypeMessage || rec.Message.Role == store.RoleToolResult {
			continue
		}
		text := strings.TrimSpace(rec.Message.Content.String())
		if text == "" {
			continue
		}
		if d.title == "" && rec.Message.Role == store.RoleUser {
			d.title = firstLine(text)
		}
		d.last = text
	}
	d.last = cutText(d.last, maxLastMessage)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.described) >= 5*maxDescribed {
		clear(a.described)
	}
	a.described[r.SessionID] = d
	return d.title, d.last
}

// readTranscript reads the transcript of a session that need not be in use. One
// that cannot be read is as good as empty.
func (a *Agents) readTranscript(index *store.Sessions, id string) []store.Record {
	t, err := index.Transcript(store.Entry{SessionID: id})
	if err == nil {
		defer t.Close()
		var records []store.Record
		if records, _, err = t.Load(); err == nil {
			return records
		}
	}
	a.log.Warn("transcript was not read", "session", id, "err", err)
	return nil
}

// firstLine is the first line of a text, cut at a word.
func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	text = strings.Join(strings.Fields(text), " ")
	short := cutText(text, maxTitle)
	if short != text {
		if i := strings.LastIndexByte(short, ' '); i > maxTitle/2 {
			short = short[:i] + "…"
		}
	}
	return short
}

// cutText shortens a text to n characters, the last of which tells it.
func cutText(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	at := 0
	for range n - 1 {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return s[:at] + "…"
}

// Entry returns what the index knows of a session, and its canonical key.
func (a *Agents) Entry(key string) (string, store.Entry, error) {
	to, err := resolve(a.config(), key, "")
	if err != nil {
		return "", store.Entry{}, err
	}
	index, err := a.index(to)
	if err != nil {
		return "", store.Entry{}, err
	}
	e, ok := index.Get(to.key)
	if !ok {
		err = unknownSession(key)
	}
	return to.key, e, err
}

// index is the session index that holds to. Only a configured agent has one:
// asking must not make directories.
func (a *Agents) index(to address) (*store.Sessions, error) {
	if _, ok := a.config().Agent(to.home); !ok {
		return nil, refuse(ErrUnknownAgent, "unknown agent id %q", to.home)
	}
	return a.dir.Sessions(to.home)
}

func unknownSession(key string) error { return refuse(ErrUnknownSession, "no session found: %s", key) }

// sessionModel is the model that a session's next turn asks first.
func (a *Agents) sessionModel(agent config.ResolvedAgent, e store.Entry) string {
	if e.ModelOverride != "" {
		ref := e.ProviderOverride + "/" + e.ModelOverride
		if _, err := a.config().Model(ref); err == nil {
			return ref
		}
	}
	return agent.Primary
}

// History is a session's conversation.
type History struct {
	Key       string // canonical
	SessionID string // "" when there is no such session
	Messages  []store.Record
	Total     int // messages there are
}

// History returns up to limit messages, the newest, without the offset newest
// ones, in the order in which they were said. A session that does not exist
// has none.
func (a *Agents) History(key string, limit, offset int) (h History, err error) {
	to, err := a.at(key, func(s *session) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		defer s.idleLocked()
		if ok, err := s.load(false); err != nil || !ok {
			return err
		}
		h.SessionID, h.Total = s.sessionID, len(s.records)
		end := max(h.Total-max(offset, 0), 0)
		h.Messages = s.records[max(end-max(limit, 0), 0):end:end]
		return nil
	})
	h.Key = to.key
	return h, err
}

// PreviewItem is one message, cut short.
type PreviewItem struct{ Role, Text string }

// Preview returns the last messages of a session that have text, and its
// status: ok, empty, missing or error.
func (a *Agents) Preview(key string, limit, maxChars int) (status string, items []PreviewItem) {
	h, err := a.History(key, 1<<30, 0)
	switch {
	case err != nil:
		return "error", nil
	case h.SessionID == "":
		return "missing", nil
	}
	for i := len(h.Messages) - 1; i >= 0 && len(items) < limit; i-- {
		m := h.Messages[i].Message
		if text := strings.TrimSpace(m.Content.String()); text != "" {
			items = append(items, PreviewItem{m.Role, cutText(text, maxChars)})
		}
	}
	if len(items) == 0 {
		return "empty", nil
	}
	slices.Reverse(items)
	return "ok", items
}

// Resolve finds an existing session by key, session id or label, whichever is
// given, and returns its key.
func (a *Agents) Resolve(key, sessionID, label, agentID string) (found string, err error) {
	if key != "" {
		found, _, err = a.Entry(key)
		return found, err
	}
	err = a.indexes(agentID, func(_ config.ResolvedAgent, index *store.Sessions) bool {
		if sessionID != "" {
			found, _ = index.KeyOf(sessionID)
			return found == ""
		}
		list := index.List()
		if i := slices.IndexFunc(list, func(e store.Keyed) bool { return label != "" && e.Label == label }); i >= 0 {
			found = list[i].Key
		}
		return found == ""
	})
	if err == nil && found == "" {
		err = unknownSession(cmp.Or(sessionID, label))
	}
	return found, err
}

// Identity is who an agent says it is.
type Identity struct{ AgentID, Name, Avatar, Emoji string }

// Identity returns the agent's configured name, else what its IDENTITY.md
// says, else a plain default.
func (a *Agents) Identity(agentID, sessionKey string) (Identity, error) {
	to, err := resolve(a.config(), sessionKey, agentID)
	if err != nil {
		return Identity{}, err
	}
	agent, ok := a.config().Agent(to.agent)
	if !ok {
		return Identity{}, refuse(ErrUnknownAgent, "unknown agent id %q", to.agent)
	}
	id := Identity{AgentID: agent.ID}
	if agent.Name != agent.ID {
		id.Name = agent.Name
	}
	for _, f := range workspaceFiles(a.workspace(agent)) {
		if f.name != "IDENTITY.md" {
			continue
		}
		for line := range strings.Lines(f.text) {
			field, value, _ := strings.Cut(strings.Trim(line, " \t\r\n-*"), ":")
			value = cutText(strings.Trim(value, " \t*_"), maxTitle)
			switch strings.ToLower(strings.Trim(field, "*_ ")) {
			case "name":
				id.Name = cmp.Or(id.Name, value)
			case "emoji":
				id.Emoji = value
			case "avatar":
				id.Avatar = value
			}
		}
	}
	id.Name = cmp.Or(id.Name, "Assistant")
	first, _ := utf8.DecodeRuneInString(id.Name)
	id.Avatar = cmp.Or(id.Avatar, strings.ToUpper(string(first)))
	return id, nil
}
