package channel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"openclaw/gateway/store"
)

const (
	journalLimit   = 512 << 20 // bytes that are read at start
	compactAt      = 4 << 20   // bytes after which the journal is written anew
	keptSeen       = 10_000    // ids of inbound messages that are recognised
	maxQueue       = 1000      // messages that wait to be sent
	maxWaiting     = 1000      // inbound messages that wait for their reply; then the network waits
	keptUncertain  = 100
	uncertainCrash = "the gateway ended while this was being sent; it may have arrived"
)

// journal is what must survive of an account: what came and has no reply yet,
// what is to be sent, and how far the network was read. Every change is a line
// of a file before anybody acts on it. An outbound message is queued, then
// sending, then sent: one that is found as sending at start may have arrived,
// and nobody sends it again.
type journal struct {
	file *store.Journal

	mu        sync.Mutex
	offset    int64
	waiting   []Inbound // in order of arrival
	seen      map[string]bool
	order     []string // of seen
	queue     []*queued
	uncertain []Uncertain
	previews  map[string]string // messages that show an answer that grows, by what it answers
}

type queued struct {
	out     Outbound
	sending bool
	done    func(Sent, error) // of who waits for it; may be nil
}

// Uncertain is a message of which nobody knows whether it arrived.
type Uncertain struct {
	ID  string `json:"id"`
	To  string `json:"to"`
	Why string `json:"why"`
}

// entry is one line. What is not empty, happened.
type entry struct {
	Offset    int64      `json:"offset,omitempty"`
	In        *Inbound   `json:"in,omitempty"`
	Done      string     `json:"done,omitempty"` // the inbound message has its reply
	Out       []Outbound `json:"out,omitempty"`
	Sending   string     `json:"sending,omitempty"`
	Again     string     `json:"again,omitempty"` // was not sent after all
	Sent      string     `json:"sent,omitempty"`  // or refused for good
	Uncertain *Uncertain `json:"uncertain,omitempty"`
	Seen      []string   `json:"seen,omitempty"`
	Preview   *preview   `json:"preview,omitempty"`
	Anew      string     `json:"anew,omitempty"` // is sent, as there is nothing that it could be an edit of
}

// preview is a message that the answer to an inbound one will take the place of.
type preview struct {
	In      string `json:"in"`
	Message string `json:"message"`
}

func openJournal(dir *store.Dir, name string) (*journal, error) {
	j := &journal{seen: map[string]bool{}, previews: map[string]string{}}
	var broken error
	f, err := dir.OpenJournal("channels/"+name+".journal", journalLimit, func(line []byte) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			broken = fmt.Errorf("channels/%s.journal: a line cannot be read: %w", name, err)
			return
		}
		j.apply(&e)
	})
	if err != nil {
		return nil, err
	}
	if broken != nil { // what it said is lost either way; what stands around it is not
		j.uncertain = append(j.uncertain, Uncertain{Why: broken.Error()})
	}
	j.file = f
	for i := range j.waiting {
		j.waiting[i].Again = true
	}
	var crashed []entry
	for _, q := range j.queue {
		switch {
		case q.sending && q.out.Edit != "": // which may be done twice
			crashed = append(crashed, entry{Again: q.out.ID})
		case q.sending:
			crashed = append(crashed, entry{Uncertain: &Uncertain{ID: q.out.ID, To: q.out.To, Why: uncertainCrash}})
		}
	}
	if err := j.write(crashed...); err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

// write stores entries, all or none, and then acts on them.
func (j *journal) write(entries ...entry) error {
	if len(entries) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	lines, err := encode(entries)
	if err != nil {
		return err
	}
	if err := j.file.Append(lines); err != nil {
		return err
	}
	for i := range entries {
		j.apply(&entries[i])
	}
	if size := j.file.Size(); size > compactAt && size > 2*j.weight()+compactAt {
		if lines, err := encode(j.state()); err == nil {
			return j.file.Rewrite(lines)
		}
	}
	return nil
}

// weight is about how many bytes what must be kept takes.
func (j *journal) weight() (n int64) {
	for i := range j.waiting {
		n += int64(len(j.waiting[i].Text)) + filesSize(j.waiting[i].Files)
	}
	for _, q := range j.queue {
		n += int64(len(q.out.Text)) + filesSize(q.out.Files)
	}
	return n
}

func filesSize(files []File) (n int64) {
	for _, f := range files {
		n += int64(len(f.Data)) * 4 / 3
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
	all := []entry{{Offset: j.offset, Seen: j.order}}
	for i := range j.waiting {
		all = append(all, entry{In: &j.waiting[i]})
	}
	for in, message := range j.previews {
		all = append(all, entry{Preview: &preview{in, message}})
	}
	for _, u := range j.uncertain {
		all = append(all, entry{Uncertain: &u})
	}
	for _, q := range j.queue {
		all = append(all, entry{Out: []Outbound{q.out}})
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
		j.waiting = append(j.waiting, *e.In)
	}
	if p := e.Preview; p != nil {
		j.previews[p.In] = p.Message
	}
	if e.Done != "" {
		delete(j.previews, e.Done)
		j.waiting = slices.DeleteFunc(j.waiting, func(m Inbound) bool { return m.ID == e.Done })
	}
	for _, out := range e.Out {
		j.queue = append(j.queue, &queued{out: out})
	}
	for _, mark := range []struct {
		id string
		on bool
	}{{e.Sending, true}, {e.Again, false}} {
		for _, q := range j.queue {
			if mark.id != "" && q.out.ID == mark.id {
				q.sending = mark.on
			}
		}
	}
	for _, q := range j.queue {
		if e.Anew != "" && q.out.ID == e.Anew {
			q.out.Edit = ""
		}
	}
	gone := e.Sent
	if e.Uncertain != nil {
		gone = e.Uncertain.ID
		j.uncertain = append(j.uncertain, *e.Uncertain)
		j.uncertain = slices.Delete(j.uncertain, 0, max(0, len(j.uncertain)-keptUncertain))
	}
	if gone != "" {
		j.queue = slices.DeleteFunc(j.queue, func(q *queued) bool { return q.out.ID == gone })
	}
}

func (j *journal) see(id string) {
	if !j.seen[id] {
		j.seen[id] = true
		j.order = append(j.order, id)
	}
	if len(j.order) > keptSeen+keptSeen/4 {
		for _, old := range j.order[:len(j.order)-keptSeen] {
			delete(j.seen, old)
		}
		j.order = slices.Clone(j.order[len(j.order)-keptSeen:])
	}
}

func (j *journal) known(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seen[id]
}

// preview is the message that shows the answer to an inbound one so far, if any.
func (j *journal) preview(in string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.previews[in]
}

// counts are the lengths of the three lists.
func (j *journal) counts() (waiting, queue, uncertain int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waiting), len(j.queue), len(j.uncertain)
}
