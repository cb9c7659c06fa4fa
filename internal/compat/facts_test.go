package compat

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestThisMachineDoesForItself(t *testing.T) {
	facts, err := Read("/")
	if err != nil {
		t.Fatal(err)
	}
	if facts.Architecture == "" || facts.Kernel == "" || facts.PageSize == 0 || facts.Instructions == "" || runtime.GOARCH == "amd64" && facts.XSave < 512 {
		t.Errorf("it has %+v", facts)
	}
	if err := (Rules{}).Check(facts, facts); err != nil {
		t.Error(err)
	}
}

func TestAMachineThatMountsNoControlGroupsSaysNothing(t *testing.T) {
	if got := controlGroups(t.TempDir()); got != 0 {
		t.Errorf("it says %d", got)
	}
}

func TestOnlyWhatProgramsUseCounts(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o700); err != nil {
		t.Fatal(err)
	}
	info := "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f pti ibrs constant_tsc aes\nbugs\t\t: spectre_v2\nprocessor\t: 1\nflags\t\t: sse2\n"
	if err := os.WriteFile(filepath.Join(root, "proc/cpuinfo"), []byte(info), 0o600); err != nil {
		t.Fatal(err)
	}
	facts, err := Read(root)
	if want := "aes avx2 avx512f sse2"; err != nil || facts.Instructions != want {
		t.Errorf("its instructions are %q, %v; want %q", facts.Instructions, err, want)
	}
}

func TestAClassIsThatOfWhatIsCompared(t *testing.T) {
	one := Facts{Architecture: "amd64", Kernel: "6.12.43+deb13-amd64", PageSize: 4096, Instructions: "avx"}
	patched, other := one, one
	patched.Kernel, patched.ControlGroups, other.Instructions = "6.12.48+deb13-amd64", 2, "avx avx2"
	if one.Class() != patched.Class() || one.Class() == other.Class() || len(one.Class()) != 16 {
		t.Errorf("classes %s, %s, %s", one.Class(), patched.Class(), other.Class())
	}
}
