package s3

import (
	"context"
	"sync"
	"time"

	"github.com/transparent-checkpoint/operator/storage/turn"
)

// yields is how long the puts of background work let others go first before they send another part.
const yields = time.Minute

// buffers bounds how many parts a store has in memory.
type buffers struct {
	line *turn.Line
	size int64 // bytes of the buffers that are kept for the next part
	pool sync.Pool
}

// buffer is one of them, and n is how many bytes of it are used.
type buffer struct {
	data  []byte
	n     int
	leave func()
}

func newBuffers(count int, size int64) *buffers {
	return &buffers{line: turn.NewLine(count, yields), size: size}
}

// get waits until there may be one more buffer and returns one of that many bytes.
func (b *buffers) get(ctx context.Context, size int64) (*buffer, error) {
	leave, err := b.line.Wait(ctx)
	if err != nil {
		return nil, err
	}
	if kept, ok := b.pool.Get().(*[]byte); ok && size == b.size {
		return &buffer{data: *kept, leave: leave}, nil
	}
	return &buffer{data: make([]byte, size), leave: leave}, nil
}

// put takes a buffer back.
func (b *buffers) put(used *buffer) {
	if int64(len(used.data)) == b.size {
		b.pool.Put(&used.data)
	}
	used.leave()
}
