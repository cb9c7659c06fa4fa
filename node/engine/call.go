package engine

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

const (
	// callSize is the length of amd64's instruction for a system call, in bytes.
	callSize = 2
	// loadSize is that of the instruction that stands before it as a rule, which loads the number of the call.
	loadSize = 5
)

// restartCalls has threads begin anew what they waited in when they were captured: nanosleep, clock_nanosleep, poll and futex with a time-out.
// The kernel goes on with such a call by notes that CRIU cannot read, so CRIU has it return EINTR
// (https://github.com/checkpoint-restore/criu/blob/v4.2/compel/arch/x86/src/lib/infect.c), which no program need expect that handles no
// signal: a sleep in a shell ends too early. Begun anew it takes as long as it had left, where the kernel has told the program (the second
// argument of nanosleep), else as long as at first; longer than asked is what any system may do.
func restartCalls(images string) error {
	files, err := filepath.Glob(filepath.Join(images, "core-*.img"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := rewriteImage(file, maxCoreSize, restartCall); err != nil {
			return err
		}
	}
	return nil
}

func restartCall(image []byte) ([]byte, error) {
	return mapEntries(image, func(entry []byte) ([]byte, error) {
		core := &criucore.CoreEntry{}
		if err := proto.Unmarshal(entry, core); err != nil {
			return nil, fmt.Errorf("a task: %w", err)
		}
		if !restart(core) {
			return entry, nil
		}
		return proto.Marshal(core)
	})
}

// nameCalls finds out which call it is that a thread waits in for the second time, as after a freeze that was lifted: then the kernel says only
// that it is one that was begun anew. The number stands in the program, before the call.
func nameCalls(images string, group cgroup) error {
	files, err := filepath.Glob(filepath.Join(images, "core-*.img"))
	if err != nil {
		return err
	}
	var threads map[string]string // on the node, by number in the container
	for _, file := range files {
		err := rewriteImage(file, maxCoreSize, func(image []byte) ([]byte, error) {
			return mapEntries(image, func(entry []byte) ([]byte, error) {
				core := &criucore.CoreEntry{}
				if err := proto.Unmarshal(entry, core); err != nil {
					return nil, err
				}
				r := core.GetThreadInfo().GetGpregs()
				if int64(r.GetAx()) != -int64(unix.EINTR) || r.GetOrigAx() != unix.SYS_RESTART_SYSCALL {
					return entry, nil
				}
				if threads == nil {
					threads = threadsOf(group)
				}
				inside := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "core-"), ".img")
				number, found := calledAt(threads[inside], r.GetIp())
				if !found {
					return entry, nil
				}
				r.OrigAx = &number
				return proto.Marshal(core)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// threadsOf returns the folders below /proc of all threads of a group, by their numbers in the container.
func threadsOf(group cgroup) map[string]string {
	found := map[string]string{}
	pids, _ := group.processes() // without them nothing is found
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
		for _, thread := range threads {
			if inside, err := innerNumber(thread); err == nil {
				found[inside] = thread
			}
		}
	}
	return found
}

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
