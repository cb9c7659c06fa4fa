package image

import (
	"context"
	"sync"
	"time"

	"github.com/transparent-checkpoint/operator/storage/turn"
)

// Memory bounds what transfers hold in buffers. It is shared by as many as should keep the bound together. Who waits for some is served in the order of
// package turn: uploads with UploadOptions.Background are last.
//
// What says where the pages of a checkpoint are takes memory too, by the number of their pieces and not by their size. Where that is much (large), but one
// upload and one fetch go on at a time, each in the place of a pack.
type Memory struct {
	packs, gets *turn.Line
	large       [2]*turn.Line // by direction

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
	return &Memory{
		packs: turn.NewLine(packs, yields), gets: turn.NewLine(gets, yields),
		large: [2]*turn.Line{turn.NewLine(1, yields), turn.NewLine(1, yields)},
	}
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

// The directions of a transfer.
const (
	up = iota
	down
)

const (
	largeTables = 4 << 20 // bytes of a manifest, or of twice the maps of pages: about 200 000 pieces, which take some 16 MiB
	enoughPacks = 4       // with fewer, tables take none of their places: packs need some
)

// tables are those of one transfer. It is not safe for use by several goroutines at once.
type tables struct {
	memory    *Memory
	direction int
	leave     []func()
}

func (m *Memory) tables(direction int) *tables { return &tables{memory: m, direction: direction} }

// take waits until there is room for tables that take so many bytes in a manifest. What is asked for later by the same transfer has its room already. Nil
// has room for all.
func (t *tables) take(ctx context.Context, size int64) error {
	if t == nil || size < largeTables || len(t.leave) > 0 {
		return nil
	}
	lines := []*turn.Line{t.memory.large[t.direction]}
	if t.memory.packs.Places() >= enoughPacks {
		lines = append(lines, t.memory.packs)
	}
	for _, line := range lines {
		leave, err := line.Wait(ctx)
		if err != nil {
			t.give()
			return err
		}
		t.leave = append(t.leave, leave)
	}
	return nil
}

// give gives the room back.
func (t *tables) give() {
	for _, leave := range t.leave {
		leave()
	}
	t.leave = nil
}
