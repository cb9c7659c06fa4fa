package compat

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts are those of a machine, as a capture records them.
type Facts struct {
	// Architecture is as Go names it: amd64.
	Architecture string `json:"architecture"`
	// Kernel is the release, as 6.12.43+deb13-amd64. It is told to a person, and compared with nothing.
	Kernel string `json:"kernel"`
	// PageSize is that of memory, in bytes.
	PageSize int `json:"pageSize"`
	// Instructions are the names of extensions that programs use when the processor has them, in order, separated by spaces, as Linux names them in
	// /proc/cpuinfo: "adx aes avx avx2".
	Instructions string `json:"instructions,omitempty"`
}

// Read returns the facts of this machine, of which root is the top of its file system.
func Read(root string) (Facts, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Facts{}, err
	}
	facts := Facts{Architecture: runtime.GOARCH, Kernel: unix.ByteSliceToString(name.Release[:]), PageSize: os.Getpagesize()}
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

// Mismatch says in what a machine does not do for a captured program.
type Mismatch struct {
	// Field is what differs, as "instructions".
	Field string
	// Has is what the machine has, and Wants what the program needs.
	Has, Wants string
}

// Error names the field, what it has and what it has to be.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("%s: this node has %s; the captured program needs %s", m.Field, m.Has, m.Wants)
}

// Check returns a Mismatch unless a program that was captured on a machine with the given facts can go on on this one.
func (f Facts) Check(captured Facts) error {
	if captured == (Facts{}) { // a capture of before these were recorded
		return nil
	}
	if f.Architecture != captured.Architecture {
		return &Mismatch{"architecture", f.Architecture, captured.Architecture}
	}
	if f.PageSize != captured.PageSize {
		return &Mismatch{"page size", fmt.Sprint(f.PageSize), fmt.Sprint(captured.PageSize)}
	}
	here := set(f.Instructions)
	missing := slices.DeleteFunc(strings.Fields(captured.Instructions), func(name string) bool { return here[name] })
	if len(missing) > 0 {
		return &Mismatch{"instructions of the processor", "no " + strings.Join(missing, " "), "them, as it may have chosen them at its start"}
	}
	return nil
}
