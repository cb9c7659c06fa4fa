package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Options say how to work.
type Options struct {
	// Parallel is how many chunks are on their way at once; each takes memory of twice its size, as it is and compressed, so that about
	// Parallel × 32 MiB is the bound. Of small files some more are on their way, within the same bound. Zero or less means DefaultParallel.
	Parallel int
	// Progress, unless nil, is told after each chunk how many bytes of the files are done, and how many there are. It is called by one goroutine
	// at a time and should return soon.
	Progress func(done, total int64)

	chunkSize int64 // of Upload; tests take small ones
}

// DefaultParallel is the default of Options.Parallel.
const DefaultParallel = 4

// Summary says what was done.
type Summary struct {
	ManifestDigest string // "sha256:" and hexadecimal digits
	Files          int    // regular files
	Bytes          int64  // of all files, holes included
	Sent           int64  // bytes that went through the store this time, the manifest not counted
}

// smallest is the part of a chunk's size that a small one counts as, which bounds how many are on their way.
const smallest = 8

// work does things with chunks, several at once, within a bound of memory. The first error ends it.
type work struct {
	ctx       context.Context
	group     *errgroup.Group
	chunkSize int64
	memory    *semaphore.Weighted
	buffers   sync.Pool // each with a capacity of chunkSize and slack

	mu       sync.Mutex
	progress func(done, total int64)
	done     int64
	total    int64
	sent     int64
}

func newWork(ctx context.Context, opts Options, chunkSize, total int64) *work {
	parallel := opts.Parallel
	if parallel <= 0 {
		parallel = DefaultParallel
	}
	w := &work{chunkSize: chunkSize, memory: semaphore.NewWeighted(int64(parallel) * chunkSize), progress: opts.Progress, total: total}
	w.group, w.ctx = errgroup.WithContext(ctx)
	return w
}

// start waits for memory and lets do work on a buffer of size bytes, beside which it may take one more; then it counts the chunk. do says how
// many bytes went through the store.
func (w *work) start(size int64, do func(buffer []byte) (sent int64, err error)) error {
	weight := max(size, w.chunkSize/smallest)
	if err := w.memory.Acquire(w.ctx, weight); err != nil {
		return err
	}
	w.group.Go(func() error {
		defer w.memory.Release(weight)
		buffer := w.take(size)
		sent, err := do(buffer)
		if err != nil { // the buffer is not used again: a request that failed may still read it
			return err
		}
		w.giveBack(buffer)
		w.count(size, sent)
		return nil
	})
	return nil
}

// take returns a buffer of size bytes with room for slack more.
func (w *work) take(size int64) []byte {
	if size <= w.chunkSize/smallest {
		return make([]byte, size, size+slack(size))
	}
	if kept, ok := w.buffers.Get().(*[]byte); ok {
		return (*kept)[:size]
	}
	return make([]byte, size, w.chunkSize+slack(w.chunkSize))
}

func (w *work) giveBack(buffer []byte) {
	if int64(cap(buffer)) == w.chunkSize+slack(w.chunkSize) {
		w.buffers.Put(&buffer)
	}
}

// slack is by how much a compressor may make size bytes longer which it cannot make shorter.
func slack(size int64) int64 { return int64(s2.MaxEncodedLen(int(size))) - size }

// count notes what is done.
func (w *work) count(size, sent int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += size
	w.sent += sent
	if w.progress != nil {
		w.progress(w.done, w.total)
	}
}

// wait waits for what was started. planned is what the starting of it came to.
func (w *work) wait(planned error) error {
	if err := w.group.Wait(); err != nil { // upon which the starting has failed, too, or would have
		return err
	}
	return planned
}

// sharedFile is closed when the last of its users is done.
type sharedFile struct {
	*os.File
	users atomic.Int32
}

func share(file *os.File) *sharedFile {
	f := &sharedFile{File: file}
	f.users.Store(1)
	return f
}

func (f *sharedFile) use() { f.users.Add(1) }

func (f *sharedFile) release() error {
	if f.users.Add(-1) > 0 {
		return nil
	}
	return f.Close()
}

// seekData is the whence that finds the next byte which is not in a hole (lseek(2)).
const seekData = 3

// hasData says whether some of the size bytes from offset on are not in a hole. It moves the file's own offset, so one goroutine at a time may
// ask, and all others have to use ReadAt and WriteAt.
func hasData(file *os.File, offset, size int64) bool {
	next, err := file.Seek(offset, seekData)
	if errors.Is(err, syscall.ENXIO) {
		return false // none up to the end
	}
	return err != nil || next < offset+size // without an answer it has to be read
}

var zeros [4096]byte

func isZero(data []byte) bool {
	for len(data) > len(zeros) {
		if !bytes.Equal(data[:len(zeros)], zeros[:]) {
			return false
		}
		data = data[len(zeros):]
	}
	return bytes.Equal(data, zeros[:len(data)])
}

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
