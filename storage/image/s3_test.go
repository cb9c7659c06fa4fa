package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/retry"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

// openMinIO is how the agent keeps its checkpoints: S3 with retries.
func openMinIO(t testing.TB, server *storagetest.MinIO) storage.Store {
	t.Helper()
	server.MakeBucket(t, "bucket")
	store, err := s3.New(s3.Options{
		Endpoint: server.URL(), Bucket: "bucket", Prefix: "cluster", PathStyle: true, PartSize: ChunkSize,
		Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	return retry.New(store, retry.Options{FirstWait: 10 * time.Millisecond, LongestWait: 100 * time.Millisecond, Limit: time.Minute})
}

func TestOnS3(t *testing.T) {
	t.Parallel()
	server := storagetest.StartMinIO(t)
	store := openMinIO(t, server)
	from, to := source(t), filepath.Join(t.TempDir(), "to")
	write(t, from, map[string]file{"large": {0o600, noise(8, 3*ChunkSize+1)}})

	// The server dies in the middle, and comes back while the upload goes on.
	done := make(chan struct{})
	opts := Options{}
	opts.Progress = func(int64, int64) {
		select {
		case <-done:
		default:
			server.Kill()
			close(done)
		}
	}
	result := make(chan error, 1)
	var summary Summary
	go func() {
		var err error
		summary, err = Upload(t.Context(), store, testPrefix, from, opts)
		result <- err
	}()
	<-done
	server.Start(t)
	if err := <-result; err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	opts.Parallel, opts.Progress = 1, func(done, _ int64) {
		if done > ChunkSize {
			cancel()
		}
	}
	if _, err := Fetch(ctx, store, testPrefix, summary.ManifestDigest, to, opts); !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrCorrupt) {
		t.Fatalf("have the error %v, want %v", err, context.Canceled)
	}
	fetched, err := Fetch(t.Context(), store, testPrefix, summary.ManifestDigest, to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if fetched.Sent == 0 || fetched.Sent > fetched.Bytes-ChunkSize {
		t.Errorf("it reads %d bytes of %d again, as if nothing had been there", fetched.Sent, fetched.Bytes)
	}
	want := map[string]file{"large": {0o600, noise(8, 3*ChunkSize+1)}}
	for name, f := range capture {
		want[name] = f
	}
	expectFiles(t, to, want)
	if err := Delete(t.Context(), store, testPrefix); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, store, ""); len(got) > 0 {
		t.Errorf("after the deletion there are %q", got)
	}
}

func BenchmarkMinIO(b *testing.B) {
	const size = 1 << 30
	for name, data := range map[string]string{"nothing to compress": noise(8, size), "half to compress": half(size)} {
		b.Run(name, func(b *testing.B) {
			store := openMinIO(b, storagetest.StartMinIO(b))
			from := b.TempDir()
			write(b, from, map[string]file{"pages-1.img": {0o600, data}})
			b.SetBytes(size)
			for b.Loop() {
				start := time.Now()
				summary, err := Upload(b.Context(), store, testPrefix, from, Options{})
				if err != nil {
					b.Fatal(err)
				}
				uploaded := time.Now()
				to := filepath.Join(b.TempDir(), "to")
				if _, err := Fetch(b.Context(), store, testPrefix, summary.ManifestDigest, to, Options{}); err != nil {
					b.Fatal(err)
				}
				b.Logf("upload %v, fetch %v", uploaded.Sub(start), time.Since(uploaded))
				if err := errors.Join(Delete(b.Context(), store, testPrefix), os.RemoveAll(to)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// half is data of which a half can be compressed away, as it is in the memory of many programs.
func half(size int) string {
	const page = 4096
	data := []byte(noise(8, size))
	for at := 0; at+page <= size; at += page {
		clear(data[at+page/2 : at+page])
	}
	return string(data)
}
