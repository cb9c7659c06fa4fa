package limit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/storage/retry"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
	"github.com/transparent-checkpoint/operator/storage/turn"
)

const mebibyte = 1 << 20

func open(t *testing.T) storage.Store {
	t.Helper()
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store { return New(4<<30, 4<<30).Store(open(t)) })
}

func TestWithoutLimitsAStoreIsItself(t *testing.T) {
	t.Parallel()
	store := open(t)
	if got := New(0, 0).Store(store); got != store {
		t.Errorf("it is %T", got)
	}
}

// inBubble runs a test in which time passes only in waits, however busy the machine is.
func inBubble(t *testing.T, do func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, do)
}

// expectAbout compares a duration with what it has to be, less what may be used at once.
func expectAbout(t *testing.T, what string, want, got time.Duration) {
	t.Helper()
	if got < want-2*burst || got > want+burst {
		t.Errorf("%s took %v; it has to take about %v", what, got, want)
	}
}

func put(ctx context.Context, store storage.Store, key string, size int) error {
	return store.Put(ctx, key, storage.Bytes(make([]byte, size)), storage.PutOptions{})
}

func get(t *testing.T, store storage.Store, key string, want int) error {
	t.Helper()
	body, err := store.Get(t.Context(), key, storage.Range{})
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, body)
	if n != int64(want) {
		t.Errorf("%s has %d bytes; it has to have %d", key, n, want)
	}
	return errors.Join(err, body.Close())
}

func TestBandwidth(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		limits := New(mebibyte, 2*mebibyte)
		stores := []storage.Store{limits.Store(open(t)), limits.Store(open(t))}
		began := time.Now()
		var group sync.WaitGroup
		for i := range 4 { // in two stores, which share it
			group.Go(func() {
				if err := put(t.Context(), stores[i%2], fmt.Sprint(i), mebibyte); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		expectAbout(t, "to put 4 MiB", 4*time.Second, time.Since(began))
		began = time.Now()
		if err := get(t, stores[0], "0", mebibyte); err != nil {
			t.Error(err)
		}
		expectAbout(t, "to get 1 MiB", time.Second/2, time.Since(began))
		began = time.Now()
		upload, err := stores[0].Begin(t.Context(), "parts")
		if err == nil {
			_, err = stores[0].PutPart(t.Context(), upload, 1, storage.Section(bytes.NewReader(make([]byte, mebibyte)), 0, mebibyte))
		}
		if err != nil {
			t.Error(err)
		}
		expectAbout(t, "to put a part of 1 MiB", time.Second, time.Since(began))
	})
}

// TestWhoGoesFirst has a background body wait for another one, and yet go on.
func TestWhoGoesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		store := New(mebibyte, 0).Store(open(t))
		began := time.Now()
		var group sync.WaitGroup
		group.Go(func() {
			if err := put(turn.Background(t.Context()), store, "periodic", 2*mebibyte); err != nil {
				t.Error(err)
			}
			expectAbout(t, "the periodic one", 5*time.Second, time.Since(began))
		})
		group.Go(func() {
			time.Sleep(time.Second)
			if err := put(t.Context(), store, "termination", 3*mebibyte); err != nil {
				t.Error(err)
			}
			// Meanwhile the other one has sent some chunks, lest its server thinks that it is dead.
			expectAbout(t, "the other one", 3*time.Second+3*chunk*time.Second/mebibyte, time.Since(began)-time.Second)
		})
		group.Wait()
	})
}

func TestTheContextEndsAWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		store := New(Least, Least).Store(open(t))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := put(ctx, store, "key", mebibyte); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("have the error %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it ended after %v", took)
		}
	})
}

// TestOnS3 sends and reads a pack slowly, with little patience below and above.
func TestOnS3(t *testing.T) {
	t.Parallel()
	server := storagetest.StartMinIO(t)
	server.MakeBucket(t, "bucket")
	bucket, err := s3.New(s3.Options{
		Endpoint: server.URL(), Bucket: "bucket", PathStyle: true, PartSize: 32 * mebibyte,
		Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	store := New(mebibyte, mebibyte).Store(retry.New(bucket, retry.Options{Limit: time.Second}))
	began := time.Now()
	if err := put(t.Context(), store, "pack", packSize); err != nil {
		t.Fatal(err)
	}
	if err := get(t, store, "pack", packSize); err != nil {
		t.Fatal(err)
	}
	if took, least := time.Since(began), 2*time.Second*packSize/mebibyte; took < least-time.Second/2 {
		t.Errorf("it took %v; it has to take %v", took, least)
	}
}

// packSize is that of a small pack; a large one of 32 MiB goes the same way, in a minute.
const packSize = 2 * mebibyte
