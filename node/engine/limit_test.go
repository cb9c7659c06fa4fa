package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// groupWith makes the files of a control group of version 1 or 2.
func groupWith(t *testing.T, v2 bool, files map[string]string) cgroup {
	t.Helper()
	dir := t.TempDir()
	for name, value := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if v2 {
		return cgroup{unified: dir}
	}
	return cgroup{v1: map[string]string{"cpu": dir, "memory": dir, "pids": dir}}
}

func TestLimitsAreLiftedAndPutBack(t *testing.T) {
	for what, test := range map[string]struct {
		v2            bool
		files, lifted map[string]string
	}{
		"version 1": {
			files:  map[string]string{"cpu.cfs_quota_us": "10000", "memory.limit_in_bytes": "1048576", "pids.max": "7"},
			lifted: map[string]string{"cpu.cfs_quota_us": "-1", "memory.limit_in_bytes": "-1", "pids.max": "max"},
		},
		"version 2": {
			v2:     true,
			files:  map[string]string{"cpu.max": "10000 100000", "memory.high": "1000000", "memory.max": "1048576", "pids.max": "max"},
			lifted: map[string]string{"cpu.max": "max", "memory.high": "max", "memory.max": "max", "pids.max": "max"},
		},
		"none is set": {
			files:  map[string]string{"cpu.cfs_quota_us": "-1", "memory.limit_in_bytes": "9223372036854771712", "pids.max": "max"},
			lifted: map[string]string{"cpu.cfs_quota_us": "-1", "memory.limit_in_bytes": "9223372036854771712", "pids.max": "max"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			group := groupWith(t, test.v2, test.files)
			limits := group.limits()
			if err := lift(limits); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.lifted, group.files(t, test.files)); diff != "" {
				t.Errorf("lifted (-want +got)\n%s", diff)
			}
			if err := putBack(limits); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.files, group.files(t, test.files)); diff != "" {
				t.Errorf("put back (-want +got)\n%s", diff)
			}
		})
	}
}

// files reads those of a group again.
func (g cgroup) files(t *testing.T, names map[string]string) map[string]string {
	t.Helper()
	dir := g.unified
	if dir == "" {
		dir = g.v1["cpu"]
	}
	got := map[string]string{}
	for name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = strings.TrimSpace(string(data))
	}
	return got
}

func TestALimitThatSomebodySetMeanwhileStays(t *testing.T) {
	group := groupWith(t, true, map[string]string{"cpu.max": "10000 100000"})
	limits := group.limits()
	if err := lift(limits); err != nil {
		t.Fatal(err)
	}
	set := map[string]string{"cpu.max": "50000 100000"}
	if err := os.WriteFile(limits[0].File, []byte(set["cpu.max"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := putBack(limits); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(set, group.files(t, set)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
