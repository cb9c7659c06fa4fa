package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

const bucket = "checkpoints"

// sdk is the SDK's own client for a server.
func sdk(t testing.TB, server *storagetest.MinIO) *minio.Client {
	t.Helper()
	client, err := minio.New(server.Address, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// start starts a server with a bucket.
func start(t testing.TB) *storagetest.MinIO {
	t.Helper()
	server := storagetest.StartMinIO(t)
	if err := sdk(t, server).MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return server
}

func optionsFor(server *storagetest.MinIO) s3.Options {
	return s3.Options{
		Endpoint: server.URL(), Bucket: bucket, PathStyle: true, PartSize: storage.MinPartSize,
		Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey},
	}
}

func open(t testing.TB, opts s3.Options) *s3.Store {
	t.Helper()
	store, err := s3.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestConformance(t *testing.T) {
	t.Parallel()
	server := start(t)
	tests := map[string]func(*s3.Options){
		"defaults":                      func(*s3.Options) {},
		"one buffer and a known region": func(o *s3.Options) { o.Buffers, o.Region = 1, "us-east-1" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			number := 0
			storagetest.Run(t, func(t *testing.T) storage.Store {
				opts := optionsFor(server)
				change(&opts)
				number++
				opts.Prefix = fmt.Sprintf("%s/%d", name, number) // each test has its part of the bucket
				store := open(t, opts)
				t.Cleanup(func() { expectNoUploads(t, server, opts.Prefix) })
				return store
			})
		})
	}
}

// expectNoUploads tests that no put has left the parts of an upload behind. MinIO lists those of a whole key only.
func expectNoUploads(t *testing.T, server *storagetest.MinIO, prefix string) {
	t.Helper()
	for _, key := range []string{"broken/broken later", "broken/broken later, unknown size", "broken/too short by parts", "broken/too long by parts"} {
		for upload := range sdk(t, server).ListIncompleteUploads(context.Background(), bucket, prefix+"/"+key, true) {
			t.Errorf("the upload %s of %q was left behind (%v)", upload.UploadID, upload.Key, upload.Err)
		}
	}
}

func TestPrefixesAreApart(t *testing.T) {
	t.Parallel()
	server := start(t)
	var stores []*s3.Store
	for _, prefix := range []string{"", "a", "a/b"} {
		opts := optionsFor(server)
		opts.Prefix = prefix
		store := open(t, opts)
		stores = append(stores, store)
		if err := store.Put(t.Context(), "key", storage.Bytes([]byte(prefix)), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	want := [][]string{{"a/b/key", "a/key", "key"}, {"b/key", "key"}, {"key"}}
	var got [][]string
	for _, store := range stores {
		var keys []string
		for info, err := range store.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, info.Key)
		}
		got = append(got, keys)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// get opens an object and closes it again, since a reader that stays open makes MinIO delay a delete.
func get(ctx context.Context, store *s3.Store, key string) error {
	r, err := store.Get(ctx, key, storage.Range{})
	if err != nil {
		return err
	}
	return r.Close()
}

// every returns what each method says.
func every(ctx context.Context, store *s3.Store) map[string]error {
	upload := storage.Upload{Key: "key", ID: "id"}
	errs := map[string]error{
		"Check":    store.Check(ctx),
		"Put":      store.Put(ctx, "key", storage.Bytes([]byte("x")), storage.PutOptions{}),
		"Put big":  store.Put(ctx, "key", storage.Once(bytes.NewReader(make([]byte, 12<<20)), storage.SizeUnknown), storage.PutOptions{}),
		"Stat":     func() error { _, err := store.Stat(ctx, "key"); return err }(),
		"Get":      get(ctx, store, "key"),
		"Delete":   store.Delete(ctx, "key"),
		"Begin":    func() error { _, err := store.Begin(ctx, "key"); return err }(),
		"PutPart":  func() error { _, err := store.PutPart(ctx, upload, 1, storage.Bytes([]byte("x"))); return err }(),
		"Parts":    func() error { _, err := store.Parts(ctx, upload); return err }(),
		"Complete": store.Complete(ctx, upload, []storage.Part{{Number: 1, Size: 1, Tag: "x"}}),
		"Abort":    store.Abort(ctx, upload),
	}
	for _, err := range store.List(ctx, "", "") {
		errs["List"] = err
	}
	return errs
}

func TestWhatCanBeWrongWithAServer(t *testing.T) {
	t.Parallel()
	server := start(t)
	tests := map[string]struct {
		change func(*s3.Options)
		want   error
		// silent are methods for which that is no error.
		silent []string
	}{
		"nobody listens":        {change: func(o *s3.Options) { o.Endpoint = "http://" + storagetest.UnusedAddress(t) }, want: storage.ErrUnavailable},
		"no such host":          {change: func(o *s3.Options) { o.Endpoint = "http://no-such-host.invalid" }, want: storage.ErrUnavailable},
		"an unknown access key": {change: func(o *s3.Options) { o.Credentials.AccessKey = "unknown" }, want: storage.ErrAccessDenied},
		"a wrong secret key":    {change: func(o *s3.Options) { o.Credentials.SecretKey = "wrong-secret" }, want: storage.ErrAccessDenied},
		"no such bucket":        {change: func(o *s3.Options) { o.Bucket = "no-such-bucket" }, want: storage.ErrNoBucket},
		"all is as it should be": {
			change: func(*s3.Options) {},
			silent: []string{"Check", "Put", "Put big", "Stat", "Get", "Delete", "Begin", "Abort", "List"},
			want:   storage.ErrNotExist, // of the upload
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := optionsFor(server)
			opts.Region = "us-east-1" // otherwise the question for the region is what fails
			test.change(&opts)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			errs := every(ctx, open(t, opts))
			for _, method := range test.silent {
				if errs[method] != nil {
					t.Errorf("%s: %v", method, errs[method])
				}
				delete(errs, method)
			}
			for method, err := range errs {
				if !errors.Is(err, test.want) {
					t.Errorf("%s: have the error %v, want %v", method, err, test.want)
				}
				if err != nil && strings.Contains(err.Error(), opts.Credentials.SecretKey) {
					t.Errorf("%s: %v shows the secret key", method, err)
				}
			}
		})
	}
}

func TestAServerThatDies(t *testing.T) {
	t.Parallel()
	server := start(t)
	store := open(t, optionsFor(server))
	if err := store.Put(t.Context(), "key", storage.Bytes(make([]byte, 64<<20)), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := store.Get(t.Context(), "key", storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("after %d more bytes: have the error %v, want %v", n, err, storage.ErrUnavailable)
	}
	if _, err := store.Stat(t.Context(), "key"); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("have the error %v, want %v", err, storage.ErrUnavailable)
	}
	server.Start(t)
	if err := store.Check(t.Context()); err != nil {
		t.Errorf("when the server is back: %v", err)
	}
}
