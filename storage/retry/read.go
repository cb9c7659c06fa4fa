package retry

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/transparent-checkpoint/operator/storage"
)

// Get implements storage.Store. When the reader's connection breaks, it goes on from where it was with another Get; so an object that is
// replaced meanwhile may be read in two halves, which immutable objects and digests rule out.
func (s *Store) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	var body io.ReadCloser
	err := s.repeat(ctx, "Get", key, func(int) (err error) {
		body, err = s.store.Get(ctx, key, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, store: s, key: key, rest: r, body: body}, nil
}

// reader reads what is left of a range, from one body after the other.
type reader struct {
	ctx    context.Context
	store  *Store
	key    string
	rest   storage.Range
	body   io.ReadCloser
	broken bool // the body has failed
	ended  bool // all of it was read
	// invalid is what another Get said of the rest. From then on only the size is asked for, since a repetition would say the same.
	invalid error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.read(p)
	if !errors.Is(err, storage.ErrUnavailable) {
		return n, err
	}
	first := err
	err = r.store.repeat(r.ctx, "Read", r.key, func(attempt int) (err error) {
		if attempt == 1 {
			return first
		}
		n, err = r.read(p)
		return err
	})
	return n, err
}

// read reads once, from another body if the last one has failed. Bytes that came before a failure are a success.
func (r *reader) read(p []byte) (int, error) {
	if r.ended {
		return 0, io.EOF
	}
	if r.invalid != nil {
		return 0, r.atEnd()
	}
	if r.broken {
		body, err := r.store.store.Get(r.ctx, r.key, r.rest)
		if errors.Is(err, storage.ErrInvalid) {
			r.invalid = err
			return 0, r.atEnd()
		}
		if err != nil {
			return 0, err
		}
		_ = r.body.Close() // it has failed, and nothing was written to it
		r.body, r.broken = body, false
	}
	n, err := r.body.Read(p)
	r.advance(n)
	if r.broken = errors.Is(err, storage.ErrUnavailable); r.broken && n > 0 {
		return n, nil
	}
	return n, err
}

// atEnd returns io.EOF if the body broke behind its last byte: no range can begin there. Else it returns what Get said.
func (r *reader) atEnd() error {
	info, err := r.store.store.Stat(r.ctx, r.key)
	switch {
	case errors.Is(err, storage.ErrUnavailable):
		return err
	case err == nil && info.Size == r.rest.Offset:
		r.ended = true
		return io.EOF
	}
	return r.invalid
}

func (r *reader) advance(n int) {
	r.rest.Offset += int64(n)
	if r.rest.Length > 0 {
		r.rest.Length -= int64(n)
		r.ended = r.rest.Length == 0
	}
}

func (r *reader) Close() error { return r.body.Close() }

// List implements storage.Store. A list that breaks off goes on behind the last key that it has yielded.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for {
			before, stopped := after, false
			err := s.repeat(ctx, "List", prefix, func(int) error {
				for info, err := range s.store.List(ctx, prefix, after) {
					if err != nil {
						if after != before && errors.Is(err, storage.ErrUnavailable) {
							return nil // it made progress: begin again with a fresh limit
						}
						return err
					}
					if after = info.Key; !yield(info, nil) {
						stopped = true
						return nil
					}
				}
				stopped = true
				return nil
			})
			if err != nil {
				yield(storage.Info{}, err)
			}
			if err != nil || stopped {
				return
			}
		}
	}
}
