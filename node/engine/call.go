package engine

import (
	"fmt"
	"path/filepath"
	"strings"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
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
