package proc

import "math"

// Unlimited is a bound that there is not.
const Unlimited = math.MaxInt64

// Facts are the bounds and walls of a running process.
type Facts struct {
	Stopped      bool  // by a signal: it does nothing until SIGCONT
	Replaced     bool  // the file of the program that it runs has gone from the disk
	NoNewPrivs   bool  // it can never gain privileges (PR_SET_NO_NEW_PRIVS)
	OpenFiles    int64 // soft limits, Unlimited where there is none
	AddressSpace int64
	Processes    int64
	Memory       int64 // of its control group and those above
}
