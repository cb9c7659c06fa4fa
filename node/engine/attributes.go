package engine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrPrefix is where tar keeps extended attributes among its records (as GNU tar and libarchive do). In the names behind it "=", which a record
// cannot have, is %3D, and "%" is %25.
const xattrPrefix = "SCHILY.xattr."

var (
	escapeName   = strings.NewReplacer("%", "%25", "=", "%3D")
	unescapeName = strings.NewReplacer("%25", "%", "%3D", "=")
)

// The extended attributes by which an overlay says what is not in its upper folder (https://docs.kernel.org/filesystems/overlayfs.html).
const (
	overlayPrefix   = "trusted.overlay."
	overlayOpaque   = overlayPrefix + "opaque"
	overlayRedirect = overlayPrefix + "redirect"
	overlayMetacopy = overlayPrefix + "metacopy"
)

// ofTheNode are extended attributes that a node gives to a file for itself: labels of its security modules, with which another pod could not
// use the file, and signatures.
var ofTheNode = []string{"security.selinux", "security.SMACK64", "security.ima", "security.evm"}

// maxAttributes bounds the extended attributes of a file, in bytes: all records of an entry have 1 MiB.
const maxAttributes = 512 << 10

// attributes is the path of a file whose extended attributes are meant; a link is not followed.
type attributes string

// xattrs are extended attributes by their names.
type xattrs map[string]string

// read returns those of a file that can go elsewhere, and overlayMetacopy.
func (a attributes) read() (xattrs, error) {
	size, err := unix.Llistxattr(string(a), nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("extended attributes: %w", err)
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(string(a), names); err != nil {
		return nil, fmt.Errorf("extended attributes: %w", err)
	}
	if size == 0 { // an overlay counts its own before it hides them
		return nil, nil
	}
	found, sum := xattrs{}, 0
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		if !portable(name) {
			continue
		}
		length, err := unix.Lgetxattr(string(a), name, nil)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		value := make([]byte, length)
		if length, err = unix.Lgetxattr(string(a), name, value); err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		found[name] = string(value[:length])
		if sum += len(name) + length; sum > maxAttributes {
			return nil, fmt.Errorf("it has more than %d bytes of extended attributes", maxAttributes)
		}
	}
	return found, nil
}

// portable tells whether an attribute means the same on another node.
func portable(name string) bool {
	if strings.HasPrefix(name, overlayPrefix) {
		return name == overlayOpaque || name == overlayRedirect || name == overlayMetacopy
	}
	return !slices.Contains(ofTheNode, name)
}

// outsourced tells whether an overlay keeps only attributes of the file here, and its content in a lower layer.
func (x xattrs) outsourced() bool {
	_, is := x[overlayMetacopy]
	return is
}

// records returns them as those of a tar's entry, which has its content.
func (x xattrs) records() map[string]string {
	records := map[string]string{}
	for name, value := range x {
		if name == overlayMetacopy || name == overlayRedirect && x.outsourced() {
			continue
		}
		records[xattrPrefix+escapeName.Replace(name)] = value
	}
	return records
}

func (a attributes) records() (map[string]string, error) {
	found, err := a.read()
	return found.records(), err
}

// write sets those that the records of a tar's entry have.
func (a attributes) write(records map[string]string) error {
	for _, record := range slices.Sorted(maps.Keys(records)) {
		name, ok := strings.CutPrefix(record, xattrPrefix)
		if !ok {
			continue
		}
		name = unescapeName.Replace(name)
		if !portable(name) || name == overlayMetacopy {
			continue
		}
		if err := unix.Lsetxattr(string(a), name, []byte(records[record]), 0); err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

// folderState is what a folder is beside its content: owner, mode, times, extended attributes.
type folderState struct {
	stat  unix.Stat_t
	xattr xattrs
}

// stateOf reads that of a folder.
func stateOf(dir string) (folderState, error) {
	var f folderState
	if err := unix.Stat(dir, &f.stat); err != nil {
		return f, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	var err error
	f.xattr, err = attributes(dir).read()
	return f, err
}

// apply gives it to a folder.
func (f folderState) apply(dir string) error {
	has, err := attributes(dir).read()
	for name := range has {
		if _, kept := f.xattr[name]; !kept {
			err = errors.Join(err, unix.Lremovexattr(dir, name))
		}
	}
	err = errors.Join(err, unix.Chown(dir, int(f.stat.Uid), int(f.stat.Gid)), attributes(dir).write(f.xattr.records()), unix.Chmod(dir, f.stat.Mode&0o7777))
	return errors.Join(err, unix.UtimesNano(dir, []unix.Timespec{f.stat.Atim, f.stat.Mtim}))
}
