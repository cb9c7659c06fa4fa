package engine

import (
	"maps"
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ioUringCalls are the system calls by which a program uses io_uring, which CRIU cannot dump.
var ioUringCalls = []string{"io_uring_setup", "io_uring_enter", "io_uring_register"}

// enosys is the number of the error "function not implemented", upon which programs take their way without io_uring. It is the same on all
// architectures that are supported.
const enosys = 38

// asNewAsIOUring are system calls that came with io_uring or after it. A profile that names one of them was written by somebody who could
// have named io_uring.
var asNewAsIOUring = []string{
	"open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "pidfd_open", "clone3", "close_range", "openat2", "pidfd_getfd", "faccessat2",
	"process_madvise", "epoll_pwait2", "mount_setattr", "landlock_create_ruleset", "memfd_secret", "futex_waitv", "cachestat",
}

// withholdIOUring has the system calls of io_uring answer ENOSYS in a container, by its seccomp profile; without a profile it gets one that
// allows all else. No call is allowed that was not before: what a profile ends a process for still ends it.
//
// runc loads a filter before it gives up its capabilities where no_new_privs is off, and after it has set that where it is on. So a container
// of any user starts with it, and what it may gain by executing a file stays as it was.
func withholdIOUring(spec map[string]any) {
	linux, ok := spec["linux"].(map[string]any)
	if !ok {
		return
	}
	profile, ok := linux["seccomp"].(map[string]any)
	if !ok || profile["defaultAction"] == nil && profile["syscalls"] == nil { // both mean none
		linux["seccomp"] = ioUringProfile()
		return
	}
	w := withholding{endsByDefault: isStrict(profile["defaultAction"]), strict: map[string]bool{}, named: map[string]bool{}}
	entries, _ := profile["syscalls"].([]any)
	for _, entry := range entries {
		w.split(entry)
	}
	w.refuse(text(profile["defaultAction"]))
	profile["syscalls"] = w.rules
}

// ioUringProfile is that of a container without one. Processes of all architectures that the kernel runs may run, as they may without a profile.
func ioUringProfile() map[string]any {
	architectures := map[string][]any{
		"amd64": {string(specs.ArchX86_64), string(specs.ArchX86), string(specs.ArchX32)},
		"arm64": {string(specs.ArchAARCH64), string(specs.ArchARM)},
	}[runtime.GOARCH]
	profile := map[string]any{"defaultAction": string(specs.ActAllow), "syscalls": []any{refusal(ioUringCalls, nil)}}
	if architectures != nil {
		profile["architectures"] = architectures
	}
	return profile
}

// withholding is a profile on its way to one that withholds io_uring.
type withholding struct {
	endsByDefault bool // a process, for what the profile does not name
	rules         []any
	// strict are the calls of io_uring that a rule ends a process for, and named those that another one names.
	strict, named map[string]bool
	isRecent      bool // it names calls that are as new
}

// split takes a rule of the profile over, without io_uring's calls, unless it is stricter than ours. A stricter one for some arguments becomes
// one for all: a call is withheld whatever its arguments are.
func (w *withholding) split(entry any) {
	rule, _ := entry.(map[string]any)
	names, _ := rule["names"].([]any)
	var ours []string
	var others []any
	for _, name := range names {
		w.isRecent = w.isRecent || slices.Contains(asNewAsIOUring, text(name))
		if slices.Contains(ioUringCalls, text(name)) {
			ours = append(ours, text(name))
		} else {
			others = append(others, name)
		}
	}
	if len(ours) == 0 {
		w.rules = append(w.rules, entry)
		return
	}
	if len(others) > 0 {
		rest := maps.Clone(rule)
		rest["names"] = others
		w.rules = append(w.rules, rest)
	}
	conditions, _ := rule["args"].([]any)
	switch {
	case isStrict(rule["action"]):
		w.rules = append(w.rules, map[string]any{"names": anys(ours), "action": rule["action"]})
		mark(w.strict, ours)
	case w.endsByDefault && len(conditions) > 0: // for other arguments it ends still
		w.rules = append(w.rules, refusal(ours, conditions))
	default:
		mark(w.named, ours)
	}
}

// refuse adds the rule for the calls that no stricter one answers. Where the profile names none of them and ends a process for that, it still
// does. Where it names none and refuses by default, the error may be another one than ENOSYS; but a rule would have runc take the profile for one
// that knows all calls up to io_uring, and answer those that it does not name as denied in place of not implemented. So one that names no call as new
// gets none: runc answers ENOSYS for it.
func (w *withholding) refuse(byDefault string) {
	var missing []string
	for _, name := range ioUringCalls {
		open := !w.endsByDefault && (byDefault != string(specs.ActErrno) || w.isRecent)
		if (w.named[name] || open) && !w.strict[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		w.rules = append(w.rules, refusal(missing, nil))
	}
}

func mark(set map[string]bool, names []string) {
	for _, name := range names {
		set[name] = true
	}
}

// isStrict tells whether an action keeps a process from a call and does more than to answer an error.
func isStrict(action any) bool {
	switch specs.LinuxSeccompAction(text(action)) {
	case specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap:
		return true
	}
	return false
}

// refusal is the rule by which calls answer ENOSYS, for these arguments if there are any.
func refusal(names []string, args []any) map[string]any {
	rule := map[string]any{"names": anys(names), "action": string(specs.ActErrno), "errnoRet": enosys}
	if len(args) > 0 {
		rule["args"] = args
	}
	return rule
}

func anys(texts []string) []any {
	all := make([]any, 0, len(texts))
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}

func text(value any) string {
	s, _ := value.(string)
	return s
}

// onlyWithholds tells whether a profile does nothing but withhold io_uring: the container had none of its own.
func onlyWithholds(profile *specs.LinuxSeccomp) bool {
	if profile.DefaultAction != specs.ActAllow || len(profile.Syscalls) != 1 {
		return false
	}
	rule := profile.Syscalls[0]
	return rule.Action == specs.ActErrno && slices.Equal(rule.Names, ioUringCalls)
}
