package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"
)

// The reference's own bucket, and how files are sent and read.
const (
	referenceBucket = "bench-reference"
	partSize        = 64 << 20 // bytes
	threads         = 4
)

// reference is a bucket that minio-go puts files into and gets them from, in parallel parts.
type reference struct {
	client *minio.Client
	s3     s3Access
}

// openReference makes the bucket, unless it is there.
func openReference(ctx context.Context, access string) (*reference, error) {
	r := &reference{}
	if err := json.Unmarshal([]byte(access), &r.s3); err != nil {
		return nil, err
	}
	var err error
	options := &minio.Options{Creds: credentials.NewStaticV4(r.s3.AccessKey, r.s3.SecretKey, ""), BucketLookup: minio.BucketLookupPath}
	if r.client, err = minio.New(r.s3.InCluster, options); err != nil {
		return nil, err
	}
	there, err := r.client.BucketExists(ctx, referenceBucket)
	if err == nil && !there {
		err = r.client.MakeBucket(ctx, referenceBucket, minio.MakeBucketOptions{})
	}
	return r, err
}

// put returns how many bytes it put.
func (r *reference) put(ctx context.Context, object, path string) (int64, error) {
	info, err := r.client.FPutObject(ctx, referenceBucket, object, path, minio.PutObjectOptions{PartSize: partSize, NumThreads: threads})
	return info.Size, err
}

// get reads an object into a new file.
func (r *reference) get(ctx context.Context, object, path string) error {
	info, err := r.client.StatObject(ctx, referenceBucket, object, minio.StatObjectOptions{})
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(threads)
	for at := int64(0); at < info.Size; at += partSize {
		group.Go(func() error {
			opts := minio.GetObjectOptions{}
			if err := opts.SetRange(at, min(at+partSize, info.Size)-1); err != nil {
				return err
			}
			body, err := r.client.GetObject(ctx, referenceBucket, object, opts)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.NewOffsetWriter(file, at), body)
			return errors.Join(err, body.Close())
		})
	}
	return errors.Join(group.Wait(), file.Close())
}

func (r *reference) remove(ctx context.Context, object string) error {
	return r.client.RemoveObject(ctx, referenceBucket, object, minio.RemoveObjectOptions{})
}

// putTimes is what was put.
type putTimes struct {
	Bytes int64 `json:"bytes"`
}

// putFile puts a file into the bucket, and removes it from both places.
func putFile(ctx context.Context, access, path string) (*putTimes, error) {
	r, err := openReference(ctx, access)
	if err != nil {
		return nil, err
	}
	const object = "file"
	size, err := r.put(ctx, object, path)
	if err != nil {
		return nil, err
	}
	return &putTimes{Bytes: size}, errors.Join(r.remove(ctx, object), os.Remove(path))
}
