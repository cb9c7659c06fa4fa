package image

import (
	"context"
	"sync"
)

// Memory bounds what transfers hold in buffers. It is shared by as many as should keep the bound together.
type Memory struct {
	packs chan []byte // free ones; nil stands for one that is not made yet
	gets  chan struct{}
}

// The default of NewMemory: what all transfers of a process may hold.
const (
	defaultPacks = 4 // packs being filled or sent
	defaultGets  = 8 // ranges being read; each takes about 1 MiB
)

// NewMemory returns a budget for so many packs that are filled or sent at once, each of about 33 MiB, and for so many reads.
func NewMemory(packs, gets int) *Memory {
	m := &Memory{packs: make(chan []byte, max(packs, 1)), gets: make(chan struct{}, max(gets, 1))}
	for range cap(m.packs) {
		m.packs <- nil
	}
	return m
}

var common = sync.OnceValue(func() *Memory { return NewMemory(defaultPacks, defaultGets) })

// take waits for a buffer for a pack.
func (m *Memory) take(ctx context.Context) ([]byte, error) {
	select {
	case buffer := <-m.packs:
		if buffer == nil {
			buffer = make([]byte, packBuffer)
		}
		return buffer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// give gives a buffer back. One that a failed request may still read is not given back but replaced.
func (m *Memory) give(buffer []byte) { m.packs <- buffer }

// read waits for the turn to read.
func (m *Memory) read(ctx context.Context) (done func(), err error) {
	select {
	case m.gets <- struct{}{}:
		return func() { <-m.gets }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
