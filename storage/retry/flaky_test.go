package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/transparent-checkpoint/operator/storage"
)

var errHiccup = fmt.Errorf("hiccup: %w", storage.ErrUnavailable)

// flaky is a store that fails, always with the same error. It may be used by many goroutines.
type flaky struct {
	storage.Store
	err error
	// late lets calls do their work before they fail.
	late bool

	mu     sync.Mutex
	left   int // calls that are still to fail
	every  int // instead: one call in so many fails, unless its body can be read only once
	calls  int
	breaks int // readers and lists that are still to fail, each after so many bytes or entries
	after  int // 3, unless given
	opened int // bodies that calls began to read before they failed
}

// fails says whether this call is to fail.
func (f *flaky) fails() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.every > 0 {
		return f.calls%f.every == 0
	}
	f.left--
	return f.left >= 0
}

// breaksAt says whether a reader or list that has come so far is to fail there.
func (f *flaky) breaksAt(count int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if count < f.limit() {
		return false
	}
	f.breaks--
	return f.breaks >= 0
}

func (f *flaky) limit() int {
	if f.after > 0 {
		return f.after
	}
	return 3
}

func (f *flaky) try(do func() error) error {
	if !f.fails() {
		return do()
	}
	if f.late {
		_ = do() // its answer is lost
	}
	return f.err
}

// tryBody begins to read the body before it fails.
func (f *flaky) tryBody(body storage.Body, do func() error) error {
	if f.every > 0 && !body.Repeatable() || !f.fails() {
		return do()
	}
	f.mu.Lock()
	f.opened++
	f.mu.Unlock()
	r, err := body.Reader()
	if err != nil {
		return err
	}
	_, _ = r.Read(make([]byte, 2)) // an attempt that fails has read some
	return errors.Join(f.err, r.Close())
}

func (f *flaky) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	return f.tryBody(body, func() error { return f.Store.Put(ctx, key, body, opts) })
}

func (f *flaky) PutPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (part storage.Part, err error) {
	err = f.tryBody(body, func() error { part, err = f.Store.PutPart(ctx, upload, number, body); return err })
	return part, err
}

func (f *flaky) Get(ctx context.Context, key string, r storage.Range) (body io.ReadCloser, err error) {
	err = f.try(func() error { body, err = f.Store.Get(ctx, key, r); return err })
	if err != nil {
		return nil, err
	}
	return &flakyReader{ReadCloser: body, flaky: f}, nil
}

type flakyReader struct {
	io.ReadCloser
	flaky *flaky
	count int
}

func (r *flakyReader) Read(p []byte) (int, error) {
	if r.flaky.breaksAt(r.count) {
		return 0, r.flaky.err
	}
	if room := r.flaky.limit() - r.count; room > 0 && len(p) > room {
		p = p[:room]
	}
	n, err := r.ReadCloser.Read(p)
	r.count += n
	return n, err
}

func (f *flaky) Stat(ctx context.Context, key string) (info storage.Info, err error) {
	err = f.try(func() error { info, err = f.Store.Stat(ctx, key); return err })
	return info, err
}

func (f *flaky) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if f.fails() {
			yield(storage.Info{}, f.err)
			return
		}
		count := 0
		for info, err := range f.Store.List(ctx, prefix, after) {
			if f.breaksAt(count) {
				yield(storage.Info{}, f.err)
				return
			}
			count++
			if !yield(info, err) {
				return
			}
		}
	}
}

func (f *flaky) Delete(ctx context.Context, key string) error {
	return f.try(func() error { return f.Store.Delete(ctx, key) })
}

func (f *flaky) Begin(ctx context.Context, key string) (upload storage.Upload, err error) {
	err = f.try(func() error { upload, err = f.Store.Begin(ctx, key); return err })
	return upload, err
}

func (f *flaky) Parts(ctx context.Context, upload storage.Upload) (parts []storage.Part, err error) {
	err = f.try(func() error { parts, err = f.Store.Parts(ctx, upload); return err })
	return parts, err
}

// Complete of an upload that is gone does not fail at random: nobody could tell then whether it was completed by the attempt that failed.
func (f *flaky) Complete(ctx context.Context, upload storage.Upload, parts []storage.Part) error {
	if _, err := f.Store.Parts(ctx, upload); f.every > 0 && errors.Is(err, storage.ErrNotExist) {
		return f.Store.Complete(ctx, upload, parts)
	}
	return f.try(func() error { return f.Store.Complete(ctx, upload, parts) })
}

func (f *flaky) Abort(ctx context.Context, upload storage.Upload) error {
	return f.try(func() error { return f.Store.Abort(ctx, upload) })
}
