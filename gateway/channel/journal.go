package channel

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"openclaw/gateway/store"
)

const (
	journalLimit   = 512 << 20 // bytes that are read at start; never as many are written
	compactAt      = 512 << 10 // bytes after which the journal is written anew; a start reads as many and more
	keptSeen       = 10_000    // ids of inbound messages that are recognised
	maxQueue       = 1000      // messages that wait to be sent
	maxWaiting     = 1000      // inbound messages that wait for their reply; then the network waits
	maxOfChat      = 50        // of one chat, either and both; then its messages are left out
	maxHeld        = 64 << 20  // bytes of either
	keptUncertain  = 100       // that are listed; all are counted
	uncertainCrash = "the gateway ended while this was being sent; it may have arrived"
)

// journal is what must survive of an account: what came and has no reply yet,
// what is to be sent, and how far the network was read. Every change is a line
// of a file before anybody acts on it. An outbound message is queued, then
// sending, then sent: one that is found as sending at start may have arrived,
// and nobody sends it again.
type journal struct {
	file *store.Journal
	less chan struct{} // something has its reply, or was sent

	disk sync.Mutex // held while the file changes, which readers of the rest need not wait for
	next int64      // size at which writing it anew is tried again, after an error

	mu        sync.Mutex
	offset    int64
	waiting   held[*Inbound] // in order of arrival
	seen      map[string]bool
	order     []string // of seen
	seenBytes int
	queue     held[*queued]
	uncertain []Uncertain       // the last of all
	previews  map[string]string // messages that show an answer that grows, by what it answers
	unsure    int               // how many there ever were, since an operator cleared them
}

// held is a list that knows its weight.
type held[T interface{ weight() int }] struct {
	list  []T
	bytes int
}

func (h *held[T]) add(one T) {
	h.list = append(h.list, one)
	h.bytes += one.weight()
}

func (h *held[T]) remove(gone func(T) bool) {
	h.list = slices.DeleteFunc(h.list, func(one T) bool {
		if !gone(one) {
			return false
		}
		h.bytes -= one.weight()
		return true
	})
}

func (h *held[T]) full(limit int) bool { return len(h.list) >= limit || h.bytes >= maxHeld }

type queued struct {
	out     Outbound
	sending bool
	failing int64  // since when, in milliseconds, it is tried in vain; 0 = it was not tried
	why     string // of the last time
}

func (m *Inbound) weight() int { return len(m.Text) + len(m.Quote) + filesWeight(m.Files) }
func (q *queued) weight() int  { return len(q.out.Text) + filesWeight(q.out.Files) }

func filesWeight(files []File) (n int) {
	for _, f := range files {
		n += len(f.Data)
	}
	return n
}

// Uncertain is a message of which nobody knows whether it arrived.
type Uncertain struct {
	ID  string `json:"id"`
	To  string `json:"to"`
	Why string `json:"why"`
	At  int64  `json:"at,omitempty"` // milliseconds
}

// entry is one line. What is not empty, happened.
type entry struct {
	Offset    int64      `json:"offset,omitempty"`
	In        *Inbound   `json:"in,omitempty"`
	Done      string     `json:"done,omitempty"` // the inbound message has its reply
	Out       []Outbound `json:"out,omitempty"`
	Sending   string     `json:"sending,omitempty"`
	Again     string     `json:"again,omitempty"` // was not sent after all
	At        int64      `json:"at,omitempty"`    // when that was, in milliseconds
	Sent      string     `json:"sent,omitempty"`  // or refused for good
	Uncertain *Uncertain `json:"uncertain,omitempty"`
	Unsure    int        `json:"unsure,omitempty"`  // uncertain ones that are no longer listed
	Cleared   bool       `json:"cleared,omitempty"` // by an operator, who knows of the uncertain ones
	Seen      []string   `json:"seen,omitempty"`
	Preview   *preview   `json:"preview,omitempty"`
	Anew      string     `json:"anew,omitempty"` // is sent, as there is nothing that it could be an edit of
}

// preview is a message that the answer to an inbound one will take the place of.
type preview struct {
	In      string `json:"in"`
	Message string `json:"message"`
}

// openJournal reads a journal and returns also what was being sent when the
// gateway ended.
func openJournal(dir *store.Dir, name string) (_ *journal, crashed []entry, err error) {
	j := &journal{seen: map[string]bool{}, previews: map[string]string{}, less: make(chan struct{}, 1)}
	told := false // the operator has yet to clear that a line could not be read
	f, err := dir.OpenJournal("channels/"+name+".journal", journalLimit, func(line []byte) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			if told { // what it said is lost either way; what stands around it is not
				return
			}
			told, e = true, entry{Uncertain: &Uncertain{Why: fmt.Sprintf("channels/%s.journal: a line cannot be read: %s", name, err)}}
		}
		told = told && !e.Cleared
		j.apply(&e)
	})
	if err != nil {
		return nil, nil, err
	}
	j.file = f
	for _, m := range j.waiting.list {
		m.Again = true
	}
	var again []entry
	for _, q := range j.queue.list {
		switch {
		case q.sending && q.out.Edit != "": // which may be done twice
			again = append(again, entry{Again: q.out.ID})
		case q.sending:
			crashed = append(crashed, entry{Uncertain: &Uncertain{ID: q.out.ID, To: q.out.To, Why: uncertainCrash, At: time.Now().UnixMilli()}})
		}
	}
	if err := j.write(append(again, crashed...)...); err != nil {
		f.Close()
		return nil, nil, err
	}
	return j, crashed, nil
}

// write stores entries, all or none, and then acts on them.
func (j *journal) write(entries ...entry) error {
	if len(entries) == 0 {
		return nil
	}
	lines, err := encode(entries)
	if err != nil {
		return err
	}
	j.disk.Lock()
	defer j.disk.Unlock()
	if err := j.file.Append(lines); err != nil {
		return err
	}
	j.mu.Lock()
	for i := range entries {
		j.apply(&entries[i])
	}
	size := j.file.Size()
	anew := size > compactAt && size > j.next && size > 2*j.weight()+compactAt
	if anew {
		lines, err = encode(j.state())
	}
	j.mu.Unlock()
	poke(j.less)
	if anew && err == nil {
		j.next = 0
		if j.file.Rewrite(lines) != nil { // the entries are stored all the same
			j.next = size + compactAt
		}
	}
	return nil
}

// weight is about how many bytes what must be kept takes in the file.
func (j *journal) weight() int64 {
	return int64(j.waiting.bytes+j.queue.bytes)*4/3 + int64(j.seenBytes)
}

// room reports whether more may be let in: whether neither too much has no reply
// yet nor too much is not sent.
func (j *journal) room() (answered, sent bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.waiting.full(maxWaiting), !j.queue.full(maxQueue)
}

// load is how many messages of each chat wait, for their reply or to be sent.
func (j *journal) load() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := map[string]int{}
	for _, m := range j.waiting.list {
		n[m.Chat]++
	}
	for _, q := range j.queue.list {
		n[q.out.To]++
	}
	return n
}

// unsent is how many messages to a chat wait to be sent.
func (j *journal) unsent(chat string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, q := range j.queue.list {
		if q.out.To == chat {
			n++
		}
	}
	return n
}

func encode(entries []entry) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range entries {
		if err := enc.Encode(&entries[i]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// state is entries that lead to what is now.
func (j *journal) state() []entry {
	all := []entry{{Offset: j.offset, Seen: j.order, Unsure: j.unsure - len(j.uncertain)}}
	for _, m := range j.waiting.list {
		all = append(all, entry{In: m})
	}
	for in, message := range j.previews {
		all = append(all, entry{Preview: &preview{in, message}})
	}
	for _, u := range j.uncertain {
		all = append(all, entry{Uncertain: &u})
	}
	for _, q := range j.queue.list {
		all = append(all, entry{Out: []Outbound{q.out}})
		if q.failing != 0 {
			all = append(all, entry{Again: q.out.ID, At: q.failing})
		}
		if q.sending {
			all = append(all, entry{Sending: q.out.ID})
		}
	}
	return all
}

// apply makes what an entry says so.
func (j *journal) apply(e *entry) {
	for _, id := range e.Seen {
		j.see(id)
	}
	if e.Offset != 0 {
		j.offset = e.Offset
	}
	if e.In != nil {
		j.see(e.In.ID)
		j.waiting.add(e.In)
	}
	if p := e.Preview; p != nil {
		j.previews[p.In] = p.Message
	}
	if e.Done != "" {
		delete(j.previews, e.Done)
		j.waiting.remove(func(m *Inbound) bool { return m.ID == e.Done })
	}
	for _, out := range e.Out {
		j.queue.add(&queued{out: out})
	}
	for _, q := range j.queue.list {
		switch q.out.ID {
		case e.Sending:
			q.sending = true
		case e.Again:
			q.sending, q.failing = false, cmp.Or(q.failing, e.At)
		case e.Anew:
			q.out.Edit = ""
		}
	}
	if e.Cleared {
		j.uncertain, j.unsure = nil, 0
	}
	j.unsure += e.Unsure
	gone := e.Sent
	if e.Uncertain != nil {
		gone = e.Uncertain.ID
		j.unsure++
		j.uncertain = append(j.uncertain, *e.Uncertain)
		j.uncertain = slices.Delete(j.uncertain, 0, max(0, len(j.uncertain)-keptUncertain))
	}
	if gone != "" {
		j.queue.remove(func(q *queued) bool { return q.out.ID == gone })
	}
}

func (j *journal) see(id string) {
	if !j.seen[id] {
		j.seen[id] = true
		j.order = append(j.order, id)
		j.seenBytes += len(id)
	}
	if len(j.order) > keptSeen+keptSeen/4 {
		for _, old := range j.order[:len(j.order)-keptSeen] {
			delete(j.seen, old)
			j.seenBytes -= len(old)
		}
		j.order = slices.Clone(j.order[len(j.order)-keptSeen:])
	}
}

// stuck is how many chats' next message is tried in vain for stuckAfter now,
// since when the first, and why.
func (j *journal) stuck(now time.Time) (chats int, since time.Time, why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, q := range j.queue.list { // none but a chat's next has been tried
		if at := time.UnixMilli(q.failing); q.failing != 0 && now.Sub(at) >= stuckAfter {
			if chats++; since.IsZero() || at.Before(since) {
				since, why = at, q.why
			}
		}
	}
	return chats, since, why
}

// preview is the message that shows the answer to an inbound one so far, if any.
func (j *journal) preview(in string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.previews[in]
}

func (j *journal) known(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seen[id]
}
