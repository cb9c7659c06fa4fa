package host

import (
	"os"
	"path/filepath"
	"testing"
)

func TestControllersLeavesWhatAHierarchyIsMountedWith(t *testing.T) {
	for options, want := range map[string]string{
		"rw,relatime,memory":                                "memory",
		"rw,nosuid,nodev,noexec,relatime,cpu,cpuacct":       "cpu,cpuacct",
		"rw,relatime,name=systemd":                          "name=systemd",
		"rw,xattr,release_agent=/lib/agent,name=systemd":    "name=systemd",
		"rw,relatime,net_cls,net_prio":                      "net_cls,net_prio",
		"rw,relatime,cpuset,noprefix,clone_children,noexec": "cpuset",
	} {
		if got := controllers(options); got != want {
			t.Errorf("controllers(%q) is %q, want %q", options, got, want)
		}
	}
}

func TestSweepFindsTheProcessesOfATree(t *testing.T) {
	root := filepath.Join(t.TempDir(), "group")
	for dir, procs := range map[string]string{"": "", "a": "11\n0\n", "a/b": "12\n13\n"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "cgroup.procs"), []byte(procs), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pids, left := sweep(root)
	sum := 0
	for _, pid := range pids {
		sum += pid
	}
	if sum != 11+12+13 || left != 3 { // ordinary folders with files cannot be removed by rmdir; a cgroup can
		t.Errorf("it found the processes %v in %d groups", pids, left)
	}
}
