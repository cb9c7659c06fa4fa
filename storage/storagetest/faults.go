package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// Fault is what can go wrong in a call of a store.
type Fault int

// The faults.
const (
	noFault   Fault = iota
	Early           // storage.ErrUnavailable, and nothing was done
	Late            // storage.ErrUnavailable, and it was done: the answer is lost
	Twice           // it is done twice, which nobody sees
	Stalled         // nothing happens any more, see Attempt
	Slow            // a body comes in pieces, with pauses
	NoSpace         // a put has no room
	Denied          // a put is not allowed
	CutOff          // a body or list breaks off, as a connection does
	EndsShort       // a body ends too early, as if all were well
	Flipped         // a body has a wrong bit
)

// Passing are the faults that storage/retry hides.
var Passing = []Fault{Early, Late, Twice, Stalled, Slow, CutOff}

// All are all faults.
var All = append(slices.Clone(Passing), NoSpace, Denied, EndsShort, Flipped)

// Meaning returns the only error that may be seen of a fault in the end; nil if there is none. For the caller of storage/image that of a body which is not
// what it was is storage.ErrCorrupt; a store itself does not see it.
func (f Fault) Meaning() error {
	switch f {
	case Early, Late, CutOff:
		return storage.ErrUnavailable
	case NoSpace:
		return storage.ErrNoSpace
	case Denied:
		return storage.ErrAccessDenied
	case EndsShort, Flipped:
		return storage.ErrCorrupt
	case Stalled:
		return context.Canceled
	}
	return nil
}

// A slow body comes in so many pieces, with a pause before each. That is also how long a stalled call takes, outside of attempts.
const (
	pieces = 5
	pause  = 200 * time.Microsecond
)

// Faulty is a store in which one call of several goes wrong, at random.
//
// Some calls do so only as far as repeating them is no guess: a body that can be read only once is sent; a put if absent is done once, if at all; an upload
// that has ended is not ended again.
type Faulty struct {
	storage.Store
	faults []Fault

	mu     sync.Mutex
	random *rand.Rand
	oneOf  int
	seen   map[Fault]int
	cancel func() // ends the attempt; nil outside of one
}

// NewFaulty returns a store in which one of so many calls goes wrong, in one of these ways; with 0 none does.
func NewFaulty(store storage.Store, random *rand.Rand, oneOf int, faults ...Fault) *Faulty {
	return &Faulty{Store: store, faults: faults, random: random, oneOf: oneOf, seen: map[Fault]int{}}
}

// Attempt begins an attempt, with another number of calls of which one goes wrong, and returns its context. When a call is stalled that ends. Outside of
// attempts such a call ends after a moment with storage.ErrUnavailable, as by the time-out of a client.
func (f *Faulty) Attempt(parent context.Context, oneOf int) (context.Context, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithCancel(parent)
	f.oneOf, f.seen, f.cancel = oneOf, map[Fault]int{}, cancel
	return ctx, cancel
}

// Seen returns how often each fault came, since the last attempt began.
func (f *Faulty) Seen() map[Fault]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.seen)
}

// draw says what happens to a call.
func (f *Faulty) draw(among ...Fault) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	among = slices.DeleteFunc(among, func(fault Fault) bool { return !slices.Contains(f.faults, fault) })
	if f.oneOf == 0 || len(among) == 0 || f.random.IntN(f.oneOf) > 0 {
		return noFault
	}
	drawn := among[f.random.IntN(len(among))]
	f.seen[drawn]++
	return drawn
}

func (f *Faulty) number(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.IntN(n)
}

// errTimeout is what a client says of a server that is silent, and errCut of a connection that breaks.
var (
	errTimeout = fmt.Errorf("the server is silent: %w", storage.ErrUnavailable)
	errCut     = fmt.Errorf("the connection breaks: %w: %w", storage.ErrUnavailable, io.ErrUnexpectedEOF)
)

func (f *Faulty) stall(ctx context.Context) error {
	f.mu.Lock()
	cancel := f.cancel
	f.mu.Unlock()
	if cancel == nil {
		time.Sleep(pause)
		return errTimeout
	}
	cancel()
	<-ctx.Done()
	return ctx.Err()
}

// try does a call, unless it goes wrong before.
func (f *Faulty) try(ctx context.Context, do func() error, among ...Fault) error {
	switch drawn := f.draw(among...); drawn {
	case Early:
		return fmt.Errorf("before: %w", storage.ErrUnavailable)
	case Late:
		_ = do() // its answer is lost
		return fmt.Errorf("afterwards: %w", storage.ErrUnavailable)
	case Twice:
		err := do()
		_ = do() // nobody hears of it
		return err
	case Stalled:
		return f.stall(ctx)
	case NoSpace, Denied:
		return fmt.Errorf("put: %w", drawn.Meaning())
	}
	return do()
}

// tryBody does a call with a body.
func (f *Faulty) tryBody(ctx context.Context, body storage.Body, ifAbsent bool, do func() error) error {
	switch {
	case !body.Repeatable():
		return do()
	case ifAbsent:
		return f.try(ctx, do, Early, Stalled, NoSpace, Denied)
	}
	return f.try(ctx, do, Early, Late, Twice, Stalled, NoSpace, Denied)
}

// Put implements storage.Store.
func (f *Faulty) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	return f.tryBody(ctx, body, opts.IfAbsent, func() error { return f.Store.Put(ctx, key, body, opts) })
}

// Delete implements storage.Store.
func (f *Faulty) Delete(ctx context.Context, key string) error {
	return f.try(ctx, func() error { return f.Store.Delete(ctx, key) }, Early, Late, Twice, Stalled)
}

// Stat implements storage.Store.
func (f *Faulty) Stat(ctx context.Context, key string) (info storage.Info, err error) {
	err = f.try(ctx, func() error { info, err = f.Store.Stat(ctx, key); return err }, Early, Stalled)
	return info, err
}

// List implements storage.Store.
func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		left := -1
		if f.draw(CutOff) == CutOff {
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

// Get implements storage.Store.
func (f *Faulty) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	drawn := f.draw(Early, Stalled, Slow, CutOff, EndsShort, Flipped)
	if drawn == Early {
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
	at, faulty := f.number(len(data)), &faultyBody{end: func() error { return io.EOF }}
	switch drawn {
	case Slow:
		faulty.most = len(data)/pieces + 1
	case Flipped:
		data[at] ^= 1 << f.number(8)
	case EndsShort:
		data = data[:at]
	case CutOff:
		data, faulty.end = data[:at], func() error { return errCut }
	case Stalled:
		data, faulty.end = data[:at], func() error { return f.stall(ctx) }
	}
	faulty.data = data
	return io.NopCloser(faulty), nil
}

// faultyBody has an end of its own.
type faultyBody struct {
	data []byte
	most int // bytes at once, after a pause; 0 for no bound
	end  func() error
}

func (b *faultyBody) Read(p []byte) (int, error) {
	if len(b.data) == 0 {
		return 0, b.end()
	}
	if b.most > 0 {
		time.Sleep(pause)
		p = p[:min(len(p), b.most)]
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

// Begin implements storage.Store.
func (f *Faulty) Begin(ctx context.Context, key string) (upload storage.Upload, err error) {
	err = f.try(ctx, func() error { upload, err = f.Store.Begin(ctx, key); return err }, Early, Late, Stalled)
	return upload, err
}

// PutPart implements storage.Store.
func (f *Faulty) PutPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (part storage.Part, err error) {
	err = f.tryBody(ctx, body, false, func() error { part, err = f.Store.PutPart(ctx, upload, number, body); return err })
	return part, err
}

// Parts implements storage.Store.
func (f *Faulty) Parts(ctx context.Context, upload storage.Upload) (parts []storage.Part, err error) {
	err = f.try(ctx, func() error { parts, err = f.Store.Parts(ctx, upload); return err }, Early, Stalled)
	return parts, err
}

// Complete implements storage.Store.
func (f *Faulty) Complete(ctx context.Context, upload storage.Upload, parts []storage.Part) error {
	complete := func() error { return f.Store.Complete(ctx, upload, parts) }
	if _, err := f.Store.Parts(ctx, upload); errors.Is(err, storage.ErrNotExist) {
		return complete()
	}
	return f.try(ctx, complete, Early, Late, Twice, Stalled)
}

// Abort implements storage.Store.
func (f *Faulty) Abort(ctx context.Context, upload storage.Upload) error {
	return f.try(ctx, func() error { return f.Store.Abort(ctx, upload) }, Early, Late, Twice, Stalled)
}
