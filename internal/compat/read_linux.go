package compat

import (
	"bufio"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Read returns the facts of this machine, of which root is the top of its file system.
func Read(root string) (Facts, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Facts{}, err
	}
	facts := Facts{Architecture: runtime.GOARCH, Kernel: unix.ByteSliceToString(name.Release[:]), PageSize: os.Getpagesize()}
	facts.XSave = int(auxiliary(minSignalStack))
	facts.ControlGroups = controlGroups(root)
	file, err := os.Open(filepath.Join(root, "proc/cpuinfo"))
	if err != nil {
		return Facts{}, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if key = strings.TrimSpace(key); key == "flags" || key == "Features" { // x86, arm64: of the first processor
			facts.Instructions = instructions(strings.Fields(value))
			break
		}
	}
	return facts, lines.Err()
}

// controlGroups is the version of the control groups that are mounted where OCI runtimes look for them; 0 when none are.
func controlGroups(root string) int {
	var stat unix.Statfs_t
	switch err := unix.Statfs(filepath.Join(root, "sys/fs/cgroup"), &stat); {
	case err != nil:
		return 0
	case stat.Type == unix.CGROUP2_SUPER_MAGIC:
		return 2
	case stat.Type == unix.TMPFS_MAGIC: // with a folder for each hierarchy
		return 1
	}
	return 0
}

// minSignalStack is AT_MINSIGSTKSZ of Linux' auxiliary vector.
const minSignalStack = 51

// auxiliary returns a value of what the kernel told this process at its start; 0 when it did not.
func auxiliary(wanted uint64) uint64 {
	data, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return 0
	}
	for len(data) >= 16 { // a key and a value
		if binary.NativeEndian.Uint64(data) == wanted {
			return binary.NativeEndian.Uint64(data[8:])
		}
		data = data[16:]
	}
	return 0
}

// instructions leaves of the flags of a processor those by which programs choose their instructions. The others speak of the kernel, of what
// only it can use, or of defects.
func instructions(flags []string) string {
	var found []string
	for _, flag := range flags {
		if known[flag] || slices.ContainsFunc(families, func(prefix string) bool { return strings.HasPrefix(flag, prefix) }) {
			found = append(found, flag)
		}
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), " ")
}

// families are extensions whose members have names of a common beginning.
var families = []string{"avx", "amx_", "sse", "sha", "sve", "sme"}

var known = set(`3dnow 3dnowext 3dnowprefetch abm adx aes bmi1 bmi2 cldemote clflush clflushopt clwb clzero cmov cx16 cx8 erms f16c fma fma4 fsgsbase fsrm
	fxsr gfni lahf_lm misalignsse mmx mmxext movbe movdir64b movdiri ospke pclmulqdq pku pni popcnt prefetchwt1 ptwrite rdpid rdrand rdseed rdtscp rtm
	serialize ssse3 tbm tsc vaes vpclmulqdq waitpkg xgetbv1 xop xsave xsavec xsaveopt
	asimd asimddp asimdfhm asimdhp asimdrdm atomics bf16 bti crc32 dcpodp dcpop dit fcma flagm flagm2 fp fphp frint i8mm ilrcpc jscvt lrcpc mte paca pacg
	pmull rng sb uscat`)

func set(words string) map[string]bool {
	all := map[string]bool{}
	for _, word := range strings.Fields(words) {
		all[word] = true
	}
	return all
}
