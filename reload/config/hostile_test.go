package config

import (
	"strings"
	"testing"
	"time"
)

// TestHostile: no file of 1 MiB keeps a reader busy for longer than its size
// explains. What is quadratic takes minutes or gigabytes here, what is not,
// well under a second.
func TestHostile(t *testing.T) {
	for name, text := range map[string]string{
		"sections written twice": "{gateway:{logging:{" + manyKeys("a%05d:1,", 30000) + "}},logging:{" + manyKeys("a%05d:2,", 30000) + "}}",
		"models not listed": "{models:{providers:{p:{baseUrl:'http://h',models:[" + manyKeys("{id:'m%05d'},", 15000) +
			"]}}},agents:{defaults:{model:{fallbacks:[" + manyKeys("'p/x%05d',", 19000) + "]}}}}",
		"unknown providers": "{models:{providers:{" + manyKeys("p%05d:{},", 12000) + "}},agents:{defaults:{model:{fallbacks:[" + manyKeys("'q%05d/x',", 12000) + "]}}}}",
		"secrets":           "{x:{token:[" + manyKeys("'secret%05d',", 35000) + "]},y:[" + manyKeys("'other%05d-',", 35000) + "]}",
		"long key":          "{models:{providers:{" + strings.Repeat("a", 200_000) + ":{models:[" + manyKeys("{id:'%d'},", 8000) + "]}}}}",
		"comments":          "{x:{token:[" + manyKeys("'secret%05d',", 30000) + "]}}" + manyKeys("/*%05d*/", 60000),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			l, _ := Parse("t", []byte(text), Source{})
			hidden := Redact(l.Raw, l.Root)
			root, err := ParseJSON5(hidden)
			if err != nil && len(hidden) <= maxFile {
				t.Fatal(err)
			}
			if root != nil {
				Restore(hidden, root, l.Raw, l.Root)
			}
			if took := time.Since(start); took > 5*time.Second || l.Root == nil {
				t.Errorf("%d bytes took %v", len(text), took)
			}
		})
	}
	// Every element moved to where another was.
	old, new := "["+manyKeys("{id:'a%05d'},", 20000)+"]", "["+manyKeys("{id:'b%05d'},", 20000)+"]"
	oldRoot, _ := ParseJSON5([]byte(old))
	newRoot, err := ParseJSON5([]byte(new))
	start := time.Now()
	if err != nil || string(Restore([]byte(new), newRoot, []byte(old), oldRoot)) != new || time.Since(start) > time.Second {
		t.Error("restore:", err, time.Since(start))
	}
}
