package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestParseDiskBudget(t *testing.T) {
	for text, want := range map[string]DiskBudget{"20%": {percent: 20}, "100%": {percent: 100}, "50Gi": {bytes: 50 << 30}, "1": {bytes: 1}} {
		if got, err := ParseDiskBudget(text); err != nil || got != want {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1Gi", "0%", "101%", "1.5%", "%", "a lot"} {
		if got, err := ParseDiskBudget(text); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("is %q; it may be a quantity of bytes above 0", text)) {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	dir := t.TempDir()
	half, whole := DiskBudget{percent: 50}.of(dir), DiskBudget{percent: 100}.of(dir)
	if half == 0 || half > whole || (DiskBudget{percent: 50}).of("/nowhere/at/all") != 0 {
		t.Errorf("half of the disk is %d, all of it %d", half, whole)
	}
}

// held makes the folder of a capture that takes so many KiB; uploaded is when it was, if it was.
func (b *bench) held(name string, kib int, uploaded time.Time) (dir string) {
	b.t.Helper()
	dir = filepath.Join(b.Node.Captures(name), "1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	b.write(filepath.Join(dir, "pages-1.img"), strings.Repeat("x", kib<<10))
	if !uploaded.IsZero() {
		b.write(filepath.Join(dir, capture.UploadedFile), "")
		if err := capture.NoteJSON(filepath.Join(dir, memoFile), memo{CheckpointUID: "c", Uploaded: uploaded}); err != nil {
			b.t.Fatal(err)
		}
	}
	return dir
}

func TestAboveTheBudgetWhatTheBucketHasGoesTheOldestFirst(t *testing.T) {
	b := newBench(t)
	waiting := b.held("waiting", 1024, time.Time{})
	old, middle, fresh := b.held("old", 512, testNow.Add(-3*time.Minute)), b.held("middle", 512, testNow.Add(-2*time.Minute)), b.held("fresh", 512, testNow)
	states := filepath.Join(b.Node.Restores("pod"), "states", "boot", "c") // a pod goes on from the oldest
	if err := os.MkdirAll(states, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(old, "pages-1.img"), filepath.Join(states, "pages-1.img")); err != nil {
		t.Fatal(err)
	}
	h := b.holds()
	if h.waiting < 1<<20 || h.fetched < 512<<10 || h.total() < 2560<<10 || h.total() > 2700<<10 {
		t.Errorf("it holds %+v", h)
	}
	there := func() (names []string) {
		for name, dir := range map[string]string{"waiting": waiting, "old": old, "middle": middle, "fresh": fresh} {
			if isThere(dir) {
				names = append(names, name)
			}
		}
		return names
	}
	b.keepBudget(t.Context()) // without a budget
	if names := there(); len(names) != 4 {
		t.Errorf("there are %v", names)
	}
	b.DiskBudget = DiskBudget{bytes: h.total() - 100<<10}
	b.keepBudget(t.Context())
	if isThere(middle) || !isThere(fresh) || !isThere(waiting) {
		t.Errorf("of four there are %v", there())
	}
	b.DiskBudget = DiskBudget{bytes: 1}
	b.keepBudget(t.Context())
	if diff := cmp.Diff([]string{"waiting"}, there()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !isThere(states) {
		t.Error("what a pod goes on from is gone")
	}
}
