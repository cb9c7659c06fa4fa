package image

import (
	"context"
	"sync"
	"time"

	"github.com/transparent-checkpoint/operator/storage/turn"
)

// Memory bounds what transfers hold in buffers. It is shared by as many as should keep the bound together. Who waits for some is served in the order of
// package turn: uploads with UploadOptions.Background are last.
type Memory struct {
	packs, gets *turn.Line

	mu   sync.Mutex
	free [][]byte // buffers for packs that are not in use
}

// The default of NewMemory: what all transfers of a process may hold.
const (
	defaultPacks = 4 // packs being filled or sent
	defaultGets  = 8 // ranges being read; each takes about 1 MiB
)

// yields is how long background work lets others go first before it fills another pack.
const yields = time.Minute

// NewMemory returns a budget for so many packs that are filled or sent at once, each of about 33 MiB, and for so many reads.
func NewMemory(packs, gets int) *Memory {
	return &Memory{packs: turn.NewLine(packs, yields), gets: turn.NewLine(gets, yields)}
}

var common = sync.OnceValue(func() *Memory { return NewMemory(defaultPacks, defaultGets) })

// take waits for a buffer for a pack, and returns what gives it back. One that a failed request may still read is not given back: nil is, so that another
// one takes its place.
func (m *Memory) take(ctx context.Context) (buffer []byte, give func([]byte), err error) {
	leave, err := m.packs.Wait(ctx)
	if err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	if n := len(m.free); n > 0 {
		buffer, m.free = m.free[n-1], m.free[:n-1]
	}
	m.mu.Unlock()
	if buffer == nil {
		buffer = make([]byte, packBuffer)
	}
	return buffer, func(buffer []byte) {
		if buffer != nil {
			m.mu.Lock()
			m.free = append(m.free, buffer)
			m.mu.Unlock()
		}
		leave()
	}, nil
}

// read waits for the turn to read.
func (m *Memory) read(ctx context.Context) (done func(), err error) { return m.gets.Wait(ctx) }
