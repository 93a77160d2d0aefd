package gateway

import (
	"io"
	"time"
)

// stderrPatience is how long a line waits for a stderr that nobody reads.
const stderrPatience = time.Second

// patientWriter writes lines to a pipe, terminal or journal that may block for
// ever, from a goroutine of its own. While a write does not come back the lines
// after it are dropped, and counted in a notice once it does: a full pipe costs
// lines and one wait, not the gateway. The owner serialises calls.
type patientWriter struct {
	w       io.Writer
	notice  func(dropped int) []byte
	lines   chan []byte   // nil before the first line
	done    chan struct{} // holds a token for each write that came back
	timer   *time.Timer
	line    []byte // being written
	busy    bool
	dropped int
}

// Write reports every line as written: nobody could do anything about it.
func (p *patientWriter) Write(line []byte) (int, error) {
	if p.lines == nil {
		p.lines, p.done, p.timer = make(chan []byte), make(chan struct{}, 1), time.NewTimer(stderrPatience)
		go p.run(p.lines)
	}
	if p.busy {
		select {
		case <-p.done:
			p.busy = false
		default:
			p.dropped++
			return len(line), nil
		}
	}
	p.line = p.line[:0]
	if p.dropped > 0 {
		p.line = append(p.line, p.notice(p.dropped)...)
		p.dropped = 0
	}
	p.line = append(p.line, line...)
	p.lines <- p.line
	p.timer.Reset(stderrPatience)
	select {
	case <-p.done:
	case <-p.timer.C:
		p.busy = true
	}
	return len(line), nil
}

func (p *patientWriter) run(lines <-chan []byte) {
	for line := range lines {
		p.w.Write(line)
		p.done <- struct{}{}
	}
}

// close ends the goroutine, once its last write comes back.
func (p *patientWriter) close() {
	if p.lines != nil {
		close(p.lines)
	}
}
