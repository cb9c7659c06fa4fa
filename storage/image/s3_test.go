package image

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/retry"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

// openS3 opens a part of the bucket.
func openS3(t testing.TB, server *storagetest.MinIO, prefix string) storage.Store {
	t.Helper()
	store, err := s3.New(s3.Options{
		Endpoint: server.URL(), Bucket: "bucket", Prefix: prefix, PathStyle: true, PartSize: MaxPack,
		Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// openMinIO is how the agent keeps its checkpoints: S3 with retries.
func openMinIO(t testing.TB, server *storagetest.MinIO) storage.Store {
	t.Helper()
	server.MakeBucket(t, "bucket")
	return retry.New(openS3(t, server, "cluster"), retry.Options{FirstWait: 10 * time.Millisecond, LongestWait: 100 * time.Millisecond, Limit: time.Minute})
}

// TestOnS3 has the server die in the middle of an upload and of a fetch, both of which go on when it is back.
func TestOnS3(t *testing.T) {
	t.Parallel()
	server := storagetest.StartMinIO(t)
	f := &Folder{Store: openMinIO(t, server), Name: testFolder}
	first := memory(1)
	first[0x100000000] = noise(3, 20000*testPage)
	second := first.change(2, 20)

	dir := t.TempDir()
	write(t, dir, first.images())
	killOnce := func() (progress Progress, done chan struct{}) {
		done = make(chan struct{})
		return func(int64, int64) {
			select {
			case <-done:
			default:
				server.Kill()
				close(done)
			}
		}, done
	}
	restart := func(done chan struct{}, work chan error) {
		t.Helper()
		<-done
		server.Start(t)
		if err := <-work; err != nil {
			t.Fatal(err)
		}
	}
	progress, died := killOnce()
	uploaded, base := make(chan error, 1), Checkpoint{Name: "first"}
	go func() {
		summary, err := f.Upload(t.Context(), "first", dir, UploadOptions{Progress: progress})
		base.Digest = summary.ManifestDigest
		uploaded <- err
	}()
	restart(died, uploaded)
	next, sent := second.upload(t, f, "second", base)
	if sent.Shared < sent.Bytes*9/10 {
		t.Errorf("it shares %d bytes of %d", sent.Shared, sent.Bytes)
	}
	first.expect(t, f, base)
	if err := f.Delete(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	progress, died = killOnce()
	fetched, to := make(chan error, 1), filepath.Join(t.TempDir(), "to")
	go func() {
		_, err := f.Fetch(t.Context(), next, to, progress)
		fetched <- err
	}()
	restart(died, fetched)
	second.expect(t, f, next)
	if err := f.Delete(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, f.Store, ""); len(got) > 0 {
		t.Errorf("after the deletion there are %q", got)
	}
}
