package sandbox

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// census bounds the processes and threads of a tree. RLIMIT_NPROC cannot: it
// counts a user's, and root's not at all. So each call that makes one waits for
// the keeper's word. With the keeper dead there is no word, the kernel answers
// ENOSYS, and nothing that may be left of the tree grows any more.
type census struct {
	most, counted uint64
	full          time.Time // when a count last found no room
}

// recount is how long a tree that was full is taken to be: a bomb is not to
// have the keeper do nothing but count.
const recount = 20 * time.Millisecond

// admit reports whether there may be one more. Calls that were let through and
// have not happened yet are missed by a count, one for each thread at the most:
// no tree has twice of what it may.
func (c *census) admit() bool {
	if c.counted >= c.most {
		if time.Since(c.full) < recount {
			return false
		}
		n, err := population()
		if err != nil || n >= c.most {
			c.full = time.Now()
			return false
		}
		c.counted = n
	}
	c.counted++
	return true
}

// population counts the threads of all processes in this thread's Landlock
// domain, in which the tree is and nothing else: only they can be signalled
// (enclose). Those that have ended count until they have been waited for.
func population() (n uint64, err error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() || unix.Kill(pid, 0) != nil {
			continue
		}
		n++
		var st unix.Stat_t // of a directory with one in it for each thread
		if unix.Stat("/proc/"+name+"/task", &st) == nil && st.Nlink > 3 {
			n += uint64(st.Nlink) - 3
		}
	}
	return n, nil
}
