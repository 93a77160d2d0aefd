package sandbox

import (
	"testing"
)

func TestProbe(t *testing.T) {
	for _, l := range Probe() {
		if !l.On {
			t.Errorf("%s: %s", l.Name, l.Detail)
		}
		t.Logf("%+v", l)
	}
}
