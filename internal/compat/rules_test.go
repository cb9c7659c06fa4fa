package compat

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAMachineMustHaveWhatTheOtherHad(t *testing.T) {
	here := Facts{Architecture: "amd64", Kernel: "6.1.0-32-amd64", PageSize: 4096, Instructions: "aes avx avx2 sse2", XSave: 2000, ControlGroups: 1}
	missing := &Mismatch{"instructions of the processor", "no amx_tile avx512f", "them, as it may have chosen them at its start"}
	for name, test := range map[string]struct {
		rules    Rules
		captured Facts
		want     *Mismatch
	}{
		"the same":            {captured: here},
		"not recorded":        {},
		"less":                {captured: Facts{"amd64", "5.10", 4096, "avx sse2", 1800, 0}},
		"another kind":        {Rules{CPUIgnore, KernelAny}, Facts{"arm64", "6.1", 4096, "", 0, 0}, &Mismatch{"architecture", "amd64", "arm64"}},
		"pages of other size": {Rules{CPUIgnore, KernelAny}, Facts{"amd64", "6.1", 65536, "", 0, 0}, &Mismatch{"page size", "4096", "65536"}},
		"more":                {Rules{}, Facts{"amd64", "6.1", 4096, "amx_tile avx avx512f", 0, 0}, missing},
		"more, by name":       {Rules{CPU: CPUSubset}, Facts{"amd64", "6.1", 4096, "amx_tile avx avx512f", 0, 0}, missing},
		"more, and ignored":   {Rules{CPU: CPUIgnore}, Facts{"amd64", "6.1", 4096, "amx_tile avx avx512f", 9000, 0}, nil},
		"more registers": {
			Rules{}, Facts{"amd64", "6.1", 4096, "avx", 3000, 0}, &Mismatch{"registers of the processor", "2000 bytes of them to save", "3000"},
		},
		"a patch of the kernel": {Rules{Kernel: KernelSame}, Facts{"amd64", "6.1.99+x", 4096, "", 0, 0}, nil},
		"a newer kernel": {
			Rules{}, Facts{"amd64", "6.12.43", 4096, "", 0, 0}, &Mismatch{"kernel", "6.1.0-32-amd64", "6.12.43 or newer"},
		},
		"a newer kernel, by name": {
			Rules{Kernel: KernelSameOrNewer}, Facts{"amd64", "7.0", 4096, "", 0, 0}, &Mismatch{"kernel", "6.1.0-32-amd64", "7.0 or newer"},
		},
		"an older kernel, when it has to be the same": {
			Rules{Kernel: KernelSame}, Facts{"amd64", "5.10.1", 4096, "", 0, 0}, &Mismatch{"kernel", "6.1.0-32-amd64", "the same as 5.10.1"},
		},
		"control groups of the other version": {captured: Facts{"amd64", "6.1", 4096, "avx", 0, 2}},
		"any kernel":                          {Rules{Kernel: KernelAny}, Facts{"amd64", "7.9", 4096, "", 0, 0}, nil},
	} {
		var got *Mismatch
		errors.As(test.rules.Check(here, test.captured), &got)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}
