package image

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/turn"
)

// counting is a store that notes the most puts of packs and the most bodies that it ever had at once.
type counting struct {
	storage.Store
	mu         sync.Mutex
	puts, gets int
	most       [2]int
}

func (c *counting) step(n *int, most *int, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n += by
	*most = max(*most, *n)
}

func (c *counting) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	if body.Size > 1<<20 {
		c.step(&c.puts, &c.most[0], 1)
		defer c.step(&c.puts, &c.most[0], -1)
	}
	return c.Store.Put(ctx, key, body, opts)
}

func (c *counting) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	body, err := c.Store.Get(ctx, key, r)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(key, "/"+packKind+"/") {
		return body, nil
	}
	c.step(&c.gets, &c.most[1], 1)
	return &counted{body, func() { c.step(&c.gets, &c.most[1], -1) }}, nil
}

type counted struct {
	io.ReadCloser
	done func()
}

func (c *counted) Close() error {
	c.done()
	return c.ReadCloser.Close()
}

// sparse makes a file of so many MiB, of which one in four is noise, and the others are a hole.
func sparse(t *testing.T, path string, seed byte, mebibytes int) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	source, data := rand.NewChaCha8([32]byte{seed}), make([]byte, 1<<20)
	for i := 0; i < mebibytes && err == nil; i += 4 {
		_, _ = source.Read(data) // it never fails
		_, err = file.WriteAt(data, int64(i)<<20)
	}
	if err == nil {
		err = file.Truncate(int64(mebibytes) << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// inUse returns the bytes that the process has of the system, but for what it has given back.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// watch calls look again and again until the returned function is called, which returns the highest number.
func watch(look func() uint64) (end func() uint64) {
	stop, result := make(chan struct{}), make(chan uint64)
	go func() {
		most := uint64(0)
		for {
			most = max(most, look())
			select {
			case <-stop:
				result <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-result }
}

// TestMemoryIsBounded has several transfers at once share one budget. It runs alone, since it looks at the memory of the process.
func TestMemoryIsBounded(t *testing.T) {
	const (
		packs, gets = 2, 2
		transfers   = 4
		each        = 128      // MiB
		beyond      = 64 << 20 // bytes beside the packs: encoders, decoders, and what the collector has not found yet
	)
	store := &counting{Store: openStore(t)}
	f := &Folder{Store: store, Name: testFolder, Memory: NewMemory(packs, gets), Keys: testKeys}
	dirs, uploaded := make([]string, transfers), make([]Checkpoint, transfers)
	for i := range dirs {
		dirs[i] = t.TempDir()
		sparse(t, filepath.Join(dirs[i], "pages"), byte(i), each)
	}
	runtime.GC()
	debug.FreeOSMemory()
	before := inUse()
	expectBounded := func(what string, work func(ctx context.Context, i int) error) {
		t.Helper()
		end := watch(inUse)
		group, ctx := errgroup.WithContext(t.Context())
		for i := range transfers {
			group.Go(func() error { return work(ctx, i) })
		}
		err := group.Wait()
		if most := end(); most > before+packs*packBuffer*2+beyond { // twice: the collector lets the heap grow to that
			t.Errorf("%s takes %d MiB; it may take %d packs of %d MiB and some", what, (most-before)>>20, packs, packBuffer>>20)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	expectBounded("upload", func(ctx context.Context, i int) error {
		uploaded[i].Name = fmt.Sprint(i)
		summary, err := f.Upload(ctx, uploaded[i].Name, dirs[i], UploadOptions{})
		uploaded[i].Digest = summary.ManifestDigest
		return err
	})
	expectBounded("verification", func(ctx context.Context, i int) error {
		_, err := f.Verify(ctx, uploaded[i], nil)
		return err
	})
	to := t.TempDir()
	expectBounded("fetch", func(ctx context.Context, i int) error {
		_, err := f.Fetch(ctx, uploaded[i], filepath.Join(to, fmt.Sprint(i)), nil)
		return err
	})
	if store.most[0] > packs || store.most[1] > gets {
		t.Errorf("there were %d puts and %d gets at once; there may be %d and %d", store.most[0], store.most[1], packs, gets)
	}
	made, kept := len(f.Memory.free), map[*byte]bool{}
	for range packs { // all are back
		buffer, _, err := f.Memory.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		kept[&buffer[0]] = true
	}
	if made == 0 || len(kept) != packs || len(f.Memory.free) > 0 {
		t.Errorf("%d buffers have come back, of which %d are left; there are %d different ones", made, len(f.Memory.free), len(kept))
	}
	if isBusy(t, f.Memory.gets) || !isBusy(t, f.Memory.packs) {
		t.Error("a read goes on, or there is one more buffer than there was")
	}
}

// isBusy tells whether all places of a line are taken.
func isBusy(t *testing.T, line *turn.Line) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for range line.Places() {
		if _, err := line.Wait(ctx); err != nil {
			return true
		}
	}
	return false
}

// TestLargeTablesComeOneByOne: of transfers with large tables one goes on at a time in each direction, and each takes the place of a pack.
func TestLargeTablesComeOneByOne(t *testing.T) {
	memory := NewMemory(enoughPacks, 1)
	take := func(direction int, size int64) (*tables, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		own := memory.tables(direction)
		return own, own.take(ctx, size)
	}
	upload, err := take(up, largeTables)
	if err != nil {
		t.Fatal(err)
	}
	fetch, err := take(down, largeTables)
	if err != nil {
		t.Fatal("an upload holds a fetch up:", err)
	}
	if _, err := take(up, largeTables-1); err != nil {
		t.Error("small tables have to wait:", err)
	}
	if _, err := take(up, largeTables); err == nil {
		t.Error("two uploads have large tables at once")
	}
	if err := upload.take(t.Context(), largeTables); err != nil { // of its base
		t.Error(err)
	}
	free := 0
	for ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond); ; free++ {
		if _, _, err := memory.take(ctx); err != nil {
			cancel()
			break
		}
	}
	if free != enoughPacks-2 {
		t.Errorf("%d packs have a place beside the tables; it has to be %d", free, enoughPacks-2)
	}
	upload.give()
	fetch.give()
	if _, err := take(up, largeTables); err != nil {
		t.Error("what was given back is not there:", err)
	}
}
