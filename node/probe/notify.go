package probe

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// hints are the folders in which CRIU looks for a watched file that it cannot open by its handle (criu/irmap.c).
var hints = []string{
	"etc", "var/spool", "var/log", "usr/share/dbus-1/services", "usr/share/dbus-1/system-services", "var/lib/polkit-1/localauthority",
	"usr/share/polkit-1/actions", "lib/udev",
}

// maxHinted bounds how many files are compared with those that are watched.
const maxHinted = 5000

// watches looks for watches of inotify on files of the container's root file system, an overlay, which gives no handles. CRIU finds a file again
// that lies in one of a few folders, or the root itself.
func (l *look) watches(p *process, name string) {
	text, err := l.read(p.pid, "fdinfo/"+name)
	if err != nil {
		return
	}
	var root unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, l.path(l.Init, "root"), unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &root) != nil || !isOverlay(l.path(l.Init, "root")) {
		return
	}
	for line := range strings.Lines(text) {
		inode, device, found := watchOf(line)
		if found && device == kernelDevice(root.Dev_major, root.Dev_minor) && inode != root.Ino && !l.isHinted(inode) {
			l.add(p, Finding{Reason: keys.UnprotectedWatch, What: fmt.Sprintf("watches files of its image or its own by inotify, descriptor %s", name),
				Advice: "have it watch files of a volume, or poll them"})
			return
		}
	}
}

// watchOf reads a line of fdinfo, "inotify wd:1 ino:9e7e sdev:800013 mask:…", whose numbers are hexadecimal.
func watchOf(line string) (inode, device uint64, found bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || fields[0] != "inotify" {
		return 0, 0, false
	}
	for _, field := range fields {
		key, value, _ := strings.Cut(field, ":")
		number, err := strconv.ParseUint(value, 16, 64)
		switch {
		case key == "ino" && err == nil:
			inode = number
		case key == "sdev" && err == nil:
			device = number
		}
	}
	return inode, device, inode != 0
}

// kernelDevice is a device number as the kernel writes it in fdinfo.
func kernelDevice(major, minor uint32) uint64 { return uint64(major)<<20 | uint64(minor) }

func isOverlay(path string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && stat.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// isHinted tells whether a file lies where CRIU looks, or whether there is too much to tell.
func (l *look) isHinted(inode uint64) bool {
	if l.hinted == nil {
		l.hinted = map[uint64]bool{}
		for _, dir := range hints {
			l.hint(l.path(l.Init, "root/"+dir))
		}
	}
	return l.hinted[inode] || len(l.hinted) >= maxHinted
}

// hint takes down the inodes of a folder and of all below it.
func (l *look) hint(path string) {
	var stat unix.Stat_t
	if len(l.hinted) >= maxHinted || unix.Lstat(path, &stat) != nil {
		return
	}
	l.hinted[stat.Ino] = true
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return
	}
	for _, entry := range entries {
		l.hint(path + "/" + entry.Name())
	}
}
