package reload

import (
	"encoding/binary"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// record is a struct inotify_event.
func record(wd int32, mask uint32, name string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(wd))
	b = binary.NativeEndian.AppendUint32(b, mask)
	b = binary.NativeEndian.AppendUint32(b, 7) // a cookie
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	return append(b, name...)
}

func TestParseInotify(t *testing.T) {
	two := append(record(1, unix.IN_MOVED_TO, "f\x00\x00\x00"), record(2, unix.IN_ATTRIB, "")...)
	for _, tt := range []struct {
		name string
		in   []byte
		want []note
		fail bool
	}{
		{"none", nil, nil, false},
		{"two", two, []note{{1, "f", written}, {2, "", touched}}, false},
		{"overflow", record(-1, unix.IN_Q_OVERFLOW, ""), []note{{everything, "", written}}, false},
		{"full name", record(3, unix.IN_CREATE|unix.IN_ISDIR, "name"), []note{{3, "name", written}}, false},
		{"closed", record(3, unix.IN_CLOSE_WRITE, "f\x00"), []note{{3, "f", touched}}, false},
		{"self", record(3, unix.IN_DELETE_SELF, ""), []note{{3, "", touched}}, false},
		{"ignored", record(3, unix.IN_IGNORED, ""), []note{{3, "", touched}}, false},
		{"half a record", two[:10], nil, true},
		{"half a name", two[:18], nil, true},
		{"half of the second", two[:len(two)-1], nil, true},
	} {
		got, err := parseInotify(tt.in)
		if !reflect.DeepEqual(got, tt.want) || (err != nil) != tt.fail {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}

// An inode has one handle by whatever path, a dropped one none, and close ends
// a wait.
func TestInotify(t *testing.T) {
	root := tree(t, "d", "d/f=x", "g")
	k, err := openKernel()
	must(t, err)
	one, err := k.add(root+"/d", true)
	must(t, err)
	same, err := k.add(root+"/g/../d", true)
	must(t, err)
	file, err := k.add(root+"/d/f", false)
	must(t, err)
	if one != same || one == file {
		t.Errorf("handles %d, %d of one directory, %d of a file", one, same, file)
	}
	if _, err := k.add(root+"/d/f", true); !gone(err) {
		t.Errorf("a file as a directory: %v", err)
	}
	if _, err := k.add(root+"/missing", true); !gone(err) {
		t.Errorf("a missing directory: %v", err)
	}
	k.drop(file)
	k.drop(file)
	must(t, os.Rename(root+"/d", root+"/e"))
	notes, err := k.wait()
	must(t, err)
	for _, n := range notes {
		if n != (note{handle: file, event: touched}) && n != (note{handle: one, event: touched}) {
			t.Errorf("note %+v", n)
		}
	}
	ended := make(chan error)
	go func() {
		for {
			if _, err := k.wait(); err != nil {
				ended <- err
				return
			}
		}
	}()
	k.close()
	if err := <-ended; err == nil {
		t.Error("a wait without an end")
	}
	if _, err := k.add(root, true); err == nil || exhausted(err) {
		t.Errorf("add after close: %v", err)
	}
}
