package engine

import (
	"context"
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
	// pristine is what the upper folder was before a transplant.
	pristine *folderState
}

// overlayAt reads how the overlay at a mount point is made. That there is another file system, or none, is an error that says so.
func overlayAt(point string) (*overlay, error) {
	all, err := mountLines()
	if err != nil {
		return nil, err
	}
	var found *overlay
	for _, m := range all {
		if m.point != point {
			continue
		}
		if m.kind != "overlay" {
			return nil, fmt.Errorf("the root file system is of type %s; it may be overlay", m.kind)
		}
		found = &overlay{point: point, flags: mountFlags(m.options)}
		found.read(m.superOptions)
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
func (o *overlay) transplant(ctx context.Context, archive string) error {
	pristine, err := stateOf(o.upper)
	if err != nil {
		return err
	}
	o.pristine = &pristine
	return o.remounted(func(upper string) error { return loadTree(ctx, archive, upper) })
}

// empty makes the upper folder that of a container that has not run again.
func (o *overlay) empty() error {
	return o.remounted(func(upper string) error {
		err := emptyFolder(upper)
		if o.pristine != nil {
			err = errors.Join(err, o.pristine.apply(upper))
		}
		return err
	})
}

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
	root, err := rootOf(bundle, spec)
	if err != nil {
		return "", err
	}
	found, err := overlayAt(root)
	if err != nil {
		return "", err
	}
	return found.upper, nil
}

// rootOf returns the folder at which the root file system of a bundle is mounted.
func rootOf(bundle string, spec *specs.Spec) (string, error) {
	if spec.Root == nil {
		return "", errors.New("the spec has no root file system")
	}
	if filepath.IsAbs(spec.Root.Path) {
		return spec.Root.Path, nil
	}
	return filepath.Join(bundle, spec.Root.Path), nil
}

// lendTmp makes a folder /tmp for as long as a restore takes, where the root file system is mounted read-only and has none: CRIU puts the former root
// there, or into a folder that it makes, which it cannot in that case. The function that is returned removes it.
func lendTmp(bundle string, spec *specs.Spec) (remove func() error, err error) {
	none := func() error { return nil }
	root, err := rootOf(bundle, spec)
	if err != nil || !spec.Root.Readonly {
		return none, err
	}
	state, err := stateOf(root)
	if err != nil {
		return none, err
	}
	tmp := filepath.Join(root, "tmp")
	if err := os.Mkdir(tmp, 0o755); errors.Is(err, fs.ErrExist) {
		return none, nil
	} else if err != nil {
		return none, err
	}
	return func() error {
		if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // the undoing of a restore has removed it already
			return err
		}
		return unix.UtimesNano(root, []unix.Timespec{state.stat.Atim, state.stat.Mtim})
	}, nil
}
