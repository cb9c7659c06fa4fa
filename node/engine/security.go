package engine

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/creds"
	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/rlimit"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// MismatchError says that a captured process has more rights than the new container's spec gives (design R2).
type MismatchError struct{ Message string }

// Error names the field, what it has and what it may be.
func (e *MismatchError) Error() string { return e.Message }

// maxCoreSize bounds the image of a task, which has about 2 KiB, in bytes.
const maxCoreSize = 1 << 20

// checkSecurity decodes the captured tasks and returns a MismatchError unless their rights are within the spec: CRIU restores user,
// capabilities, no_new_privs and seccomp from the image, whatever the spec says.
func checkSecurity(images string, spec *specs.Spec) error {
	files, err := filepath.Glob(filepath.Join(images, "core-*.img"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("the image has no tasks")
	}
	tasks := map[uint32][]*criucore.CoreEntry{}
	for _, file := range files {
		entries, err := decodeImage(file, maxCoreSize, &criucore.CoreEntry{})
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(file), err)
		}
		var id uint32
		if _, err := fmt.Sscanf(filepath.Base(file), "core-%d.img", &id); err != nil {
			return fmt.Errorf("the image has a task by the name %q: %w", filepath.Base(file), err)
		}
		tasks[id] = entries
	}
	follow, err := followers(images, tasks)
	if err != nil {
		return err
	}
	for id, entries := range tasks {
		for _, core := range entries {
			if err := checkTask(core, follow[id], spec); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkTask compares one thread. That it follows says that it has the seccomp filters of the first one of its process.
func checkTask(core *criucore.CoreEntry, follows bool, spec *specs.Spec) error {
	thread := core.GetThreadCore()
	if thread == nil || thread.GetCreds() == nil || spec.Process == nil {
		return nil // a zombie has no rights
	}
	has := thread.GetCreds()
	if err := checkUser(has, spec.Process); err != nil {
		return err
	}
	if spec.Process.NoNewPrivileges && has.GetNoNewPrivs() == 0 {
		return mismatch("no_new_privs", "off", "on")
	}
	mode := thread.GetSeccompMode()
	if tc := core.GetTc(); thread.SeccompMode == nil && tc != nil {
		mode = tc.GetOldSeccompMode()
	}
	// A capture from before io_uring was withheld has no filter for that; it had no ring either, or it could not have been dumped.
	filtered := spec.Linux != nil && spec.Linux.Seccomp != nil && !onlyWithholds(spec.Linux.Seccomp)
	if filtered && mode != criucore.SeccompMode_filter && !follows {
		return mismatch("seccomp", mode.String(), "filter")
	}
	if err := checkLimits(core.GetTc().GetRlimits().GetRlimits(), spec.Process); err != nil {
		return err
	}
	return checkCapabilities(has, spec.Process)
}

// checkUser refuses users and groups that a process of the new container could not have come to. One that may gain rights by a program's mode
// bits can come to any user; without that it needs a capability.
func checkUser(has *creds.CredsEntry, process *specs.Process) error {
	if !process.NoNewPrivileges {
		return nil
	}
	can := func(capability string) bool {
		return process.Capabilities != nil && slices.Contains(process.Capabilities.Bounding, capability)
	}
	user := process.User
	if !can("CAP_SETUID") {
		for _, uid := range []uint32{has.GetUid(), has.GetEuid(), has.GetSuid(), has.GetFsuid()} {
			if uid != user.UID {
				return mismatch("user", fmt.Sprint(uid), fmt.Sprint(user.UID))
			}
		}
	}
	if !can("CAP_SETGID") {
		for _, gid := range slices.Concat([]uint32{has.GetGid(), has.GetEgid(), has.GetSgid(), has.GetFsgid()}, has.GetGroups()) {
			if gid != user.GID && !slices.Contains(user.AdditionalGids, gid) {
				return mismatch("group", fmt.Sprint(gid), fmt.Sprint(append([]uint32{user.GID}, user.AdditionalGids...)))
			}
		}
	}
	return nil
}

// rlimitNames are the names of the kernel's limits by their numbers (asm-generic/resource.h).
var rlimitNames = []string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
	"RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// checkLimits refuses limits above those of the new container, which only a capability lifts.
func checkLimits(has []*rlimit.RlimitEntry, process *specs.Process) error {
	if process.Capabilities != nil && slices.Contains(process.Capabilities.Bounding, "CAP_SYS_RESOURCE") {
		return nil
	}
	for _, limit := range process.Rlimits {
		number := slices.Index(rlimitNames, limit.Type)
		if number >= 0 && number < len(has) && has[number].GetMax() > limit.Hard {
			return mismatch(limit.Type, fmt.Sprint(has[number].GetMax()), fmt.Sprint(limit.Hard))
		}
	}
	return nil
}

func checkCapabilities(has *creds.CredsEntry, process *specs.Process) error {
	allowed := []string{}
	if process.Capabilities != nil {
		allowed = process.Capabilities.Bounding
	}
	for what, words := range map[string][]uint32{
		"bounding": has.GetCapBnd(), "permitted": has.GetCapPrm(), "effective": has.GetCapEff(), "inheritable": has.GetCapInh(), "ambient": has.GetCapAmb(),
	} {
		for bit := range 32 * len(words) {
			if words[bit/32]&(1<<(bit%32)) == 0 {
				continue
			}
			name := fmt.Sprint("capability ", bit) // of a newer kernel
			if bit < len(capabilityNames) {
				name = capabilityNames[bit]
			}
			if !slices.Contains(allowed, name) {
				return mismatch(what+" capability", name, fmt.Sprint(allowed))
			}
		}
	}
	return nil
}

func mismatch(field, has, may string) error {
	return &MismatchError{Message: fmt.Sprintf("%s of a captured process is %s; the new container's security context allows %s", field, has, may)}
}

// capabilityNames are the names of the kernel's capabilities by their numbers (linux/capability.h).
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
	"CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}
