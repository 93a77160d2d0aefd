package channel

import "time"

const (
	turfSettled = 5 * time.Minute // polling for so long alone makes the poll ours
	turfForget  = time.Hour       // alone for so long, and the other one is gone
	turfReturn  = 45 * time.Second
	turfBreaks  = 3 // so often in a row not alone for long: the other one is as settled
	turfYield   = 10 * time.Minute
	turfLongest = time.Hour
)

// turf is whose the poll is when two programs have one bot's token: the network
// ends the poll of the one when the other begins. Who had it for long comes
// back soon; a newcomer tries once more, after what may have been its own last
// poll, and then leaves the field, for longer each time.
type turf struct {
	since     time.Time // of an unbroken row of polls
	settled   bool
	breaks    int // in a row
	conflicts int
}

// held notes that a poll was answered.
func (t *turf) held(now time.Time) {
	if t.since.IsZero() {
		t.since = now
	}
	t.settled = t.settled || now.Sub(t.since) >= turfSettled
	if now.Sub(t.since) >= turfForget {
		t.conflicts = 0
	}
}

// lost notes that another one polls, and returns how long to let it.
func (t *turf) lost(now time.Time) time.Duration {
	t.breaks++
	if !t.since.IsZero() && now.Sub(t.since) >= turfSettled {
		t.breaks = 0
	}
	t.since, t.settled = time.Time{}, t.settled && t.breaks < turfBreaks
	if t.settled {
		return turfReturn
	}
	t.conflicts++
	if t.conflicts == 1 {
		return pollTime + pollMargin
	}
	return min(turfYield<<min(t.conflicts-2, 10), turfLongest)
}
