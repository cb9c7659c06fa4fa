package retry

import (
	"io"
	"sync"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// progress is a clock that stands still while a body is read, from when it is opened to its last byte so far.
type progress struct {
	mu    sync.Mutex
	spent time.Duration
	last  time.Time // when the body was opened or read
}

// Now implements backoff.Clock.
func (p *progress) Now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(-p.spent)
}

func (p *progress) step(isOpen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !isOpen {
		p.spent += now.Sub(p.last)
	}
	p.last = now
}

// watch returns a body that tells of each read.
func (p *progress) watch(body storage.Body) storage.Body {
	open := body.Open
	if open == nil {
		return body
	}
	body.Open = func() (io.ReadCloser, error) {
		r, err := open()
		p.step(true)
		return &watched{r, p}, err
	}
	return body
}

type watched struct {
	io.ReadCloser
	progress *progress
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.progress.step(false)
	return n, err
}
