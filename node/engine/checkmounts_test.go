package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// dump is what CRIU wrote of a real container's mounts, with the spec of the container that was restored from it.
type dump struct {
	spec   *specs.Spec
	mounts []*mnt.MntEntry
	// node is a folder that takes the place of one of the node's.
	node string
	// lines are what is mounted on the node.
	lines []mountLine
}

// readDump reads one from testdata/mounts: the spec, as far as it matters, and a line for each mount: number, parent, kind, device, root, place, key
// ("-" for none), flags, and those of the file system.
func readDump(t *testing.T, name string) *dump {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/mounts", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	d := &dump{spec: &specs.Spec{}, node: t.TempDir()}
	spec, lines, _ := strings.Cut(string(text), "\n")
	if err := json.Unmarshal([]byte(spec), d.spec); err != nil {
		t.Fatal(err)
	}
	for i := range d.spec.Mounts {
		d.spec.Mounts[i].Source = strings.Replace(d.spec.Mounts[i].Source, "$NODE", d.node, 1)
	}
	for line := range strings.Lines(lines) {
		var id, parent, device, flags, system uint32
		var kind, root, point, key string
		if _, err := fmt.Sscanf(line, "%d %d %s %x %s %s %s %x %x", &id, &parent, &kind, &device, &root, &point, &key, &flags, &system); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		m := mounted(id, device, parent, mnt.Fstype(mnt.Fstype_value[kind]), point, "")
		m.Root, m.Flags, m.SbFlags = &root, &flags, &system
		if key != "-" {
			m.ExtKey = &key
		}
		d.mounts = append(d.mounts, m)
	}
	return d
}

// at returns the mount at a place.
func (d *dump) at(point string) *mnt.MntEntry {
	i := slices.IndexFunc(d.mounts, func(m *mnt.MntEntry) bool { return m.GetMountpoint() == point })
	return d.mounts[i]
}

// add mounts something with the device of what is at a place, or with a new one.
func (d *dump) add(kind mnt.Fstype, like, root, point, key string) {
	device := uint32(0xfff)
	if like != "" {
		device = d.at(like).GetRootDev()
	}
	m := mounted(99999, device, d.at("/").GetMntId(), kind, point, key)
	m.Root = &root
	d.mounts = append(d.mounts, m)
}

// shows has the node's folder have a mount somewhere.
func (d *dump) shows(t *testing.T, kind, root, point string) {
	t.Helper()
	d.lines = append(d.lines, mountLine{kind: kind, root: root, point: filepath.Join(d.node, point)})
}

// images writes it as CRIU does.
func (d *dump) images(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var entries []proto.Message
	for _, m := range d.mounts {
		entries = append(entries, m)
	}
	writeEntries(t, filepath.Join(dir, "mountpoints-13.img"), entries...)
	return dir
}

func (d *dump) check(t *testing.T) error {
	t.Helper()
	return checkMounts(d.images(t), t.TempDir(), d.spec, d.lines)
}

// TestMountsOfRealDumpsAreTaken has what must not be refused: dumps of pods that go on.
func TestMountsOfRealDumpsAreTaken(t *testing.T) {
	files, err := filepath.Glob("testdata/mounts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			d := readDump(t, name)
			if err := os.MkdirAll(filepath.Join(d.node, "src"), 0o755); err != nil { // a part that is mounted below the folder as well
				t.Fatal(err)
			}
			d.shows(t, "proc", "/", "p")
			if err := d.check(t); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAdaptedMountsAreTakenAgain: when a restore is begun again, the images are as the first try left them.
func TestAdaptedMountsAreTakenAgain(t *testing.T) {
	for _, name := range []string{"plain", "volumes", "restored", "privileged", "version-2"} {
		d := readDump(t, name)
		images := d.images(t)
		err := errors.Join(adaptGroupMounts(images, d.spec), dropGuards(images, d.spec), addGuards(images, d.spec), keepFlags(images, d.node, d.spec, nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := checkMounts(images, d.node, d.spec, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGroupsOfEitherVersionAreTaken: a container that comes from a node with version 2 of control groups has one mount of them.
func TestGroupsOfEitherVersionAreTaken(t *testing.T) {
	d := readDump(t, "plain")
	at := d.at("/sys/fs/cgroup")
	d.mounts = slices.DeleteFunc(d.mounts, func(m *mnt.MntEntry) bool { return isAncestor("/sys/fs/cgroup", m.GetMountpoint()) })
	at.Fstype, at.Flags = new(uint32(mnt.Fstype_CGROUP2)), new(at.GetFlags()|unix.MS_RDONLY)
	if err := d.check(t); err != nil {
		t.Error(err)
	}
	at.Flags = new(at.GetFlags() &^ unix.MS_RDONLY)
	if err := d.check(t); !errors.As(err, new(*MismatchError)) {
		t.Errorf("writable ones: %v", err)
	}
}

// TestWhatWasHiddenMayBeMoreOrLess has what today's spec does not hide any more, or did not yet.
func TestWhatWasHiddenMayBeMoreOrLess(t *testing.T) {
	d := readDump(t, "plain")
	d.spec.Linux.MaskedPaths = slices.DeleteFunc(d.spec.Linux.MaskedPaths, func(path string) bool { return path == "/proc/keys" || path == "/sys/firmware" })
	d.spec.Linux.ReadonlyPaths = slices.DeleteFunc(d.spec.Linux.ReadonlyPaths, func(path string) bool { return path == "/proc/sys" })
	d.spec.Linux.MaskedPaths = append(d.spec.Linux.MaskedPaths, "/proc/later")
	for _, path := range []string{"/proc/keys", "/proc/sys", "/sys/firmware"} {
		if _, err := os.Stat(path); err != nil {
			d.mounts = slices.DeleteFunc(d.mounts, func(m *mnt.MntEntry) bool { return m.GetMountpoint() == path })
		}
	}
	if err := d.check(t); err != nil {
		t.Error(err)
	}
}

// forgery is a change of a dump.
type forgery struct {
	dump   string
	change func(*dump)
	says   string
}

// adds is a mount in addition, with the device of what is at a place, or with a new one.
func adds(name string, kind mnt.Fstype, like, root, point, key string) forgery {
	return forgery{name, func(d *dump) { d.add(kind, like, root, point, key) }, fmt.Sprintf("mount %q of the captured container was", point)}
}

// changes changes what is at a place.
func changes(name, point string, change func(d *dump, m *mnt.MntEntry), says string) forgery {
	return forgery{name, func(d *dump) { change(d, d.at(point)) }, fmt.Sprintf("mount %q", point) + says}
}

// without takes a flag from what is at a place.
func without(name, point string, flag uint32, says string) forgery {
	return changes(name, point, func(_ *dump, m *mnt.MntEntry) {
		m.Flags, m.SbFlags = new(m.GetFlags()&^flag), new(m.GetSbFlags()&^flag)
	}, says)
}

// onNode is a mount in addition below the volume /nested, where the node has one of a kind.
func onNode(t *testing.T, has, root string, kind mnt.Fstype) forgery {
	t.Helper()
	return forgery{"nested", func(d *dump) {
		d.shows(t, has, root, "x")
		d.add(kind, "", "/", "/nested/x", "")
	}, `mount "/nested/x"`}
}

// part is a part of the volume /nested below it.
func part(name string) forgery {
	return forgery{"nested", func(d *dump) {
		d.add(mnt.Fstype_UNSUPPORTED, "/nested", d.at("/nested").GetRoot()+"/"+name, "/nested/x", "")
	}, `mount "/nested/x"`}
}

// reveal has what hides something show it.
func reveal(d *dump, m *mnt.MntEntry) {
	over := d.at("/proc")
	m.ExtKey, m.Fstype, m.RootDev = nil, over.Fstype, over.RootDev
	m.Root, m.Flags = new(strings.TrimPrefix(m.GetMountpoint(), "/proc")), new(over.GetFlags()|unix.MS_RDONLY)
}

// like has a mount say that it shows the same file system as another, from its top.
func like(point string) func(*dump, *mnt.MntEntry) {
	return func(d *dump, m *mnt.MntEntry) { m.RootDev, m.Root = d.at(point).RootDev, new("/") }
}

// forgeries are those that are to be refused, by what they try.
func forgeries(t *testing.T) map[string]forgery {
	t.Helper()
	type m = mnt.MntEntry
	return map[string]forgery{
		"the node's root from outside":      adds("plain", mnt.Fstype_UNSUPPORTED, "", "/", "/host", "/"),
		"a volume at another place":         adds("plain", mnt.Fstype_UNSUPPORTED, "/scratch", "/", "/etc", "/scratch"),
		"a volume that the new pod has not": adds("plain", mnt.Fstype_UNSUPPORTED, "", "/", "/more", "/more"),
		"a device over a program":           adds("plain", mnt.Fstype_TMPFS, "/dev", "/null", "/bin/sh", nullDevice),
		"the root once more":                adds("plain", mnt.Fstype_OVERLAYFS, "/", "/", "/host", ""),
		"a second root":                     adds("plain", mnt.Fstype_TMPFS, "", "/", "/", ""),
		"a part of the root, by a link":     adds("plain", mnt.Fstype_OVERLAYFS, "/", "/link", "/host", ""),
		"memory of its own":                 adds("plain", mnt.Fstype_TMPFS, "", "/", "/tmp", ""),
		"proc at another place":             adds("plain", mnt.Fstype_PROC, "", "/", "/tmp/proc", ""),
		"proc twice":                        adds("plain", mnt.Fstype_PROC, "", "/", "/proc", ""),
		"a guard that is a process's root":  adds("plain", mnt.Fstype_PROC, "/proc", "/self/root", "/proc/self/root", ""),
		"a disk, by who may mount":          adds("own", mnt.Fstype_AUTO, "", "/", "/disk", ""),
		"folders of the node, by who may":   adds("own", mnt.Fstype_OVERLAYFS, "", "/", "/disk", ""),
		"other layers, by who may mount":    changes("own", "/own/e", func(_ *dump, m *m) { m.Options = new("lowerdir=/") }, ""),
		"the node's groups":                 changes("plain", "/sys/fs/cgroup", func(_ *dump, m *m) { m.Fstype = new(uint32(mnt.Fstype_CGROUP)) }, ""),
		"the node's root, by who may mount": adds("own", mnt.Fstype_UNSUPPORTED, "", "/", "/host", "/"),
		"dots, by who may mount":            adds("own", mnt.Fstype_OVERLAYFS, "/", "/..", "/host", ""),
		"proc below a volume":               adds("nested", mnt.Fstype_PROC, "", "/", "/nested/x", ""),

		"the node's root as a volume": changes("plain", "/scratch", func(_ *dump, m *m) { m.ExtKey = new("/") }, ""),
		"a volume at another's place": changes("plain", "/scratch", func(_ *dump, m *m) { m.ExtKey = new("/etc/hosts") }, ""),
		"an empty key":                changes("plain", "/dev/mqueue", func(_ *dump, m *m) { m.ExtKey = new("") }, ""),
		"a key as it was once":        changes("plain", "/scratch", func(_ *dump, m *m) { m.ExtMount = new(true) }, ""),
		"by a plugin of CRIU":         changes("plain", "/dev/mqueue", func(_ *dump, m *m) { m.WithPlugin = new(true) }, ""),
		"a part of the root in place": changes("plain", "/dev/mqueue", func(d *dump, m *m) { m.Root, m.RootDev = new("/link"), d.at("/").RootDev }, ""),
		"out of the root by dots":     changes("plain", "/dev/mqueue", func(_ *dump, m *m) { m.Root = new("/../../..") }, ""),
		"proc as another kind":        {"plain", func(d *dump) { like("/proc")(d, d.at("/dev/mqueue")) }, `mount "/`},
		"another kind": changes("plain", "/sys", func(_ *dump, m *m) { m.Fstype = new(uint32(mnt.Fstype_DEVTMPFS)) },
			` of the captured container was devtmpfs from "/"; the new container's is sysfs`),
		"a guard that shows what it hides":    changes("plain", "/proc/keys", reveal, ""),
		"a guard that shows something else":   changes("plain", "/proc/sys", func(_ *dump, m *m) { m.Root = new("/") }, ""),
		"a guard below what is mounted later": changes("plain", "/proc/keys", func(d *dump, m *m) { m.ParentMntId = d.at("/").MntId }, ""),
		"a console that is no terminal":       changes("terminal", "/dev/console", func(_ *dump, m *m) { m.Root = new("/0/../..") }, ""),

		"writable sysfs": without("plain", "/sys", unix.MS_RDONLY,
			" of the captured container was nosuid,nodev,noexec; the new container's is ro,nosuid,nodev,noexec"),
		"devices in mqueue": without("plain", "/dev/mqueue", unix.MS_NODEV, " of the captured container was nosuid,noexec;"),
		"a writable root":   without("readonly", "/", unix.MS_RDONLY, " of the captured container was writable"),
		"a writable guard":  without("plain", "/proc/sys", unix.MS_RDONLY, ""),

		"a place out of the root": {"plain", func(d *dump) { d.at("/dev/mqueue").Mountpoint = new("/../etc") }, `mount "/../etc"`},
		"a place that ends early": {"plain", func(d *dump) { d.at("/dev/mqueue").Mountpoint = new("/dev\x00/mqueue") }, "/mqueue"},

		"a guard from a volume":   {"plain", func(d *dump) { like("/proc")(d, d.at("/scratch")) }, `mount "/proc/`},
		"a guard from the root":   {"plain", func(d *dump) { like("/proc")(d, d.at("/")) }, `mount "/proc/`},
		"a console from a volume": {"terminal", func(d *dump) { like("/dev/pts")(d, d.at("/scratch")) }, `mount "/dev/console"`},
		"a part of another volume": {"nested", func(d *dump) {
			m := d.at("/scratch")
			m.RootDev, m.Root = d.at("/nested").RootDev, d.at("/nested").Root
		}, `mount "/nested`},
		"a part of memory": {"nested", func(d *dump) {
			for _, point := range []string{"/nested", "/nested-ro", "/nested/b", "/nested-ro/b"} {
				d.at(point).RootDev, d.at(point).Fstype = d.at("/dev").RootDev, d.at("/dev").Fstype
			}
		}, `mount "/nested`},
		"all of a volume that is read-only": {"parts", func(d *dump) {
			like("/dev/mqueue")(d, d.at("/ha"))
			d.at("/ha").Flags = new(uint32(0))
		}, `mount "/dev/mqueue"`},

		"proc where the node has memory":     onNode(t, "tmpfs", "/", mnt.Fstype_PROC),
		"an overlay, which the node has":     onNode(t, "overlay", "/", mnt.Fstype_OVERLAYFS),
		"a part of a volume that is a link":  part("link"),
		"a part of a volume that is missing": part("missing"),
	}
}

// TestForgedMountsAreRefused changes one thing in a dump that is taken.
func TestForgedMountsAreRefused(t *testing.T) {
	for what, test := range forgeries(t) {
		t.Run(what, func(t *testing.T) {
			d := readDump(t, test.dump)
			if err := errors.Join(os.MkdirAll(filepath.Join(d.node, "src"), 0o755), os.Symlink("/", filepath.Join(d.node, "link"))); err != nil {
				t.Fatal(err)
			}
			if err := d.check(t); err != nil {
				t.Fatalf("it is refused as it was: %v", err)
			}
			test.change(d)
			err := d.check(t)
			if mismatch := (*MismatchError)(nil); !errors.As(err, &mismatch) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %v, should have %q", err, test.says)
			}
		})
	}
}

// TestASecondMountNamespaceTakesACapability: without it there is one.
func TestASecondMountNamespaceTakesACapability(t *testing.T) {
	for name, refused := range map[string]bool{"plain": true, "own": false} {
		d := readDump(t, name)
		images := d.images(t)
		writeEntries(t, filepath.Join(images, "mountpoints-14.img"), d.at("/"), d.at("/proc"))
		if err := checkMounts(images, t.TempDir(), d.spec, nil); (err != nil) != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPathInAContainerStaysInIt(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "run/real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "var"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"var/run": "/run", "run/up": "../../../run/real", "loop": "loop", "run/near": "real"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	want := map[string]string{
		"/var/run/secrets/token": "/run/secrets/token", "/run/up/x": "/run/real/x", "/run/near": "/run/real", "/none/at/all": "/none/at/all",
		"/var/../run/": "/run", "/loop/x": "/loop/x", "/": "/",
	}
	for name := range want {
		got[name] = insideRoot(root, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
