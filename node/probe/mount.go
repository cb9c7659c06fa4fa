package probe

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// mount is a line of mountinfo.
type mount struct {
	id                 uint64
	device, root, kind string
	point              string
}

// mountable are the file systems that CRIU mounts anew in a container (criu/filesystems.c). An overlay is among them, but its layers are not found
// at the restore.
var mountable = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "binfmt_misc": true, "tmpfs": true, "devpts": true, "simfs": true, "pstore": true, "mqueue": true,
	"securityfs": true, "fusectl": true, "debugfs": true, "tracefs": true, "cgroup": true, "cgroup2": true, "aufs": true, "autofs": true,
}

// mounts looks for mounts that were made inside the container. Those that kubelet and runtime made are binds of what the node has mounted.
func (l *look) mounts() error {
	all, err := l.readMounts(l.Init)
	if err != nil {
		return err
	}
	var node map[string]bool
	for _, m := range all {
		if m.kind == "mqueue" {
			l.queues(m.point)
		}
		if m.point == "/" || m.root != "/" || mountable[m.kind] {
			continue
		}
		if node == nil {
			if node, err = l.nodeDevices(); err != nil {
				return err
			}
		}
		if node[m.device] {
			continue
		}
		l.report.Findings = append(l.report.Findings, Finding{Reason: keys.UnprotectedMount,
			What:   fmt.Sprintf("a file system of the type %s is mounted on %s inside the container", m.kind, m.point),
			Advice: "make it a volume of the pod", Passing: true})
	}
	return nil
}

// queues reports message queues that nobody has open: they stay until somebody removes them.
func (l *look) queues(point string) {
	for _, name := range namesIn(l.path(l.Init, "root"+point)) {
		l.report.Findings = append(l.report.Findings, Finding{Reason: keys.UnprotectedMessageQueue, What: "there is the POSIX message queue /" + name,
			Advice: "use a System V message queue, a pipe or a socket"})
		return
	}
}

// nodeDevices are the file systems that the node itself has mounted.
func (l *look) nodeDevices() (map[string]bool, error) {
	all, err := l.readMounts(1)
	if err != nil {
		return nil, err
	}
	devices := map[string]bool{}
	for _, m := range all {
		devices[m.device] = true
	}
	return devices, nil
}

// readMounts reads the mounts that a process sees.
func (l *look) readMounts(pid int) ([]mount, error) {
	file, err := os.Open(l.path(pid, "mountinfo"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []mount
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// 36 35 98:0 /root /point options [fields] - kind source options
		before, after, found := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 6 || len(kind) < 1 {
			continue
		}
		id, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(kind[0], ".") // fuse.sshfs
		all = append(all, mount{id: id, device: fields[2], root: unescape(fields[3]), point: unescape(fields[4]), kind: name})
	}
	return all, nil
}

// unescape replaces what mountinfo writes for blanks and the like, as \040.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// table is what is known of a mount namespace.
type table struct {
	ids map[uint64]bool
	top map[string]uint64 // of the mounts on each path, the last one
}

// tableOf reads the mounts of a process's mount namespace, once.
func (l *look) tableOf(p *process) (*table, error) {
	namespace := p.namespaces["mnt"]
	if known := l.mounted[namespace]; known != nil {
		return known, nil
	}
	reader := p.pid
	if namespace == l.own["mnt"] {
		reader = l.Init // p may have another root directory, and would not see all
	}
	all, err := l.readMounts(reader)
	if err != nil {
		return nil, err
	}
	t := &table{ids: map[uint64]bool{}, top: map[string]uint64{}}
	for _, m := range all {
		t.ids[m.id], t.top[m.point] = true, m.id
	}
	l.mounted[namespace] = t
	return t, nil
}

// covers returns the mount that a path leads to.
func (t *table) covers(file string) uint64 {
	for dir := path.Clean(file); ; dir = path.Dir(dir) {
		if id, found := t.top[dir]; found {
			return id
		}
		if dir == "/" {
			return 0
		}
	}
}
