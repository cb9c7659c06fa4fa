package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/transparent-checkpoint/operator/storage"
)

// The defaults of Options.
const (
	DefaultFirstWait = 500 * time.Millisecond
	DefaultLongest   = 30 * time.Second
	DefaultLimit     = 15 * time.Minute
)

// Options say how patient to be. Durations of zero or less mean the default.
type Options struct {
	// FirstWait is about how long to wait before the second attempt. Each further wait is 1.5 times as long, and each is up to a half longer or
	// shorter at random.
	FirstWait time.Duration
	// LongestWait is about how long to wait between two attempts at most.
	LongestWait time.Duration
	// Limit is how long to go on with one call, or with one read or list that made no progress. Earlier the context may end. The time in which a body
	// was read does not count: at a low bandwidth one attempt may take longer.
	Limit time.Duration
	// Notify, unless nil, is called before each wait: what failed (the name of the method, or "Read"), on which key, in which attempt (from 1
	// on), why, and how long the wait will be. It is called by the goroutine of the call and should return soon.
	Notify func(op, key string, attempt int, err error, wait time.Duration)
}

// Store is a storage.Store that repeats.
type Store struct {
	store storage.Store
	opts  Options
}

var _ storage.Store = (*Store)(nil)

// New returns a store that repeats what failed with storage.ErrUnavailable in the given one.
func New(store storage.Store, opts Options) *Store {
	for duration, standard := range map[*time.Duration]time.Duration{
		&opts.FirstWait: DefaultFirstWait, &opts.LongestWait: DefaultLongest, &opts.Limit: DefaultLimit,
	} {
		if *duration <= 0 {
			*duration = standard
		}
	}
	return &Store{store: store, opts: opts}
}

// Put implements storage.Store. A body that is not Repeatable is put once. A put if absent may fail with storage.ErrExist because of its own
// first attempt, whose answer was lost: whoever needs to know compares what is there.
func (s *Store) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	if !body.Repeatable() {
		return s.store.Put(ctx, key, body, opts)
	}
	sent := &progress{}
	body = sent.watch(body)
	return s.repeatPut(ctx, "Put", key, sent, func(int) error { return s.store.Put(ctx, key, body, opts) })
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (info storage.Info, err error) {
	err = s.repeat(ctx, "Stat", key, func(int) error {
		info, err = s.store.Stat(ctx, key)
		return err
	})
	return info, err
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.repeat(ctx, "Delete", key, func(int) error { return s.store.Delete(ctx, key) })
}

// Begin implements storage.Store. An attempt whose answer was lost leaves an empty upload behind.
func (s *Store) Begin(ctx context.Context, key string) (upload storage.Upload, err error) {
	err = s.repeat(ctx, "Begin", key, func(int) error {
		upload, err = s.store.Begin(ctx, key)
		return err
	})
	return upload, err
}

// PutPart implements storage.Store. A body that is not Repeatable is put once.
func (s *Store) PutPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (part storage.Part, err error) {
	if !body.Repeatable() {
		return s.store.PutPart(ctx, upload, number, body)
	}
	sent := &progress{}
	body = sent.watch(body)
	err = s.repeatPut(ctx, "PutPart", upload.Key, sent, func(int) error {
		part, err = s.store.PutPart(ctx, upload, number, body)
		return err
	})
	return part, err
}

// Parts implements storage.Store.
func (s *Store) Parts(ctx context.Context, upload storage.Upload) (parts []storage.Part, err error) {
	err = s.repeat(ctx, "Parts", upload.Key, func(int) error {
		parts, err = s.store.Parts(ctx, upload)
		return err
	})
	return parts, err
}

// Complete implements storage.Store. When a repetition finds no upload but an object of the right size, the attempt before has succeeded and
// only its answer was lost.
func (s *Store) Complete(ctx context.Context, upload storage.Upload, parts []storage.Part) error {
	var gone error // what a repetition said of the upload; from then on only the object is looked for
	return s.repeat(ctx, "Complete", upload.Key, func(attempt int) error {
		if gone == nil {
			err := s.store.Complete(ctx, upload, parts)
			if attempt == 1 || !errors.Is(err, storage.ErrNotExist) {
				return err
			}
			gone = err
		}
		info, err := s.store.Stat(ctx, upload.Key)
		switch {
		case errors.Is(err, storage.ErrUnavailable):
			return err
		case err == nil && info.Size == sizeOf(parts):
			return nil
		}
		return gone
	})
}

// sizeOf returns the bytes of all parts.
func sizeOf(parts []storage.Part) (size int64) {
	for _, part := range parts {
		size += part.Size
	}
	return size
}

// Abort implements storage.Store.
func (s *Store) Abort(ctx context.Context, upload storage.Upload) error {
	return s.repeat(ctx, "Abort", upload.Key, func(int) error { return s.store.Abort(ctx, upload) })
}

// repeat calls do with the number of the attempt, from 1 on, until it returns something else than storage.ErrUnavailable.
func (s *Store) repeat(ctx context.Context, op, key string, do func(attempt int) error) error {
	return s.repeatPut(ctx, op, key, &progress{}, do)
}

// repeatPut does so with what reads a body.
func (s *Store) repeatPut(ctx context.Context, op, key string, sent *progress, do func(attempt int) error) error {
	attempt := 0
	var last error
	operation := func() error {
		attempt++
		last = do(attempt)
		if last != nil && !errors.Is(last, storage.ErrUnavailable) {
			return backoff.Permanent(last)
		}
		return last
	}
	notify := func(err error, wait time.Duration) {
		if s.opts.Notify != nil {
			s.opts.Notify(op, key, attempt, err, wait)
		}
	}
	err := backoff.RetryNotify(operation, backoff.WithContext(s.waits(sent), ctx), notify)
	switch {
	case last == nil:
		return nil
	case errors.Is(err, storage.ErrUnavailable) && attempt > 1:
		return fmt.Errorf("in %d attempts: %w", attempt, err)
	case ctx.Err() != nil && errors.Is(last, storage.ErrUnavailable): // it ended while waiting
		return fmt.Errorf("after %d attempts, the last of which said %q: %w", attempt, last.Error(), ctx.Err())
	}
	return err
}

func (s *Store) waits(sent *progress) backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(s.opts.FirstWait),
		backoff.WithMaxInterval(s.opts.LongestWait),
		backoff.WithMaxElapsedTime(s.opts.Limit),
		backoff.WithClockProvider(sent),
	)
}
