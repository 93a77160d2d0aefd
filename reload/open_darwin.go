package reload

import "golang.org/x/sys/unix"

// openFlags: for events only, which does not keep a volume from being unmounted.
const openFlags = unix.O_EVTONLY
