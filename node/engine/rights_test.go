package engine

import (
	"errors"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/creds"
	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/rlimit"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// ordinary is the spec of a container as containerd makes it, as far as rights go.
func ordinary() *specs.Spec {
	names := []string{"CAP_CHOWN", "CAP_SETUID"}
	return &specs.Spec{
		Process: &specs.Process{
			User:         specs.User{UID: 10, GID: 20, AdditionalGids: []uint32{20, 30}},
			Capabilities: &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
		},
		Root: &specs.Root{Path: "rootfs"},
		Mounts: []specs.Mount{
			{Destination: "/data", Type: "bind", Options: []string{"rbind", "rprivate", "rw"}},
			{Destination: "/etc/hosts", Type: "bind", Options: []string{"rbind", "rro", "nosuid"}},
			{Destination: "/proc", Type: "proc", Options: []string{"nosuid"}},
		},
		Linux: &specs.Linux{
			Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}, MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
		},
	}
}

// specChanges are changes of an ordinary spec, before the capture and after it.
var specChanges = map[string]struct {
	captured, now func(*specs.Spec)
	want          string // of the refusal; empty is none
}{
	"the same":          {},
	"more capabilities": {now: func(s *specs.Spec) { addCapability(s, "CAP_SYS_ADMIN") }},
	"fewer capabilities": {
		captured: func(s *specs.Spec) { addCapability(s, "CAP_SYS_ADMIN") },
		want:     "capabilities (bounding) of the captured container was CAP_SYS_ADMIN; the new container's is [CAP_CHOWN CAP_SETUID]",
	},
	"none at all":     {now: func(s *specs.Spec) { s.Process.Capabilities = nil }, want: "capabilities (bounding)"},
	"fewer effective": {now: func(s *specs.Spec) { s.Process.Capabilities.Effective = nil }, want: "capabilities (effective)"},
	"another user": {
		now:  func(s *specs.Spec) { s.Process.User.UID = 11 },
		want: "runAsUser of the captured container was 10; the new container's is 11",
	},
	"root before":        {captured: func(s *specs.Spec) { s.Process.User.UID = 0 }, want: "runAsUser of the captured container was 0"},
	"another main group": {now: func(s *specs.Spec) { s.Process.User.GID = 21 }, want: "runAsGroup"},
	"fewer groups": {
		now:  func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{20} },
		want: "supplementalGroups or fsGroup of the captured container was 30",
	},
	"more groups":            {now: func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{20, 30, 40} }},
	"no new privileges":      {now: func(s *specs.Spec) { s.Process.NoNewPrivileges = true }, want: "allowPrivilegeEscalation"},
	"new privileges allowed": {captured: func(s *specs.Spec) { s.Process.NoNewPrivileges = true }},
	"a read-only root":       {now: func(s *specs.Spec) { s.Root.Readonly = true }, want: "readOnlyRootFilesystem"},
	"a stricter filter": {
		now:  func(s *specs.Spec) { s.Linux.Seccomp.DefaultAction = specs.ActKill },
		want: "seccompProfile of the captured container was sha256:",
	},
	"a filter": {
		captured: func(s *specs.Spec) { s.Linux.Seccomp = nil },
		want:     "seccompProfile of the captured container was none",
	},
	"no filter any more": {now: func(s *specs.Spec) { s.Linux.Seccomp = nil }},
	"a profile": {
		now:  func(s *specs.Spec) { s.Process.ApparmorProfile = "mine" },
		want: "appArmorProfile of the captured container was none; the new container's is mine",
	},
	"another profile": {
		captured: func(s *specs.Spec) { s.Process.ApparmorProfile = "a" },
		now:      func(s *specs.Spec) { s.Process.ApparmorProfile = "b" },
	},
	"a label": {now: func(s *specs.Spec) { s.Process.SelinuxLabel = "u:r:t:s0" }, want: "seLinuxOptions"},
	"a masked path": {
		now:  func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/proc/keys") },
		want: "procMount of the captured container was /proc/keys visible",
	},
	"a protected path": {
		now:  func(s *specs.Spec) { s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/proc/irq") },
		want: "procMount of the captured container was /proc/irq writable",
	},
	"a read-only mount": {
		now:  func(s *specs.Spec) { s.Mounts[0].Options = []string{"rbind", "ro"} },
		want: "volumeMount /data of the captured container was []; the new container's is [ro]",
	},
	"a mount more": {
		now:  func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind"}) },
		want: "the new container mounts /x, which the captured one does not",
	},
	"a mount less": {
		now:  func(s *specs.Spec) { s.Mounts = s.Mounts[1:] },
		want: "the captured container mounts /data, which the new one does not",
	},
}

func TestWhatANewContainerMustAllow(t *testing.T) {
	for what, test := range specChanges {
		t.Run(what, func(t *testing.T) {
			captured, now := ordinary(), ordinary()
			if test.captured != nil {
				test.captured(captured)
			}
			if test.now != nil {
				test.now(now)
			}
			had, err := securityOf(captured)
			if err != nil {
				t.Fatal(err)
			}
			has, err := securityOf(now)
			if err != nil {
				t.Fatal(err)
			}
			refuses(t, checkSpecs(had, has), test.want)
		})
	}
}

func TestACaptureThatSaysNothingOfRightsIsRefused(t *testing.T) {
	refuses(t, checkSpecs(nil, &capture.Security{}), "the capture does not say")
}

func addCapability(s *specs.Spec, name string) {
	c := s.Process.Capabilities
	c.Bounding, c.Effective, c.Permitted = append([]string{name}, c.Bounding...), append([]string{name}, c.Effective...), append([]string{name}, c.Permitted...)
}

func refuses(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("it is refused: %v", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it says %v, which lacks %q", err, want)
	}
	if mismatch := (*MismatchError)(nil); !errors.As(err, &mismatch) && !strings.Contains(want, "mounts /") {
		t.Errorf("%v is no mismatch", err)
	}
}

func TestWhatACapturedTaskMayBe(t *testing.T) {
	for what, test := range map[string]struct {
		spec func(*specs.Spec)
		task func(*criucore.CoreEntry)
		want string
	}{
		"as it started":      {},
		"root by a mode bit": {task: func(c *criucore.CoreEntry) { c.ThreadCore.Creds.Euid = new(uint32) }},
		"another user": {
			spec: locked,
			task: func(c *criucore.CoreEntry) { c.ThreadCore.Creds.Suid = new(uint32) },
			want: "user of a captured process is 0",
		},
		"a user by its capability": {
			spec: func(s *specs.Spec) { s.Process.NoNewPrivileges = true },
			task: func(c *criucore.CoreEntry) { noNewPrivs(c); c.ThreadCore.Creds.Uid = new(uint32) },
		},
		"another group": {
			spec: locked,
			task: func(c *criucore.CoreEntry) { c.ThreadCore.Creds.Groups = []uint32{20, 99} },
			want: "group of a captured process is 99",
		},
		"its groups": {spec: locked, task: func(c *criucore.CoreEntry) { c.ThreadCore.Creds.Groups = []uint32{20, 30} }},
		"privileges to be gained": {
			spec: func(s *specs.Spec) { s.Process.NoNewPrivileges = true },
			task: func(c *criucore.CoreEntry) { c.ThreadCore.Creds.NoNewPrivs = nil },
			want: "no_new_privs of a captured process is off",
		},
		"no filter": {
			task: func(c *criucore.CoreEntry) { c.ThreadCore.SeccompMode = new(criucore.SeccompMode_disabled) },
			want: "seccomp of a captured process is disabled",
		},
		"a capability": {
			task: func(c *criucore.CoreEntry) { c.ThreadCore.Creds.CapPrm = []uint32{1 << 21, 0} },
			want: "permitted capability of a captured process is CAP_SYS_ADMIN",
		},
		"an unknown capability": {
			task: func(c *criucore.CoreEntry) { c.ThreadCore.Creds.CapBnd = []uint32{0, 1 << 31} },
			want: "bounding capability of a captured process is capability 63",
		},
		"more files than allowed":  {task: func(c *criucore.CoreEntry) { setNofile(c, 4096) }, want: "RLIMIT_NOFILE of a captured process is 4096"},
		"as many files as allowed": {task: func(c *criucore.CoreEntry) { setNofile(c, 1024) }},
		"files by their capability": {
			spec: func(s *specs.Spec) { addCapability(s, "CAP_SYS_RESOURCE") },
			task: func(c *criucore.CoreEntry) { setNofile(c, 4096) },
		},
	} {
		t.Run(what, func(t *testing.T) {
			spec := ordinary()
			if test.spec != nil {
				test.spec(spec)
			}
			u, g := uint32(10), uint32(20)
			task := &criucore.CoreEntry{Tc: &criucore.TaskCoreEntry{}, ThreadCore: &criucore.ThreadCoreEntry{
				SeccompMode: new(criucore.SeccompMode_filter),
				Creds:       &creds.CredsEntry{Uid: &u, Euid: &u, Suid: &u, Fsuid: &u, Gid: &g, Egid: &g, Sgid: &g, Fsgid: &g},
			}}
			if spec.Process.NoNewPrivileges {
				noNewPrivs(task)
			}
			if test.task != nil {
				test.task(task)
			}
			refuses(t, checkTask(task, false, spec), test.want)
		})
	}
}

// locked has a container in which nobody can become somebody else.
func locked(s *specs.Spec) { s.Process.NoNewPrivileges, s.Process.Capabilities = true, nil }

func noNewPrivs(c *criucore.CoreEntry) { c.ThreadCore.Creds.NoNewPrivs = new(uint32(1)) }

func setNofile(c *criucore.CoreEntry, most uint64) {
	c.Tc.Rlimits = &criucore.TaskRlimitsEntry{}
	for range 8 {
		c.Tc.Rlimits.Rlimits = append(c.Tc.Rlimits.Rlimits, &rlimit.RlimitEntry{Cur: &most, Max: &most})
	}
}

func TestLabelsAreThoseOfTheNewContainer(t *testing.T) {
	spec := ordinary()
	if words := labelWords(spec); words != nil {
		t.Errorf("without labels it says %q", words)
	}
	spec.Process.ApparmorProfile = "cri-containerd.apparmor.d"
	if diff := cmp.Diff([]string{"--lsm-profile", "apparmor:cri-containerd.apparmor.d"}, labelWords(spec)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	spec.Process.SelinuxLabel, spec.Linux.MountLabel = "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"
	want := []string{"--lsm-profile", "selinux:system_u:system_r:container_t:s0:c1,c2", "--lsm-mount-context", "system_u:object_r:container_file_t:s0:c1,c2"}
	if diff := cmp.Diff(want, labelWords(spec)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
