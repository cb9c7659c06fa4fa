package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// How much of everything there is.
const (
	users     = 40
	ring      = 1000
	blocks    = 64
	blockSize = 1 << 20
	mapSize   = 4 << 20
)

// state is all that must still be there at the next check.
type state struct {
	checks  int64
	ticks   atomic.Int64
	began   time.Time
	seen    time.Duration
	users   []*user
	stream  *stream
	long    context.Context
	cancel  context.CancelFunc
	expires chan time.Time
	in, out chan int64
	heap    [][]byte
	sums    []uint32
	mapped  []byte
	mutex   sync.RWMutex
	waiting chan struct{}
	child   struct {
		process *exec.Cmd
		in      io.Writer
		out     *bufio.Reader
	}
}

func newState(dir string) (*state, error) {
	s := &state{began: time.Now(), expires: make(chan time.Time, 1)}
	s.long, s.cancel = context.WithTimeout(context.Background(), time.Hour)
	base, err := serveLocal()
	if err != nil {
		return nil, err
	}
	for i := range users {
		u, err := newUser(base, i%2 == 1)
		if err != nil {
			return nil, err
		}
		s.users = append(s.users, u)
	}
	if s.stream, err = newStream(s.long, base); err != nil {
		return nil, err
	}
	if s.mapped, err = mapFile(filepath.Join(dir, "mapped")); err != nil {
		return nil, err
	}
	source := rand.NewChaCha8([32]byte{4})
	for range blocks {
		block := make([]byte, blockSize)
		_, _ = source.Read(block)
		s.heap, s.sums = append(s.heap, block), append(s.sums, crc32.ChecksumIEEE(block))
	}
	s.in, s.out = chain(ring)
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			s.ticks.Add(1)
		}
	}()
	s.arm()
	return s, s.startChild()
}

// mapFile returns a shared mapping of a new file, which is locked as long as the program lives.
func mapFile(path string) ([]byte, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	runtime.SetFinalizer(file, nil) // it stays open
	fd := int(file.Fd())
	if err := errors.Join(file.Truncate(mapSize), unix.Flock(fd, unix.LOCK_EX)); err != nil {
		return nil, err
	}
	return unix.Mmap(fd, 0, mapSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// chain is a row of goroutines of which each adds one to what comes and hands it on.
func chain(length int) (in, out chan int64) {
	in = make(chan int64)
	out = in
	for range length {
		from, to := out, make(chan int64)
		go func() {
			for n := range from {
				to <- n + 1
			}
		}()
		out = to
	}
	return in, out
}

func (s *state) startChild() error {
	process := exec.Command("/proc/self/exe", "child")
	process.Stderr = os.Stderr
	in, err := process.StdinPipe()
	if err != nil {
		return err
	}
	out, err := process.StdoutPipe()
	if err != nil {
		return err
	}
	s.child.process, s.child.in, s.child.out = process, in, bufio.NewReader(out)
	return process.Start()
}

// arm leaves something waiting until the next check: a number in the middle of the chain's end, a timer, a goroutine at a lock.
func (s *state) arm() {
	s.in <- s.checks
	time.AfterFunc(50*time.Millisecond, func() { s.expires <- time.Now() })
	s.mutex.Lock()
	s.waiting = make(chan struct{})
	go func() {
		s.mutex.RLock()
		defer s.mutex.RUnlock()
		close(s.waiting)
	}()
}

// check tells what is not as it was, and arms again.
func (s *state) check() error {
	for i, u := range s.users {
		if err := u.check(); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	if err := s.stream.check(); err != nil {
		return err
	}
	for i, block := range s.heap {
		if sum := crc32.ChecksumIEEE(block); sum != s.sums[i] {
			return fmt.Errorf("the sum of block %d is %d; it was %d", i, sum, s.sums[i])
		}
	}
	if got := <-s.out; got != s.checks+ring {
		return fmt.Errorf("what came through the chain is %d; it should be %d", got, s.checks+ring)
	}
	select {
	case <-s.expires:
	case <-time.After(5 * time.Second):
		return errors.New("the timer has not expired")
	}
	s.mutex.Unlock()
	<-s.waiting
	for _, step := range []func() error{s.checkFile, s.checkChild, s.checkTime} {
		if err := step(); err != nil {
			return err
		}
	}
	runtime.GC()
	s.checks++
	s.arm()
	return nil
}

func (s *state) checkFile() error {
	for i := range s.checks {
		if s.mapped[i*4096] != byte(i+1) {
			return fmt.Errorf("page %d of the mapped file has %d; it should have %d", i, s.mapped[i*4096], byte(i+1))
		}
	}
	s.mapped[s.checks*4096] = byte(s.checks + 1)
	return nil
}

func (s *state) checkChild() error {
	if _, err := fmt.Fprintln(s.child.in, "line"); err != nil {
		return err
	}
	if answer, err := s.child.out.ReadString('\n'); err != nil || answer != fmt.Sprintf("%d line\n", s.checks) {
		return fmt.Errorf("the child answers %q, %w", answer, err)
	}
	return nil
}

// checkTime looks at what depends on clocks.
func (s *state) checkTime() error {
	before := s.ticks.Load()
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	<-short.Done()
	if now := s.ticks.Load(); now <= before {
		return fmt.Errorf("the ticker stands at %d", now)
	}
	passed := time.Since(s.began)
	if passed < s.seen {
		return fmt.Errorf("%s have passed since the beginning; it was %s", passed, s.seen)
	}
	s.seen = passed
	if err := s.long.Err(); err != nil {
		return fmt.Errorf("a context of one hour after %s: %w", s.seen, err)
	}
	return nil
}
