package s3

import (
	"context"
	"sync"
)

// buffers bounds how many parts a store has in memory.
type buffers struct {
	tokens chan struct{}
	size   int64 // bytes of the buffers that are kept for the next part
	pool   sync.Pool
}

func newBuffers(count int, size int64) *buffers {
	return &buffers{tokens: make(chan struct{}, count), size: size}
}

// get waits until there may be one more buffer and returns one of that many bytes.
func (b *buffers) get(ctx context.Context, size int64) ([]byte, error) {
	select {
	case b.tokens <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if kept, ok := b.pool.Get().(*[]byte); ok && size == b.size {
		return *kept, nil
	}
	return make([]byte, size), nil
}

// put takes a buffer back.
func (b *buffers) put(buffer []byte) {
	if int64(cap(buffer)) == b.size {
		buffer = buffer[:cap(buffer)]
		b.pool.Put(&buffer)
	}
	<-b.tokens
}
