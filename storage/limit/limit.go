// Package limit holds stores to a bandwidth: what all of them together send and receive, in bytes a second.
//
// Bodies of background work (storage/turn) use what others leave of it. Yet a request that has begun goes on at some rate whatever else is sent, so that no
// server gives it up. Only the bodies of objects count. It imports the port, turn and x/time/rate. Start reading at Limits.
package limit

import (
	"context"
	"io"
	"time"

	"golang.org/x/time/rate"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/turn"
)

// Least is the lowest bandwidth, in bytes a second, at which a request rests for no more than a moment.
const Least = 64 << 10

const (
	chunk   = 64 << 10               // bytes that are paid for at once
	burst   = 100 * time.Millisecond // of the bandwidth, that may be used at once after less was
	patient = time.Second            // how long a background body rests between two chunks, at most
)

// Limits are shared by the stores that keep them together.
type Limits struct{ upload, download *pipe }

// New returns limits in bytes a second: Least or more, or 0 for none.
func New(upload, download int64) *Limits {
	return &Limits{upload: newPipe(upload), download: newPipe(download)}
}

// Store returns a store that keeps to the limits.
func (l *Limits) Store(store storage.Store) storage.Store {
	if l.upload == nil && l.download == nil {
		return store
	}
	return &limited{Store: store, limits: l}
}

type limited struct {
	storage.Store
	limits *Limits
}

// Put implements storage.Store.
func (s *limited) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	return s.Store.Put(ctx, key, s.limits.upload.body(ctx, body), opts)
}

// PutPart implements storage.Store.
func (s *limited) PutPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (storage.Part, error) {
	return s.Store.PutPart(ctx, upload, number, s.limits.upload.body(ctx, body))
}

// Get implements storage.Store.
func (s *limited) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	body, err := s.Store.Get(ctx, key, r)
	if err != nil || s.limits.download == nil {
		return body, err
	}
	return &reader{ReadCloser: body, ctx: ctx, pipe: s.limits.download}, nil
}

// pipe is one direction; nil is one without a limit.
type pipe struct{ *rate.Limiter }

func newPipe(bandwidth int64) *pipe {
	if bandwidth <= 0 {
		return nil
	}
	most := max(int64(float64(bandwidth)*burst.Seconds()), 2*chunk)
	return &pipe{rate.NewLimiter(rate.Limit(bandwidth), int(most))}
}

// body limits a body. It stays one that can be read again, or once only.
func (p *pipe) body(ctx context.Context, body storage.Body) storage.Body {
	if p == nil || body.Open == nil {
		return body
	}
	open := body.Open
	body.Open = func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		return &reader{ReadCloser: r, ctx: ctx, pipe: p}, nil
	}
	return body
}

// pay waits until n bytes may pass, chunk or less.
func (p *pipe) pay(ctx context.Context, n int) error {
	if turn.IsBackground(ctx) {
		if err := p.awaitRest(ctx, n); err != nil {
			return err
		}
	}
	reserved := p.ReserveN(time.Now(), n)
	err := sleep(ctx, reserved.Delay())
	if err != nil {
		reserved.Cancel()
	}
	return err
}

// awaitRest waits until half of the burst is left beside n bytes, as it is when others need less than the bandwidth; or until a body has rested enough.
func (p *pipe) awaitRest(ctx context.Context, n int) error {
	for end := time.Now().Add(patient); ; {
		missing := float64(n) + float64(p.Burst())/2 - p.Tokens()
		wait := min(time.Duration(missing/float64(p.Limit())*float64(time.Second)), time.Until(end))
		if wait <= 0 {
			return nil
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reader hands out what was paid for.
type reader struct {
	io.ReadCloser
	ctx  context.Context
	pipe *pipe
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p[:min(len(p), chunk)])
	if n > 0 {
		if paid := r.pipe.pay(r.ctx, n); paid != nil {
			return 0, paid
		}
	}
	return n, err
}
