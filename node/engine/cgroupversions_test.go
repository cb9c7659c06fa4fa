package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
)

// mounted is a mount as CRIU writes it.
func mounted(id, device, parent uint32, kind mnt.Fstype, point, key string) *mnt.MntEntry {
	m := &mnt.MntEntry{
		Fstype: proto.Uint32(uint32(kind)), MntId: &id, RootDev: &device, ParentMntId: &parent, Flags: proto.Uint32(15), SbFlags: proto.Uint32(0),
		Root: proto.String("/"), Mountpoint: &point, Source: proto.String("none"), Options: proto.String(""),
	}
	if key != "" {
		m.ExtKey = &key
	}
	return m
}

// mountsIn are the mounts of an image, in short.
func mountsIn(t *testing.T, images string) (all []string) {
	t.Helper()
	ids, devices := map[uint32]bool{}, map[uint32]bool{}
	err := editMounts(images, func(m *mnt.MntEntry) edit {
		all = append(all, strings.Join([]string{mnt.Fstype(m.GetFstype()).String(), m.GetMountpoint(), m.GetExtKey()}, " "))
		if ids[m.GetMntId()] || devices[m.GetRootDev()] {
			t.Errorf("another mount is like %+v", m)
		}
		ids[m.GetMntId()], devices[m.GetRootDev()] = true, true
		return leaveEntry
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestControlGroupsBecomeThoseOfTheOtherVersion(t *testing.T) {
	images, disk := t.TempDir(), uint32(254<<20)
	writeEntries(t, filepath.Join(images, "mountpoints-12.img"),
		mounted(105, 37, 96, mnt.Fstype_CGROUP, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory"),
		mounted(97, 29, 96, mnt.Fstype_CGROUP, "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
		mounted(96, 49, 95, mnt.Fstype_TMPFS, "/sys/fs/cgroup", ""),
		mounted(95, 22, 91, mnt.Fstype_SYSFS, "/sys", ""),
		mounted(91, disk, 69, mnt.Fstype_UNSUPPORTED, "/", ""))
	rest := []string{"SYSFS /sys ", "UNSUPPORTED / "}
	for _, step := range []struct {
		version int // of what is there before
		folders []string
		want    []string
	}{
		{1, nil, append([]string{"CGROUP2 /sys/fs/cgroup "}, rest...)},
		{2, []string{"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/pids"}, append(append([]string{"TMPFS /sys/fs/cgroup "}, rest...),
			"CGROUP /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct", "CGROUP /sys/fs/cgroup/pids /sys/fs/cgroup/pids")},
	} {
		if version, err := capturedGroups(images, "/sys/fs/cgroup"); err != nil || version != step.version {
			t.Errorf("they are of version %d, %v; want %d", version, err, step.version)
		}
		change := groupChange{images: images, point: "/sys/fs/cgroup", flags: 15, folders: step.folders}
		if err := change.apply(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, mountsIn(t, images)); diff != "" {
			t.Errorf("its mounts (-want +got)\n%s", diff)
		}
	}
	want := []string{"./cpu,cpuacct/ ", "./cpu cpu,cpuacct", "./cpuacct cpu,cpuacct", "./pids/ "}
	if diff := cmp.Diff(want, packedIn(t, filepath.Join(images, "tmpfs-96.tar.gz.img"))); diff != "" {
		t.Errorf("the folder has (-want +got)\n%s", diff)
	}
}

// packedIn are the names in a packed archive, and what they lead to.
func packedIn(t *testing.T, path string) (names []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(packed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name+" "+header.Linkname)
	}
}

func TestWhatIsReadInFilesOfTheOtherVersion(t *testing.T) {
	quota, period := int64(50_000), uint64(200_000)
	shown := specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup"}
	limited := &specs.Spec{Mounts: []specs.Mount{shown}, Linux: &specs.Linux{Resources: &specs.LinuxResources{
		CPU: &specs.LinuxCPU{Quota: &quota, Period: &period},
	}}}
	free := &specs.Spec{Mounts: []specs.Mount{shown}}
	images := t.TempDir()
	writeEntries(t, filepath.Join(images, "files.img"),
		regular(1, "/sys/fs/cgroup/cpu.max", nil), regular(2, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", nil), regular(3, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", nil),
		regular(4, "/sys/fs/cgroups", nil), regular(5, "/data/cpu.max", nil), regular(6, "/sys/fs/cgroup", nil))
	for what, test := range map[string]struct {
		spec *specs.Spec
		here int
		want map[string]string
		left []string
	}{
		"of version 2, with a limit": {
			limited, 1, map[string]string{"/sys/fs/cgroup/cpu.max": "50000 200000\n"},
			[]string{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "/sys/fs/cgroup"},
		},
		"of version 2, without": {
			free, 1, map[string]string{"/sys/fs/cgroup/cpu.max": "max 100000\n"},
			[]string{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "/sys/fs/cgroup"},
		},
		"of version 1, with a limit": {
			limited, 2, map[string]string{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "200000\n"},
			[]string{"/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup"},
		},
		"of version 1, without": {
			free, 2, map[string]string{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
			[]string{"/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup"},
		},
		"nowhere": {&specs.Spec{}, 2, nil, nil},
	} {
		got, left, err := standIns(images, test.spec, test.here)
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", what, err, diff)
		}
		if diff := cmp.Diff(test.left, left); diff != "" {
			t.Errorf("%s: left over (-want +got)\n%s", what, diff)
		}
	}
}

func TestCRIUGetsCopiesOfFilesThatThereAreNoMore(t *testing.T) {
	kind := rpc.CriuReqType_RESTORE
	message, err := (&rpc.CriuReq{Type: &kind, Opts: &rpc.CriuOpts{ImagesDirFd: new(int32(5))}}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	copies, changed, err := lendCopies(message, `{"/sys/fs/cgroup/cpu.max": "max 100000\n"}`, 7)
	if err != nil || len(copies) != 1 {
		t.Fatalf("%d copies, %v", len(copies), err)
	}
	defer copies[0].Close()
	if content, err := io.ReadAll(copies[0]); err != nil || string(content) != "max 100000\n" {
		t.Errorf("it holds %q, %v", content, err)
	}
	request := &rpc.CriuReq{}
	if err := request.UnmarshalVT(changed); err != nil {
		t.Fatal(err)
	}
	if files := request.GetOpts().GetInheritFd(); len(files) != 1 || files[0].GetKey() != "sys/fs/cgroup/cpu.max" || files[0].GetFd() != 7 {
		t.Errorf("CRIU is told of %+v", files)
	}
	if none, same, err := lendCopies(message, "", 7); err != nil || len(none) > 0 || !bytes.Equal(same, message) {
		t.Errorf("without files it becomes %q, %v", same, err)
	}
}
