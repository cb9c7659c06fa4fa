package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/storage/retry"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

func open(t *testing.T) storage.Store {
	t.Helper()
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// quick are options for tests: short waits, and the notes of all attempts.
func quick(notes *[]string) retry.Options {
	return retry.Options{FirstWait: time.Millisecond, LongestWait: 2 * time.Millisecond, Limit: time.Minute,
		Notify: func(op, key string, attempt int, err error, wait time.Duration) {
			if wait <= 0 || wait > time.Second {
				*notes = append(*notes, fmt.Sprintf("a wait of %v", wait))
			}
			*notes = append(*notes, fmt.Sprintf("%s %s %d: %v", op, key, attempt, err))
		}}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store { return retry.New(open(t), retry.Options{}) })
}

func TestConformanceAboveAFlakyStore(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store {
		inner := &flaky{Store: open(t), err: errHiccup, every: 2, breaks: 1 << 30, after: 1 << 20}
		return retry.New(inner, retry.Options{FirstWait: time.Microsecond, LongestWait: time.Microsecond})
	})
}

func TestEveryMethodIsRepeated(t *testing.T) {
	t.Parallel()
	base := open(t)
	ctx := t.Context()
	upload, err := base.Begin(ctx, "upload")
	if err != nil {
		t.Fatal(err)
	}
	part, err := base.PutPart(ctx, upload, 1, storage.Bytes([]byte("part")))
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		op, key string
		call    func(storage.Store) error
	}{
		{"Put", "key", func(s storage.Store) error {
			return s.Put(ctx, "key", storage.Bytes([]byte("0123456789")), storage.PutOptions{})
		}},
		{"Stat", "key", func(s storage.Store) error { _, err := s.Stat(ctx, "key"); return err }},
		{"Get", "key", func(s storage.Store) error { return expectBody(ctx, s, "key", storage.Range{}, "0123456789") }},
		{"List", "k", func(s storage.Store) error { return firstError(s.List(ctx, "k", "")) }},
		{"Begin", "other", func(s storage.Store) error { _, err := s.Begin(ctx, "other"); return err }},
		{"PutPart", "upload", func(s storage.Store) error {
			_, err := s.PutPart(ctx, upload, 1, storage.Bytes([]byte("part")))
			return err
		}},
		{"Parts", "upload", func(s storage.Store) error { _, err := s.Parts(ctx, upload); return err }},
		{"Complete", "upload", func(s storage.Store) error { return s.Complete(ctx, upload, []storage.Part{part}) }},
		{"Abort", "upload", func(s storage.Store) error { return s.Abort(ctx, upload) }},
		{"Delete", "key", func(s storage.Store) error { return s.Delete(ctx, "key") }},
	}
	for _, step := range steps {
		var notes []string
		store := retry.New(&flaky{Store: base, err: errHiccup, left: 2}, quick(&notes))
		if err := step.call(store); err != nil {
			t.Errorf("%s: %v", step.op, err)
		}
		want := []string{
			fmt.Sprintf("%s %s 1: hiccup: the store is unavailable", step.op, step.key), fmt.Sprintf("%s %s 2: hiccup: the store is unavailable", step.op, step.key),
		}
		if diff := cmp.Diff(want, notes); diff != "" {
			t.Errorf("notes of %s (-want +got):\n%s", step.op, diff)
		}
	}
}

func firstError(list iter.Seq2[storage.Info, error]) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

func expectBody(ctx context.Context, store storage.Store, key string, r storage.Range, want string) error {
	body, err := store.Get(ctx, key, r)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(body)
	if diff := cmp.Diff(want, string(data)); diff != "" && err == nil {
		err = fmt.Errorf("body (-want +got):\n%s", diff)
	}
	return errors.Join(err, body.Close())
}

func TestOnlyTemporaryErrorsAreRepeated(t *testing.T) {
	t.Parallel()
	for _, permanent := range []error{
		storage.ErrNotExist, storage.ErrExist, storage.ErrNoBucket, storage.ErrAccessDenied, storage.ErrNoSpace, storage.ErrInvalid, storage.ErrCorrupt,
		errors.New("something else"),
	} {
		var notes []string
		store := retry.New(&flaky{Store: open(t), err: permanent, left: 1}, quick(&notes))
		if _, err := store.Stat(t.Context(), "key"); !errors.Is(err, permanent) || len(notes) > 0 {
			t.Errorf("%v: have the error %v and the notes %q, want the same at once", permanent, err, notes)
		}
	}
}

func TestBodiesAreReadAgainOrNever(t *testing.T) {
	t.Parallel()
	base := open(t)
	upload, err := base.Begin(t.Context(), "upload")
	if err != nil {
		t.Fatal(err)
	}
	puts := map[string]func(storage.Store, storage.Body) error{
		"Put": func(s storage.Store, b storage.Body) error { return s.Put(t.Context(), "key", b, storage.PutOptions{}) },
		"PutPart": func(s storage.Store, b storage.Body) error {
			_, err := s.PutPart(t.Context(), upload, 1, b)
			return err
		},
	}
	for name, put := range puts {
		var notes []string
		inner := &flaky{Store: base, err: errHiccup, left: 2}
		if err := put(retry.New(inner, quick(&notes)), storage.Section(bytes.NewReader([]byte("0123456789")), 0, 10)); err != nil {
			t.Errorf("%s of a section: %v", name, err)
		}
		if inner.opened != 2 {
			t.Errorf("%s of a section: %d attempts failed, want 2", name, inner.opened)
		}
		inner = &flaky{Store: base, err: errHiccup, left: 2}
		err := put(retry.New(inner, quick(&notes)), storage.Once(bytes.NewReader([]byte("abc")), 3))
		if !errors.Is(err, storage.ErrUnavailable) || inner.opened != 1 {
			t.Errorf("%s of what can be read once: have the error %v in attempt %d, want %v in attempt 1", name, err, inner.opened, errHiccup)
		}
	}
	if err := expectBody(t.Context(), base, "key", storage.Range{}, "0123456789"); err != nil {
		t.Error(err)
	}
}

func TestReadersGoOn(t *testing.T) {
	t.Parallel()
	base := open(t)
	if err := base.Put(t.Context(), "key", storage.Bytes([]byte("0123456789")), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		r    storage.Range
		want string
	}{
		"the whole object":                     {want: "0123456789"},
		"from an offset on":                    {r: storage.Range{Offset: 2}, want: "23456789"},
		"a range":                              {r: storage.Range{Offset: 2, Length: 6}, want: "234567"},
		"a range that reaches behind the end":  {r: storage.Range{Offset: 2, Length: 100}, want: "23456789"},
		"a range that ends where it breaks":    {r: storage.Range{Offset: 2, Length: 3}, want: "234"},
		"a range that ends where it breaks, 2": {r: storage.Range{Length: 9}, want: "012345678"},
		"an end where it breaks":               {r: storage.Range{Offset: 7}, want: "789"},
		"an end where it breaks, in a range":   {r: storage.Range{Offset: 4, Length: 100}, want: "456789"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var notes []string
			store := retry.New(&flaky{Store: base, err: errHiccup, breaks: 2}, quick(&notes))
			if err := expectBody(t.Context(), store, "key", test.r, test.want); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestListsGoOn(t *testing.T) {
	t.Parallel()
	base := open(t)
	var want, got []string
	for i := range 10 {
		key := fmt.Sprintf("key/%d", i)
		want = append(want, key)
		if err := base.Put(t.Context(), key, storage.Bytes(nil), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var notes []string
	store := retry.New(&flaky{Store: base, err: errHiccup, left: 1, breaks: 3}, quick(&notes))
	for info, err := range store.List(t.Context(), "key/", "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestALostAnswerToComplete(t *testing.T) {
	t.Parallel()
	base := open(t)
	upload, err := base.Begin(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	part, err := base.PutPart(t.Context(), upload, 1, storage.Bytes([]byte("part")))
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	store := retry.New(&flaky{Store: base, err: errHiccup, left: 1, late: true}, quick(&notes))
	if err := store.Complete(t.Context(), upload, []storage.Part{part}); err != nil {
		t.Errorf("the attempt whose answer was lost: %v", err)
	}
	store = retry.New(&flaky{Store: base, err: errHiccup, left: 1}, quick(&notes))
	part.Size++
	if err := store.Complete(t.Context(), upload, []storage.Part{part}); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("another object than that of the upload: have the error %v, want %v", err, storage.ErrNotExist)
	}
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, patienceEnds) // where time passes only in waits, however busy the machine is
}

func patienceEnds(t *testing.T) {
	down := &flaky{Store: open(t), err: errHiccup, left: 1 << 30}
	var notes []string
	opts := quick(&notes)

	opts.Limit = 50 * time.Millisecond
	_, err := retry.New(down, opts).Stat(t.Context(), "key")
	if !errors.Is(err, storage.ErrUnavailable) || len(notes) < 3 {
		t.Errorf("at the limit: have the error %v after %d waits, want %v after many", err, len(notes), storage.ErrUnavailable)
	}

	opts.Limit = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = retry.New(down, opts).Stat(ctx, "key"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at the end of the context: have the error %v, want %v", err, context.DeadlineExceeded)
	}

	opts.FirstWait, opts.LongestWait, opts.Limit = time.Hour, time.Hour, 24*time.Hour // a wait may be half as long again
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = retry.New(down, opts).Stat(ctx, "key"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("during a wait: have the error %v, want %v", err, context.DeadlineExceeded)
	}
}

// slow is a store whose puts take a while for their bodies, and fail behind them.
type slow struct {
	storage.Store
	read, after time.Duration
	attempts    int
}

func (s *slow) Put(_ context.Context, _ string, body storage.Body, _ storage.PutOptions) error {
	s.attempts++
	r, err := body.Reader()
	if err != nil {
		return err
	}
	for one := make([]byte, 1); err == nil; _, err = r.Read(one) {
		time.Sleep(s.read)
	}
	time.Sleep(s.after)
	return errors.Join(errHiccup, r.Close())
}

func TestALowBandwidthTakesNoPatience(t *testing.T) {
	for name, test := range map[string]struct {
		store slow
		again bool
	}{
		"a body that is sent for longer than the limit": {slow{read: time.Minute}, true},
		"an answer that takes longer than the limit":    {slow{after: time.Minute}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var notes []string
				opts := quick(&notes)
				opts.Limit = 10 * time.Millisecond
				err := retry.New(&test.store, opts).Put(t.Context(), "key", storage.Bytes([]byte("abc")), storage.PutOptions{})
				if !errors.Is(err, storage.ErrUnavailable) || test.store.attempts > 1 != test.again {
					t.Errorf("have the error %v after %d attempts", err, test.store.attempts)
				}
			})
		})
	}
}
