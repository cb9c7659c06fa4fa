package engine

import (
	"encoding/binary"
	"os"
	"path/filepath"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"golang.org/x/sys/unix"
)

const (
	// callSize is the length of amd64's instruction for a system call, in bytes.
	callSize = 2
	// loadSize is that of the instruction that stands before it as a rule, which loads the number of the call.
	loadSize = 5
)

// calledAt returns the number that a thread's program loads for the system call that ends at that address.
func calledAt(thread string, end uint64) (number uint64, found bool) {
	memory, err := os.Open(filepath.Join(thread, "mem"))
	if err != nil {
		return 0, false
	}
	defer memory.Close()
	code := make([]byte, loadSize+callSize)
	if _, err := memory.ReadAt(code, int64(end)-int64(len(code))); err != nil {
		return 0, false
	}
	const loadEAX, call0, call1 = 0xb8, 0x0f, 0x05
	if code[0] != loadEAX || code[loadSize] != call0 || code[loadSize+1] != call1 {
		return 0, false
	}
	return uint64(binary.LittleEndian.Uint32(code[1:])), true
}

// restart changes the registers of a thread that was cut off in such a call, and tells whether it did.
func restart(core *criucore.CoreEntry) bool {
	r := core.GetThreadInfo().GetGpregs()
	if r == nil || r.Ax == nil || r.OrigAx == nil || r.Ip == nil || r.Di == nil || r.Si == nil || r.Dx == nil || r.R10 == nil {
		return false
	}
	if int64(r.GetAx()) != -int64(unix.EINTR) {
		return false
	}
	switch r.GetOrigAx() {
	case unix.SYS_NANOSLEEP:
		if r.GetSi() != 0 {
			*r.Di = r.GetSi()
		}
	case unix.SYS_CLOCK_NANOSLEEP: // one until a certain time does not come here: it is begun anew by CRIU itself
		if r.GetR10() != 0 {
			*r.Dx = r.GetR10()
		}
	case unix.SYS_POLL, unix.SYS_FUTEX:
	default:
		return false
	}
	*r.Ax = r.GetOrigAx()
	*r.Ip -= callSize
	return true
}
