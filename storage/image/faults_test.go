package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/retry"
)

// fault is what can go wrong in a call of a store.
type fault int

const (
	noFault   fault = iota
	early           // storage.ErrUnavailable, and nothing was done
	late            // storage.ErrUnavailable, and it was done: the answer is lost
	twice           // it is done twice, which nobody sees
	stalled         // nothing happens until the context ends
	noSpace         // a put has no room
	denied          // a put is not allowed
	cutOff          // a body or list breaks off, as a connection does
	endsShort       // a body ends too early, as if all were well
	flipped         // a body has a wrong bit
)

// meaning is the only error that the callers of a folder may see of a fault; nil if there is none.
var meaning = map[fault]error{
	early: storage.ErrUnavailable, late: storage.ErrUnavailable, cutOff: storage.ErrUnavailable, stalled: context.Canceled,
	noSpace: storage.ErrNoSpace, denied: storage.ErrAccessDenied, endsShort: storage.ErrCorrupt, flipped: storage.ErrCorrupt,
}

// faulty is a store in which one call of several goes wrong, as a seed says.
type faulty struct {
	storage.Store
	mu      sync.Mutex
	random  *rand.Rand
	oneOf   int             // calls, of which one goes wrong; 0 is none
	seen    map[fault]int   // since begin
	cancel  func()          // of the context of this attempt
	context context.Context // of this attempt
}

// begin begins an attempt, and returns its context.
func (f *faulty) begin(parent context.Context, oneOf int) (context.Context, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.oneOf, f.seen = oneOf, map[fault]int{}
	f.context, f.cancel = context.WithCancel(parent)
	return f.context, f.cancel
}

// draw says what happens to a call.
func (f *faulty) draw(among ...fault) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.oneOf == 0 || f.random.IntN(f.oneOf) > 0 {
		return noFault
	}
	drawn := among[f.random.IntN(len(among))]
	f.seen[drawn]++
	return drawn
}

func (f *faulty) number(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.IntN(n)
}

// stall waits for the end of the context, which comes soon.
func (f *faulty) stall(ctx context.Context) error {
	f.cancel()
	<-ctx.Done()
	return ctx.Err()
}

// try does a call that changes something or not.
func (f *faulty) try(ctx context.Context, do func() error, among ...fault) error {
	switch drawn := f.draw(among...); drawn {
	case early:
		return fmt.Errorf("before: %w", storage.ErrUnavailable)
	case late:
		return errors.Join(do(), fmt.Errorf("afterwards: %w", storage.ErrUnavailable))
	case twice:
		return errors.Join(do(), do())
	case stalled:
		return f.stall(ctx)
	case noSpace, denied:
		return fmt.Errorf("put: %w", meaning[drawn])
	}
	return do()
}

func (f *faulty) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	return f.try(ctx, func() error { return f.Store.Put(ctx, key, body, opts) }, early, late, twice, stalled, noSpace, denied)
}

func (f *faulty) Delete(ctx context.Context, key string) error {
	return f.try(ctx, func() error { return f.Store.Delete(ctx, key) }, early, late, twice, stalled)
}

func (f *faulty) Stat(ctx context.Context, key string) (info storage.Info, err error) {
	err = f.try(ctx, func() error { info, err = f.Store.Stat(ctx, key); return err }, early, stalled)
	return info, err
}

func (f *faulty) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		left := -1
		if f.draw(cutOff) == cutOff {
			left = f.number(3)
		}
		for info, err := range f.Store.List(ctx, prefix, after) {
			if left == 0 {
				break
			}
			left--
			if !yield(info, err) {
				return
			}
		}
		if left >= 0 {
			yield(storage.Info{}, errCut)
		}
	}
}

func (f *faulty) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	among := []fault{early, stalled, cutOff, endsShort, flipped}
	drawn := f.draw(among...)
	if drawn == early {
		return nil, fmt.Errorf("get: %w", storage.ErrUnavailable)
	}
	body, err := f.Store.Get(ctx, key, r)
	if err != nil || drawn == noFault {
		return body, err
	}
	data, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	at := f.number(len(data))
	end := func() error { return io.EOF }
	switch drawn {
	case flipped:
		data[at] ^= 1 << f.number(8)
	case endsShort:
		data = data[:at]
	case cutOff:
		data, end = data[:at], func() error { return errCut }
	case stalled:
		data, end = data[:at], func() error { return f.stall(ctx) }
	}
	return io.NopCloser(&ending{bytes.NewReader(data), end}), nil
}

// course is one life of a lineage in which things go wrong.
type course struct {
	t      *testing.T
	clean  *Folder // what is in the store
	f      *Folder // the same, through faults
	faults *faulty
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
		ctx, cancel := c.faults.begin(c.t.Context(), oneOf)
		err := do(ctx)
		cancel()
		c.whole(what)
		if err == nil {
			return
		}
		explained := slices.ContainsFunc([]fault{early, late, stalled, noSpace, denied, cutOff, endsShort, flipped}, func(drawn fault) bool {
			return c.faults.seen[drawn] > 0 && errors.Is(err, meaning[drawn])
		})
		if !explained || errors.Is(err, storage.ErrNotExist) {
			c.t.Fatalf("%s, attempt %d, with the faults %v: %v", what, i+1, c.faults.seen, err)
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
		data, err := c.clean.get(c.t.Context(), c.clean.key(manifestKind, name), size)
		if err == nil {
			_, err = c.clean.Verify(c.t.Context(), Checkpoint{name, digestOf(data)}, nil)
		}
		if err != nil {
			c.t.Fatalf("after %s, with the faults %v: %v", what, c.faults.seen, err)
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
		ctx, cancel := c.faults.begin(c.t.Context(), 3)
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
	forCourses  = 8 * time.Second
)

// TestWhateverGoesWrongNothingWrongComesOut has a store fail in many ways, each as its seed says. Test one again with -run …/seed-17.
func TestWhateverGoesWrongNothingWrongComesOut(t *testing.T) {
	began := time.Now()
	for seed := range mostCourses {
		if time.Since(began) > forCourses {
			t.Logf("%d courses in %v", seed, forCourses)
			return
		}
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			clean := folder(t)
			clean.Memory = NewMemory(1, 1) // so that the order is the same each time
			if seed%2 == 1 {
				clean.Keys = testKeys
			}
			random := rand.New(rand.NewPCG(uint64(seed), 0))
			faults := &faulty{Store: clean.Store, random: random}
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
