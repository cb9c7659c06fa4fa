package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// overlay is a mounted root file system whose changes lie in a folder of their own.
type overlay struct {
	point        string
	flags        uintptr
	options      string // as mount(2) takes them
	lower, upper string
}

// overlayAt reads how the overlay at a mount point is made. That there is another file system, or none, is an error that says so.
func overlayAt(point string) (*overlay, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var found *overlay
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// 36 35 98:0 /root /point rw,noatime shared:1 - overlay source lowerdir=…,upperdir=…
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, behind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 6 || len(behind) < 3 || unescape(fields[4]) != point {
			continue
		}
		if behind[0] != "overlay" {
			return nil, fmt.Errorf("the root file system is of type %s; it may be overlay", behind[0])
		}
		found = &overlay{point: point, flags: mountFlags(fields[5])}
		found.read(unescape(behind[2]))
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if found == nil || found.upper == "" {
		return nil, errors.New("the root file system is no overlay that can be written to")
	}
	return found, nil
}

func (o *overlay) read(options string) {
	var kept []string
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "lowerdir", "lowerdir+":
			o.lower = value
		case "upperdir":
			o.upper = value
		case "rw", "ro":
			continue
		}
		kept = append(kept, option)
	}
	o.options = strings.Join(kept, ",")
}

// unescape undoes the octal escapes of mountinfo.
func unescape(text string) string {
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

func mountFlags(options string) uintptr {
	known := map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "noatime": unix.MS_NOATIME,
		"nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	}
	flags := uintptr(0)
	for option := range strings.SplitSeq(options, ",") {
		flags |= known[option]
	}
	return flags
}

// movable says why the overlay cannot be mounted anew by what mountinfo tells of it, or nothing.
func (o *overlay) movable() error {
	for _, dir := range append(strings.Split(o.lower, ":"), o.upper) {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("the root file system has a layer by the relative path %q; it may have absolute paths only", dir)
		}
	}
	if len(o.options) >= os.Getpagesize() {
		return fmt.Errorf("the root file system has options of %d bytes; mount takes %d", len(o.options), os.Getpagesize()-1)
	}
	return nil
}

// remounted runs work on the upper folder while the overlay is not mounted, and mounts it again whatever came of it.
func (o *overlay) remounted(work func(upper string) error) error {
	if err := unix.Unmount(o.point, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", o.point, err)
	}
	err := work(o.upper)
	if mountErr := unix.Mount("overlay", o.point, "overlay", o.flags, o.options); mountErr != nil {
		err = errors.Join(err, fmt.Errorf("mount %s: %w", o.point, mountErr))
	}
	return err
}

// transplant replaces the upper folder of a container that has not run by a captured one: as it was, with an overlay's removals.
func (o *overlay) transplant(archive string) error {
	return o.remounted(func(upper string) error { return loadTree(archive, upper, true) })
}

// empty makes the upper folder that of a container that has not run again.
func (o *overlay) empty() error { return o.remounted(emptyFolder) }

// emptyFolder removes what is in a folder.
func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return err
}

// UpperOf returns the folder of the changes of a bundle's root file system.
func UpperOf(bundle string, spec *specs.Spec) (string, error) {
	if spec.Root == nil {
		return "", errors.New("the spec has no root file system")
	}
	root := spec.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(bundle, root)
	}
	found, err := overlayAt(root)
	if err != nil {
		return "", err
	}
	return found.upper, nil
}
