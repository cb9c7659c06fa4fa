package probe

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// process is one of a container's.
type process struct {
	pid, inner int // on the node, and in the container
	command    string
	zombie     bool
	threads    int
	tracer     int // on the node; 0 is none
	anonymous  int64
	shared     int64
	namespaces namespaces
}

// namespaces are the processes' namespaces by kind, as "pid:[4026531836]".
type namespaces map[string]string

// maxProcesses bounds a look: in a container with more of them, the rest is not looked at.
const maxProcesses = 20_000

// walk finds the container's processes.
func (l *look) walk() error {
	first, err := l.readProcess(l.Init)
	if err != nil {
		return err
	}
	l.tree[l.Init] = first
	for todo := []int{l.Init}; len(todo) > 0 && len(l.tree) < maxProcesses; todo = todo[1:] {
		for _, child := range l.children(todo[0]) {
			p, err := l.readProcess(child)
			if err != nil || l.tree[child] != nil { // gone
				continue
			}
			l.tree[child] = p
			todo = append(todo, child)
		}
	}
	return nil
}

// children are those of all threads of a process.
func (l *look) children(pid int) []int {
	var found []int
	for _, thread := range namesIn(l.path(pid, "task")) {
		text, err := l.read(pid, "task/"+thread+"/children")
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(text) {
			if child, err := strconv.Atoi(word); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

func namesIn(dir string) []string {
	folder, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1) // what could be read is looked at
	return names
}

// readProcess reads what the status of a process says, and its namespaces.
func (l *look) readProcess(pid int) (*process, error) {
	text, err := l.read(pid, "status")
	if err != nil {
		return nil, err
	}
	p := &process{pid: pid, namespaces: namespaces{}}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "Name":
			p.command = value
		case "State":
			p.zombie = strings.HasPrefix(value, "Z")
		case "TracerPid":
			p.tracer, _ = strconv.Atoi(value)
		case "Threads":
			p.threads, _ = strconv.Atoi(value)
		case "NSpid":
			words := strings.Fields(value)
			if len(words) > 1 {
				p.inner, _ = strconv.Atoi(words[len(words)-1])
			}
		case "RssAnon", "VmSwap":
			p.anonymous += kilobytes(value)
		case "RssShmem":
			p.shared = kilobytes(value)
		}
	}
	if p.inner == 0 {
		p.inner = pid
	}
	for _, kind := range []string{"pid", "user", "mnt", "net", "ipc", "uts", "time", "cgroup"} {
		if link, err := os.Readlink(l.path(pid, "ns/"+kind)); err == nil {
			p.namespaces[kind] = link
		}
	}
	return p, nil
}

func kilobytes(value string) int64 {
	number, _, _ := strings.Cut(value, " ")
	n, _ := strconv.ParseInt(number, 10, 64)
	return n << 10
}

// process looks at one of them.
func (l *look) process(p *process) error {
	if p.zombie && p.threads > 1 {
		l.add(p, Finding{Reason: keys.UnprotectedDeadLeader, What: fmt.Sprintf("has ended its main thread, and %d others go on", p.threads-1),
			Advice: "keep the main thread, for example waiting for the others", Passing: true})
	}
	if p.zombie {
		return nil
	}
	l.traced(p)
	l.nested(p)
	l.program(p)
	if err := l.descriptors(p); err != nil {
		return err
	}
	return l.mappings(p)
}

// memory adds up what the processes hold: pages of their own one by one, as CRIU writes them, and of what is shared the largest part that one has.
func (l *look) memory() {
	shared := int64(0)
	for _, p := range l.tree {
		l.report.MemoryBytes += p.anonymous
		shared = max(shared, p.shared)
	}
	l.report.MemoryBytes += shared
}

// traced looks for a debugger, whose place CRIU needs. One that came by an exec session is ended before a dump, and lets go by that.
func (l *look) traced(p *process) {
	if p.tracer == 0 {
		return
	}
	what := "is traced from outside its container"
	if tracer := l.tree[p.tracer]; tracer != nil {
		what = fmt.Sprintf("is traced by process %d (%s)", tracer.inner, tracer.command)
	} else if l.strangers().pids[p.tracer] {
		return
	}
	l.add(p, Finding{Reason: keys.UnprotectedTraced, What: what, Advice: "end the debugger, strace or other tracer", Passing: true})
}

// program looks for a program without a file, which CRIU writes but does not find again.
func (l *look) program(p *process) {
	if link, err := os.Readlink(l.path(p.pid, "exe")); err == nil && strings.HasPrefix(link, "/memfd:") {
		l.add(p, Finding{Reason: keys.UnprotectedDescriptor, What: "runs a program that is no file, but memory (memfd)", Advice: "start it from a file"})
	}
}

// nested looks for namespaces that CRIU does not dump inside a container: all but mount namespaces.
func (l *look) nested(p *process) {
	for _, kind := range []string{"pid", "user", "net", "ipc", "uts", "time", "cgroup"} {
		if own, has := l.own[kind], p.namespaces[kind]; own != "" && has != "" && own != has {
			l.add(p, Finding{Reason: keys.UnprotectedNestedNamespace, What: "has a " + kind + " namespace of its own",
				Advice: "run it in the container itself, without a sandbox or a container inside"})
			return
		}
	}
}

// others are processes in the container that do not descend from its first one: exec sessions and probes. They are ended before a dump.
type others struct {
	pids   map[int]bool
	inodes map[uint64]bool
}

// strangers finds them: they have the PID namespace of the container. It reads a link of each process of the node, hence only when needed.
func (l *look) strangers() *others {
	if l.others != nil {
		return l.others
	}
	l.others = &others{pids: map[int]bool{}, inodes: map[uint64]bool{}}
	for _, name := range namesIn(l.Proc) {
		pid, err := strconv.Atoi(name)
		if err != nil || l.tree[pid] != nil {
			continue
		}
		if link, err := os.Readlink(l.path(pid, "ns/pid")); err != nil || link != l.own["pid"] {
			continue
		}
		l.others.pids[pid] = true
		for _, fd := range namesIn(l.path(pid, "fd")) {
			if link, err := os.Readlink(l.path(pid, "fd/"+fd)); err == nil {
				if inode, isSocket := socketOf(link); isSocket {
					l.others.inodes[inode] = true
				}
			}
		}
	}
	return l.others
}
