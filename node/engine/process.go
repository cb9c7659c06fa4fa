package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is what /proc/PID/stat says of one (proc_pid_stat(5)).
type process struct {
	pid, parent, session int
	state                string
	// ticks are those of the processor that it has used.
	ticks uint64
}

func readProcess(pid int) (process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 13 {
		return process{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	p := process{pid: pid, state: fields[0]}
	p.parent, err = strconv.Atoi(fields[1])
	session, sessionErr := strconv.Atoi(fields[3])
	p.session, err = session, errors.Join(err, sessionErr)
	for _, field := range fields[11:13] {
		ticks, tickErr := strconv.ParseUint(field, 10, 64)
		p.ticks, err = p.ticks+ticks, errors.Join(err, tickErr)
	}
	return p, err
}

// isAlive tells whether a process is there and no zombie.
func isAlive(pid int) bool {
	p, err := readProcess(pid)
	return err == nil && p.state != "Z" && p.state != "X"
}

// traced tells whether a thread of a process has a tracer. A process that has gone has none.
func traced(pid int) bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return false
	}
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(status), "\nTracerPid:") && !strings.Contains(string(status), "\nTracerPid:\t0\n") {
			return true
		}
	}
	return false
}

// descends tells whether a process is the ancestor or comes from it. One that has gone counts as if it did: it is of no interest any more.
func descends(pid, ancestor int) bool {
	for range 10_000 { // deeper than any tree, in case of a loop by reused numbers
		if pid == ancestor {
			return true
		}
		p, err := readProcess(pid)
		if err != nil {
			return true
		}
		if pid = p.parent; pid <= 1 {
			return false
		}
	}
	return true
}

// descendants returns all processes that come from one, without itself. One whose parents cannot be followed up to it any more, as one of them has
// ended meanwhile, is none: it may be anybody's.
func descendants(ancestor int) []process {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	all := map[int]process{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil {
			all[pid] = p
		}
	}
	var found []process
	for _, p := range all {
		parent := p.parent
		for range len(all) { // deeper than any tree, in case of a loop by reused numbers
			if parent == ancestor {
				found = append(found, p)
				break
			}
			parent = all[parent].parent // 0 for one that is not there
		}
	}
	return found
}

// killDescendants ends what a process has started, so that it can clean up itself.
func killDescendants(ancestor int) {
	for range 2 { // one may have started another meanwhile
		for _, p := range descendants(ancestor) {
			_ = unix.Kill(p.pid, unix.SIGKILL)
		}
	}
}

// sockets adds the inodes of the sockets that a process has open.
func (p process) sockets(found map[uint32]bool) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid))
	if err != nil {
		return
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		name, isSocket := strings.CutPrefix(target, "socket:[")
		if err != nil || !isSocket {
			continue
		}
		if inode, err := strconv.ParseUint(strings.TrimSuffix(name, "]"), 10, 32); err == nil {
			found[uint32(inode)] = true
		}
	}
}
