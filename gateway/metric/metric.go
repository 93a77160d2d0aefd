// Package metric counts what a process does and writes it as Prometheus reads
// it (text format, version 0.0.4).
package metric

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ContentType is what a page is served as.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// bounds are the upper ends of a Work's buckets, from the cheapest request to a
// long turn.
var bounds = [...]time.Duration{
	500 * time.Microsecond, 2 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond,
	time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute,
}

// Work counts and times one kind of work. The zero value is ready, and many may
// use it at once: no step waits for another.
type Work struct {
	buckets [len(bounds) + 1]atomic.Int64 // how often, by how long; the last is for what took longer
	sum     atomic.Int64                  // nanoseconds
	failed  atomic.Int64
}

// Done notes a piece of work that began at start and has ended now.
func (w *Work) Done(start time.Time, failed bool) {
	took := time.Since(start)
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	w.buckets[i].Add(1)
	w.sum.Add(int64(took))
	if failed {
		w.failed.Add(1)
	}
}

// Failed is how often it failed.
func (w *Work) Failed() int64 { return w.failed.Load() }

// Any reports whether there was any.
func (w *Work) Any() bool {
	for i := range w.buckets {
		if w.buckets[i].Load() > 0 {
			return true
		}
	}
	return false
}

// A Kind is what a family's values mean.
type Kind string

// The kinds of families.
const (
	Counter   Kind = "counter" // only grows, until the process ends
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Page is a text that Prometheus reads.
type Page struct {
	text []byte
	name string // of the family
}

// Family begins the values of one name.
func (p *Page) Family(name string, kind Kind, help string) {
	p.name = name
	p.text = append(p.text, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+string(kind)+"\n"...)
}

// Value is one of the family's, with labels as names and values in turn.
func (p *Page) Value(v float64, labels ...string) { p.line("", v, labels) }

// Seconds is a moment as seconds since 1970; what has not been is left out.
func (p *Page) Seconds(at time.Time, labels ...string) {
	if !at.IsZero() {
		p.Value(float64(at.UnixMilli())/1000, labels...)
	}
}

// Work is a histogram of what a Work has timed, in seconds.
func (p *Page) Work(w *Work, labels ...string) {
	labels = labels[:len(labels):len(labels)]
	total := int64(0)
	for i := range w.buckets {
		total += w.buckets[i].Load()
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i].Seconds(), 'g', -1, 64)
		}
		p.line("_bucket", float64(total), append(labels, "le", le))
	}
	p.line("_sum", time.Duration(w.sum.Load()).Seconds(), labels)
	p.line("_count", float64(total), labels)
}

// escape is what the format wants in the value of a label.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (p *Page) line(suffix string, v float64, labels []string) {
	p.text = append(append(p.text, p.name...), suffix...)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		p.text = append(append(p.text, sep), labels[i]...)
		p.text = append(append(append(p.text, `="`...), escape.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD"))...), '"')
	}
	if len(labels) > 0 {
		p.text = append(p.text, '}')
	}
	p.text = strconv.AppendFloat(append(p.text, ' '), v, 'g', -1, 64)
	p.text = append(p.text, '\n')
}

// Text is the page so far.
func (p *Page) Text() []byte { return p.text }
