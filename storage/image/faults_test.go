package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/retry"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

// course is one life of a lineage in which things go wrong.
type course struct {
	t      *testing.T
	clean  *Folder // what is in the store
	f      *Folder // the same, through faults
	faults *storagetest.Faulty
	random *rand.Rand
	dirs   map[string]string // of checkpoints by name
	states map[string]string
	made   map[string]Checkpoint
}

// patience is how many attempts go wrong, at most; then the faults stop.
const patience = 6

// attempt does something until it succeeds. Each failure has to be one that the faults of this attempt explain, and leaves everything whole.
func (c *course) attempt(what string, do func(ctx context.Context) error) {
	c.t.Helper()
	for i := 0; ; i++ {
		oneOf := 2 + c.random.IntN(20)
		if i == patience {
			oneOf = 0
		}
		ctx, cancel := c.faults.Attempt(c.t.Context(), oneOf)
		err := do(ctx)
		cancel()
		c.whole(what)
		if err == nil {
			return
		}
		explained := slices.ContainsFunc(storagetest.All, func(drawn storagetest.Fault) bool {
			return c.faults.Seen()[drawn] > 0 && drawn.Meaning() != nil && errors.Is(err, drawn.Meaning())
		})
		if !explained || errors.Is(err, storage.ErrNotExist) {
			c.t.Fatalf("%s, attempt %d, with the faults %v: %v", what, i+1, c.faults.Seen(), err)
		}
	}
}

// whole sees that whatever manifest is there is one of a whole checkpoint.
func (c *course) whole(what string) {
	c.t.Helper()
	names, err := c.clean.list(c.t.Context(), manifestKind)
	if err != nil {
		c.t.Fatal(err)
	}
	for name, size := range names {
		data, err := c.clean.get(c.t.Context(), c.clean.key(manifestKind, name), size, nil)
		if err == nil {
			_, err = c.clean.Verify(c.t.Context(), Checkpoint{name, digestOf(data)}, nil)
		}
		if err != nil {
			c.t.Fatalf("after %s, with the faults %v: %v", what, c.faults.Seen(), err)
		}
	}
}

func (c *course) upload(name string, bases ...string) {
	c.t.Helper()
	opts := UploadOptions{State: c.states[name]}
	for _, base := range bases {
		opts.Bases = append(opts.Bases, c.made[base])
	}
	c.attempt("upload of "+name, func(ctx context.Context) error {
		summary, err := c.f.Upload(ctx, name, c.dirs[name], opts)
		c.made[name] = Checkpoint{name, summary.ManifestDigest}
		return err
	})
	if left := keys(c.t, c.clean.Store, c.clean.key(intentKind)); len(left) > 0 {
		c.t.Errorf("after the upload of %s there are the intents %v", name, left)
	}
}

func (c *course) fetch(name string) {
	c.t.Helper()
	to := filepath.Join(c.t.TempDir(), name)
	c.attempt("fetch of "+name, func(ctx context.Context) error {
		_, err := c.f.Fetch(ctx, c.made[name], to, nil)
		if err != nil {
			expectNothing(c.t, to)
		}
		return err
	})
	expectFiles(c.t, to, read(c.t, c.dirs[name]))
	c.attempt("verification of "+name, func(ctx context.Context) error {
		_, err := c.f.Verify(ctx, c.made[name], nil)
		return err
	})
	c.attempt("files of "+name, func(ctx context.Context) error {
		open, err := c.f.Open(ctx, c.made[name])
		if err != nil {
			return err
		}
		return expectSame(c.t, os.DirFS(c.dirs[name]), open.Files(ctx))
	})
	open, err := c.clean.Open(c.t.Context(), c.made[name])
	if err != nil {
		c.t.Fatal(err)
	}
	open.reader.Folder = c.f
	c.attempt("page of "+name, func(ctx context.Context) error {
		page, err := open.Page(ctx, "containers/a/criu/pagemap-7.img", 0x10000)
		if err == nil && string(page) != noise(1, testPage) {
			c.t.Error("a page has another content")
		}
		return err
	})
}

// expectSame compares the files of a checkpoint with what they were, until one cannot be read.
func expectSame(t *testing.T, want, got fs.FS) error {
	t.Helper()
	return fs.WalkDir(got, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(got, name)
		if err != nil {
			return err
		}
		if was, err := fs.ReadFile(want, name); err != nil || !bytes.Equal(was, data) {
			t.Errorf("%s is not what it was (%v)", name, err)
		}
		return nil
	})
}

// delete deletes.
func (c *course) delete(name string) {
	c.t.Helper()
	c.attempt("deletion of "+name, func(ctx context.Context) error { return c.f.Delete(ctx, name) })
	if got := keys(c.t, c.clean.Store, c.clean.key(manifestKind, name)); len(got) > 0 {
		c.t.Errorf("after the deletion of %s there is %v", name, got)
	}
}

// run lets checkpoints come and go: each but the first relies on the one before, and some uploads are given up.
func (c *course) run() {
	names := []string{"a", "b", "c"}
	for i, name := range names {
		c.dirs[name] = c.t.TempDir()
		write(c.t, c.dirs[name], small(byte(10+i)))
		if c.random.IntN(2) == 0 {
			c.states[name] = filepath.Join(c.t.TempDir(), "state")
		}
	}
	c.upload("a")
	if c.random.IntN(3) == 0 { // it is given up half-way, and begun anew under its name
		ctx, cancel := c.faults.Attempt(c.t.Context(), 3)
		_, _ = c.f.Upload(ctx, "b", c.dirs["b"], UploadOptions{State: c.states["b"], Bases: []Checkpoint{c.made["a"]}})
		cancel()
		c.whole("an upload that is given up")
		c.delete("b")
	}
	c.upload("b", "a")
	c.fetch("a")
	c.delete("a")
	c.upload("c", "a", "b")
	c.fetch("b")
	c.delete("b")
	c.fetch("c")
	c.delete("c")
	if left := keys(c.t, c.clean.Store, ""); len(left) > 0 {
		c.t.Errorf("after all are deleted there are %v", left)
	}
}

const (
	mostCourses = 60
	forCourses  = 6 * time.Second // on each adapter
)

// TestWhateverGoesWrongNothingWrongComesOut has a store fail in many ways, each as its seed says. Test one again with -run …/seed-17.
func TestWhateverGoesWrongNothingWrongComesOut(t *testing.T) {
	runCourses(t, func(t *testing.T, _ int) storage.Store { return openStore(t) })
}

// TestWhateverGoesWrongOnS3 does the same with a real server.
func TestWhateverGoesWrongOnS3(t *testing.T) {
	server := storagetest.StartMinIO(t)
	server.MakeBucket(t, "bucket")
	runCourses(t, func(t *testing.T, seed int) storage.Store { return openS3(t, server, fmt.Sprintf("courses/%d", seed)) })
}

func runCourses(t *testing.T, open func(t *testing.T, seed int) storage.Store) {
	t.Helper()
	began := time.Now()
	for seed := range mostCourses {
		if time.Since(began) > forCourses {
			t.Logf("%d courses in %v", seed, forCourses)
			return
		}
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			clean := &Folder{Store: open(t, seed), Name: testFolder, Memory: NewMemory(1, 1)} // so that the order is the same each time
			if seed%2 == 1 {
				clean.Keys = testKeys
			}
			faults := storagetest.NewFaulty(clean.Store, rand.New(rand.NewPCG(uint64(seed), 0)), 0, storagetest.All...)
			faultyFolder := *clean
			faultyFolder.Store = faults
			if seed%4 >= 2 {
				faultyFolder.Store = retry.New(faults, retry.Options{FirstWait: 50 * time.Microsecond, LongestWait: time.Millisecond, Limit: 10 * time.Millisecond})
			}
			c := &course{t: t, clean: clean, f: &faultyFolder, faults: faults, random: rand.New(rand.NewPCG(uint64(seed), 1)),
				dirs: map[string]string{}, states: map[string]string{}, made: map[string]Checkpoint{}}
			c.run()
		})
	}
}
