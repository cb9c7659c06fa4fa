package probe

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// maxMappings bounds what is read of one process.
const maxMappings = 200_000

// mappings looks for mapped devices, and for what tracers of the node left in the program.
func (l *look) mappings(p *process) error {
	file, err := os.Open(l.path(p.pid, "maps"))
	if err != nil {
		return err
	}
	defer file.Close()
	lines, seen := bufio.NewScanner(file), map[string]bool{}
	for n := 0; lines.Scan() && n < maxMappings; n++ {
		line := lines.Text()
		// address perms offset device inode path
		at := pathAt(line)
		if at < 0 {
			continue
		}
		path := line[at:]
		switch {
		case path == "[uprobes]":
			l.add(p, Finding{Reason: keys.UnprotectedTraced, What: "has probes of its node in its code (uprobes)", Advice: "end the tracing tool on the node"})
		case seen[path]:
		case strings.HasPrefix(path, "/dev/") && !strings.HasPrefix(path, "/dev/shm/") && !strings.HasPrefix(path, "/dev/zero"):
			seen[path] = true
			address, _, _ := strings.Cut(line, " ")
			if l.isDeviceMapping(p, address) {
				l.add(p, Finding{Reason: keys.UnprotectedDeviceInUse, What: "has the device " + path + " mapped", Advice: adviceForDevice(path)})
			}
		case strings.HasPrefix(path, "anon_inode:"):
			seen[path] = true
			kind := strings.TrimPrefix(path, "anon_inode:")
			reason := keys.UnprotectedDescriptor
			if kind == "[io_uring]" {
				reason = keys.UnprotectedIOUring
			}
			l.add(p, Finding{Reason: reason, What: fmt.Sprintf("has memory of %s mapped", nameOf(kind)), Advice: adviceFor(kind)})
		}
	}
	return nil // of a process that ended meanwhile there is no more to say
}

// pathAt returns where the sixth field of a line of maps begins, or -1 where it has none.
func pathAt(line string) int {
	fields, inField := 0, false
	for i := range len(line) {
		isSpace := line[i] == ' '
		if !isSpace && !inField {
			if fields++; fields == 6 {
				return i
			}
		}
		inField = !isSpace
	}
	return -1
}

// isDeviceMapping tells whether what is mapped is a device that CRIU refuses.
func (l *look) isDeviceMapping(p *process, address string) bool {
	var stat unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, l.path(p.pid, "map_files/"+address), unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &stat) != nil {
		return false
	}
	kind := stat.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK
}
