package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/transparent-checkpoint/operator/storage"
)

// Store is a storage.Store in a bucket.
type Store struct {
	client   *minio.Core
	bucket   string
	prefix   string // "" or with a slash at its end
	partSize int64
	buffers  *buffers
	// encryption goes with each put, and with each get if it has the key; nil is none.
	encryption encrypt.ServerSide

	// noConditions is set once the server has said that it does not implement If-None-Match.
	noConditions atomic.Bool
	// secure is true for HTTPS. noChecksums is set once the server has shown that it does not compare checksums.
	secure      bool
	noChecksums atomic.Bool
}

var _ storage.Store = (*Store)(nil)

// New returns the store that the options describe. It does not talk to the server; Check does.
func New(opts Options) (*Store, error) {
	if err := opts.Check(); err != nil {
		return nil, fmt.Errorf("options of the S3 store: %w", err)
	}
	client, err := opts.client()
	if err != nil {
		return nil, fmt.Errorf("options of the S3 store: %w", err)
	}
	s := &Store{client: client, bucket: opts.Bucket, partSize: opts.PartSize, secure: client.EndpointURL().Scheme == "https"}
	if s.encryption, err = opts.ServerSide.encryption(); err != nil {
		return nil, fmt.Errorf("options of the S3 store: %w", err)
	}
	if opts.Prefix != "" {
		s.prefix = opts.Prefix + "/"
	}
	if s.partSize == 0 {
		s.partSize = DefaultPartSize
	}
	count := opts.Buffers
	if count == 0 {
		count = DefaultBuffers
	}
	s.buffers = newBuffers(count, s.partSize)
	return s, nil
}

// Check finds out whether the bucket is there and the credentials may list it: nil, storage.ErrNoBucket, ErrAccessDenied, ErrUnavailable. It
// lists rather than asks for the bucket's head, since the answer to HEAD has no body that would tell a wrong key from a missing right.
func (s *Store) Check(ctx context.Context) error {
	for object := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix, MaxKeys: 1}) {
		if object.Err != nil {
			return s.describe("check the bucket", "", translate(ctx, object.Err))
		}
		break
	}
	if err := ctx.Err(); err != nil { // upon which the list ends as if it were empty
		return s.describe("check the bucket", "", err)
	}
	return nil
}

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	body, err := s.get(ctx, key, r)
	if err != nil {
		return nil, s.describe("get", key, err)
	}
	return &reader{ctx: ctx, body: body, wrap: func(err error) error { return s.describe("get", key, err) }}, nil
}

func (s *Store) get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	if err := errors.Join(storage.CheckKey("key", key), r.Check(), ctx.Err()); err != nil {
		return nil, err
	}
	opts := minio.GetObjectOptions{ServerSideEncryption: s.encryption}
	if r != (storage.Range{}) {
		last := int64(0) // up to the end
		if r.Length > 0 {
			last = r.Offset + r.Length - 1
		}
		// Not SetRange, for which a last byte 0 means none.
		opts.Set("Range", rangeHeader(r.Offset, last, r.Length > 0))
	}
	body, _, header, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, opts)
	if err != nil {
		return nil, translate(ctx, err)
	}
	if r != (storage.Range{}) && header.Get("Content-Range") == "" {
		return nil, errors.Join(fmt.Errorf("get a range: %w", errNotImplemented), body.Close())
	}
	return body, nil
}

func rangeHeader(first, last int64, bounded bool) string {
	if !bounded {
		return fmt.Sprintf("bytes=%d-", first)
	}
	return fmt.Sprintf("bytes=%d-%d", first, last)
}

// reader translates the errors of a body.
type reader struct {
	ctx  context.Context
	body io.ReadCloser
	wrap func(error) error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	return n, r.wrap(translate(r.ctx, err))
}

func (r *reader) Close() error { return r.body.Close() }

// Stat implements storage.Store. The answer has no body, so that Amazon's servers cannot tell a missing bucket from a missing object here.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	info, err := s.stat(ctx, key)
	if err != nil {
		return storage.Info{}, s.describe("stat", key, err)
	}
	return info, nil
}

func (s *Store) stat(ctx context.Context, key string) (storage.Info, error) {
	if err := errors.Join(storage.CheckKey("key", key), ctx.Err()); err != nil {
		return storage.Info{}, err
	}
	object, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{ServerSideEncryption: s.encryption})
	if err != nil {
		return storage.Info{}, translate(ctx, err)
	}
	return storage.Info{Key: key, Size: object.Size, Modified: object.LastModified.UTC()}, nil
}

// List implements storage.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := s.list(ctx, prefix, after, yield); err != nil {
			yield(storage.Info{}, s.describe("list", prefix, err))
		}
	}
}

func (s *Store) list(ctx context.Context, prefix, after string, yield func(storage.Info, error) bool) error {
	if err := errors.Join(storage.CheckPrefix("prefix", prefix), storage.CheckPrefix("after", after), ctx.Err()); err != nil {
		return err
	}
	withOwner := false
	opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, FetchOwner: &withOwner}
	if after != "" {
		opts.StartAfter = s.prefix + after
	}
	for object := range s.client.ListObjectsIter(ctx, s.bucket, opts) {
		if object.Err != nil {
			return translate(ctx, object.Err)
		}
		key := strings.TrimPrefix(object.Key, s.prefix)
		// A server that does not know start-after begins at the start.
		if storage.CheckKey("key", key) != nil || key <= after {
			continue
		}
		if !yield(storage.Info{Key: key, Size: object.Size, Modified: object.LastModified.UTC()}, nil) {
			return nil
		}
	}
	return ctx.Err() // upon which the list ends as if it were complete
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := errors.Join(storage.CheckKey("key", key), ctx.Err()); err != nil {
		return s.describe("delete", key, err)
	}
	err := translate(ctx, s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{}))
	if err != nil && !errors.Is(err, storage.ErrNotExist) {
		return s.describe("delete", key, err)
	}
	return nil
}

// describe says what was being done, and where.
func (s *Store) describe(op, key string, err error) error {
	return fmt.Errorf("%s %q in bucket %q: %w", op, s.prefix+key, s.bucket, err)
}
