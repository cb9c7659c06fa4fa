package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// The reference's own bucket, and how its file is sent.
const (
	bucket   = "bench-reference"
	partSize = 32 << 20 // bytes
	threads  = 4
)

// putTimes is what was put.
type putTimes struct {
	Bytes int64 `json:"bytes"`
}

// putFile puts a file into the bucket in parallel parts, and removes it from both places.
func putFile(ctx context.Context, access, path string) (*putTimes, error) {
	var s3 s3Access
	if err := json.Unmarshal([]byte(access), &s3); err != nil {
		return nil, err
	}
	client, err := minio.New(s3.InCluster, &minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.SecretKey, ""), BucketLookup: minio.BucketLookupPath})
	if err != nil {
		return nil, err
	}
	there, err := client.BucketExists(ctx, bucket)
	if err == nil && !there {
		err = client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
	}
	if err != nil {
		return nil, err
	}
	object := filepath.Base(path)
	info, err := client.FPutObject(ctx, bucket, object, path, minio.PutObjectOptions{PartSize: partSize, NumThreads: threads})
	if err != nil {
		return nil, err
	}
	if err := client.RemoveObject(ctx, bucket, object, minio.RemoveObjectOptions{}); err != nil {
		return nil, err
	}
	return &putTimes{Bytes: info.Size}, os.Remove(path)
}
