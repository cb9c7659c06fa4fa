package compat

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestThisMachineDoesForItself(t *testing.T) {
	facts, err := Read("/")
	if err != nil {
		t.Fatal(err)
	}
	if facts.Architecture == "" || facts.Kernel == "" || facts.PageSize == 0 || facts.Instructions == "" {
		t.Errorf("it has %+v", facts)
	}
	if err := facts.Check(facts); err != nil {
		t.Error(err)
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

func TestAMachineMustHaveWhatTheOtherHad(t *testing.T) {
	here := Facts{Architecture: "amd64", Kernel: "6.1", PageSize: 4096, Instructions: "aes avx avx2 sse2"}
	for name, test := range map[string]struct {
		captured Facts
		want     *Mismatch
	}{
		"the same":            {captured: here},
		"not recorded":        {},
		"less":                {captured: Facts{"amd64", "5.10", 4096, "avx sse2"}},
		"another kind":        {Facts{"arm64", "6.1", 4096, ""}, &Mismatch{"architecture", "amd64", "arm64"}},
		"pages of other size": {Facts{"amd64", "6.1", 65536, ""}, &Mismatch{"page size", "4096", "65536"}},
		"more": {
			Facts{"amd64", "6.1", 4096, "amx_tile avx avx512f"},
			&Mismatch{"instructions of the processor", "no amx_tile avx512f", "them, as it may have chosen them at its start"},
		},
	} {
		var got *Mismatch
		errors.As(here.Check(test.captured), &got)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}
