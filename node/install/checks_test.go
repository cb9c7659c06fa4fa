package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// What CRIU says on a kernel that lacks things.
const (
	lacksNothingOfUse = "!Warn  (criu/kerndat.c:1799): Hardware breakpoints don't seem to work (status=137f)\n" +
		"Warn  (criu/cr-check.c:824): Dirty tracking is OFF. Memory snapshot will not work.\nLooks good but some kernel features are missing\n"
	lacksSomething = "!Warn  (criu/cr-check.c:1290): clone3() with set_tid not supported\nLooks good but some kernel features are missing\n"
	refuses        = "!Warn  (criu/cr-check.c:1): old\nError (criu/cr-check.c:7): CONFIG_CHECKPOINT_RESTORE is off\nDoes not look good.\n"
)

// expectCheck compares the level of a check, and a part of what it says and of what to do.
func expectCheck(t *testing.T, i *Installer, name string, level inspect.Level, says, mend string) {
	t.Helper()
	all := i.Checks(t.Context())
	n := slices.IndexFunc(all, func(c inspect.Check) bool { return c.Name == name })
	if n < 0 {
		t.Fatalf("there is no check %q", name)
	}
	c := all[n]
	if c.Level != level || !strings.Contains(c.Says, says) || !strings.Contains(c.Mend, mend) || c.Level == inspect.Fail && c.Mend == "" {
		t.Errorf("%s is %s: %q, %q\nwant %s: %q, %q", name, c.Level, c.Says, c.Mend, level, says, mend)
	}
}

func TestChecksOfAnInstallation(t *testing.T) {
	i, f, _ := newInstaller(t, "nvidia")
	i.Pod = client.ObjectKey{Namespace: "agents", Name: "agent-1"}
	expectCheck(t, i, "handler", inspect.Fail, "does not serve transparent-checkpoint, transparent-checkpoint-nvidia", "kubectl logs -n agents agent-1")
	expectCheck(t, i, "programs", inspect.Fail, "does not have the version", "within a minute")
	expectCheck(t, i, "runtime.json", inspect.Fail, "no such file", "within a minute")
	if !i.once(t.Context()) {
		t.Fatal("it cannot be installed")
	}
	const criu = "/opt/checkpoint/criu/criu "
	f.programs = map[string]string{
		"runc --version": "runc version 1.5.2\ncommit: x\n", criu + "--version": "Version: 4.2.1\n", criu + "check": "Warn\nLooks good.\n",
		criu + "check --extra": lacksNothingOfUse,
	}
	for name, says := range map[string]string{
		"container runtime": "fake 2.0", "handler": "fake serves transparent-checkpoint, transparent-checkpoint-nvidia", "programs": "in /opt/checkpoint",
		"OCI runtime": "runc is runc version 1.5.2", "CRIU": "is 4.2.1; criu check: Looks good.", "kernel features": "all that CRIU may need",
		"rights of root": "all that CRIU needs",
	} {
		expectCheck(t, i, name, inspect.OK, says, "")
	}
	f.programs[criu+"check --extra"] = lacksSomething
	expectCheck(t, i, "kernel features", inspect.Warn, "clone3() with set_tid not supported", "docs/operations.md#when-criu-refuses")
	f.programs[criu+"check"] = refuses
	expectCheck(t, i, "CRIU", inspect.Fail,
		"criu check of CRIU 4.2.1: Error (criu/cr-check.c:7): CONFIG_CHECKPOINT_RESTORE is off", "docs/operations.md#when-criu-refuses")
	delete(f.programs, criu+"--version")
	expectCheck(t, i, "CRIU", inspect.Fail, "criu/criu: file does not exist", "within a minute")
	f.programs["runc --version"] = "crun version 1.0\n"
	expectCheck(t, i, "OCI runtime", inspect.Fail, `says "crun version 1.0"`, "docs/installation.md#platforms")
	f.lacks = 1 << unix.CAP_SYS_RESOURCE
	expectCheck(t, i, "rights of root", inspect.Warn, "lacks CAP_SYS_RESOURCE", "docs/local-cluster.md#criu")
	f.lacks |= 1 << unix.CAP_SYS_ADMIN
	expectCheck(t, i, "rights of root", inspect.Fail, "lacks CAP_SYS_ADMIN, without", "all capabilities")
	f.served = []string{"runc", "transparent-checkpoint"}
	expectCheck(t, i, "handler", inspect.Fail, "does not serve transparent-checkpoint-nvidia", "within a minute")
	if err := os.WriteFile(filepath.Join(f.home(), "bin/checkpoint-runtime"), []byte("another"), 0o700); err != nil {
		t.Fatal(err)
	}
	expectCheck(t, i, "programs", inspect.Fail, "bin/checkpoint-runtime", "within a minute")
}

func TestCapabilitiesOfAProcess(t *testing.T) {
	has, err := capabilitiesIn("Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t000001fffeffffff\n")
	if err != nil || has != 0x1fffeffffff || has&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		t.Errorf("it has %#x, %v", has, err)
	}
	if _, err := capabilitiesIn("Name:\tx\n"); err == nil {
		t.Error("it finds what is not there")
	}
}
