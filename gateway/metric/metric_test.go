package metric

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPage is the text format's own rules: cumulative buckets up to +Inf that
// end with the count, and labels whose values hold anything.
func TestPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Work
		for _, took := range []time.Duration{0, 500 * time.Microsecond, 501 * time.Microsecond, 20 * time.Millisecond, time.Hour} {
			start := time.Now()
			time.Sleep(took)
			w.Done(start, took == time.Hour)
		}
		var p Page
		p.Family("a_seconds", Histogram, "How long.")
		p.Work(&w, "of", "x")
		p.Family("b", Gauge, "Odd labels.")
		p.Value(1.5, "one", "a\\b\"c\nd", "two", "\xff")
		p.Value(1e15)
		p.Seconds(time.UnixMilli(1234567))
		p.Seconds(time.Time{})
		want := `# HELP a_seconds How long.
# TYPE a_seconds histogram
a_seconds_bucket{of="x",le="0.0005"} 2
a_seconds_bucket{of="x",le="0.002"} 3
a_seconds_bucket{of="x",le="0.01"} 3
a_seconds_bucket{of="x",le="0.05"} 4
a_seconds_bucket{of="x",le="0.25"} 4
a_seconds_bucket{of="x",le="1"} 4
a_seconds_bucket{of="x",le="5"} 4
a_seconds_bucket{of="x",le="30"} 4
a_seconds_bucket{of="x",le="120"} 4
a_seconds_bucket{of="x",le="+Inf"} 5
a_seconds_sum{of="x"} 3600.021001
a_seconds_count{of="x"} 5
# HELP b Odd labels.
# TYPE b gauge
b{one="a\\b\"c\nd",two="` + "\uFFFD" + `"} 1.5
b 1e+15
b 1234.567
`
		if got := string(p.Text()); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if w.Failed() != 1 || !w.Any() || new(Work).Any() {
			t.Errorf("failed %d, any %v", w.Failed(), w.Any())
		}
	})
}

func TestWorkOfMany(t *testing.T) {
	var w Work
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				w.Done(time.Now(), true)
			}
		})
	}
	all.Wait()
	n := int64(0)
	for i := range w.buckets {
		n += w.buckets[i].Load()
	}
	if n != 8000 || w.Failed() != 8000 {
		t.Errorf("%d, failed %d", n, w.Failed())
	}
}
