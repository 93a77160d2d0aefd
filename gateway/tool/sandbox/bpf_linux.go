//go:build amd64 || arm64

package sandbox

import (
	"errors"

	"golang.org/x/sys/unix"
)

// program is a classic BPF program for seccomp(2) in the making. Between its
// methods the accumulator holds the number of the system call, but within the
// function given to call.
type program struct {
	code []unix.SockFilter
	err  error
}

// argument is the offset of the low half of a system call's argument in
// seccomp_data; both architectures have it first. The kernel looks at no more
// of those that are judged here.
func argument(i int) uint32 { return uint32(16 + 8*i) }

func (p *program) add(code uint16, jt, jf uint8, k uint32) {
	p.code = append(p.code, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
}

func (p *program) load(offset uint32) { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, offset) }
func (p *program) ret(result uint32)  { p.add(unix.BPF_RET|unix.BPF_K, 0, 0, result) }

// result returns if the accumulator is k, unless if it does not compare so.
func (p *program) result(k, result uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 1, k)
	p.ret(result)
}

func (p *program) unless(compare uint16, k, result uint32) {
	p.add(unix.BPF_JMP|compare|unix.BPF_K, 1, 0, k)
	p.ret(result)
}

func (p *program) mask(k, result uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, 0, 1, k)
	p.ret(result)
}

func (p *program) when(nr uintptr, result uint32) { p.result(uint32(nr), result) }

func (p *program) span(lo, hi, result uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K, 0, 2, lo)
	p.add(unix.BPF_JMP|unix.BPF_JGT|unix.BPF_K, 1, 0, hi)
	p.ret(result)
}

// call puts body, which must return on every way, behind a test for nr.
func (p *program) call(nr uintptr, body func()) {
	at := len(p.code)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 0, uint32(nr))
	body()
	if n := len(p.code) - at - 1; n > 255 {
		p.err = errors.New("a jump of the filter is too far")
	} else {
		p.code[at].Jf = uint8(n)
	}
}

// argument allows nr with one of these values as its i-th argument.
func (p *program) argument(nr uintptr, i int, e unix.Errno, values ...uint32) {
	p.call(nr, func() {
		p.load(argument(i))
		for _, v := range values {
			p.result(v, unix.SECCOMP_RET_ALLOW)
		}
		p.ret(errno(uint32(e)))
	})
}

// arguments allows nr if each of its first arguments is one of a list.
func (p *program) arguments(nr uintptr, e unix.Errno, lists ...[]uint32) {
	p.call(nr, func() {
		for i, list := range lists {
			p.load(argument(i))
			for j, v := range list {
				p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, uint8(len(list)-j), 0, v)
			}
			p.ret(errno(uint32(e)))
		}
		p.ret(unix.SECCOMP_RET_ALLOW)
	})
}
