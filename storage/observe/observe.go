// Package observe tells of what is asked of a store, for metrics: which method, how long it took, and what was wrong.
//
// It imports the port alone, and knows nothing of who counts. Start reading at New.
package observe

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// Tell is called after each call: with the name of the method, how long it took, and its error. A body that breaks while it is read is told of as Read, with
// the time since its Get. It should return soon, and may be called by many goroutines at once.
type Tell func(method string, took time.Duration, err error)

// New returns a store that tells of each call to the given one.
func New(store storage.Store, tell Tell) storage.Store { return &observed{store, tell} }

type observed struct {
	storage.Store
	tell Tell
}

// since begins a call, and returns what ends it.
func (s *observed) since(method string) func(*error) {
	began := time.Now()
	return func(err *error) { s.tell(method, time.Since(began), *err) }
}

// Put implements storage.Store.
func (s *observed) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) (err error) {
	defer s.since("Put")(&err)
	return s.Store.Put(ctx, key, body, opts)
}

// Get implements storage.Store.
func (s *observed) Get(ctx context.Context, key string, r storage.Range) (body io.ReadCloser, err error) {
	began := time.Now()
	body, err = s.Store.Get(ctx, key, r)
	s.tell("Get", time.Since(began), err)
	if err != nil {
		return nil, err
	}
	return &reader{ReadCloser: body, tell: s.tell, began: began}, nil
}

// Stat implements storage.Store.
func (s *observed) Stat(ctx context.Context, key string) (info storage.Info, err error) {
	defer s.since("Stat")(&err)
	return s.Store.Stat(ctx, key)
}

// List implements storage.Store. The time that its caller takes for each object counts.
func (s *observed) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var failed error
		defer s.since("List")(&failed)
		for info, err := range s.Store.List(ctx, prefix, after) {
			failed = err
			if !yield(info, err) {
				return
			}
		}
	}
}

// Delete implements storage.Store.
func (s *observed) Delete(ctx context.Context, key string) (err error) {
	defer s.since("Delete")(&err)
	return s.Store.Delete(ctx, key)
}

// Begin implements storage.Uploader.
func (s *observed) Begin(ctx context.Context, key string) (upload storage.Upload, err error) {
	defer s.since("Begin")(&err)
	return s.Store.Begin(ctx, key)
}

// PutPart implements storage.Uploader.
func (s *observed) PutPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (part storage.Part, err error) {
	defer s.since("PutPart")(&err)
	return s.Store.PutPart(ctx, upload, number, body)
}

// Parts implements storage.Uploader.
func (s *observed) Parts(ctx context.Context, upload storage.Upload) (parts []storage.Part, err error) {
	defer s.since("Parts")(&err)
	return s.Store.Parts(ctx, upload)
}

// Complete implements storage.Uploader.
func (s *observed) Complete(ctx context.Context, upload storage.Upload, parts []storage.Part) (err error) {
	defer s.since("Complete")(&err)
	return s.Store.Complete(ctx, upload, parts)
}

// Abort implements storage.Uploader.
func (s *observed) Abort(ctx context.Context, upload storage.Upload) (err error) {
	defer s.since("Abort")(&err)
	return s.Store.Abort(ctx, upload)
}

// reader tells once that a body has broken.
type reader struct {
	io.ReadCloser
	tell   Tell
	began  time.Time
	broken bool
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !r.broken {
		r.broken = true
		r.tell("Read", time.Since(r.began), err)
	}
	return n, err
}
