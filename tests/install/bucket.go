package install

import (
	"context"
	"errors"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Object is something in the bucket.
type Object struct {
	Key  string
	Size int64
}

func (o *Operator) s3() (*minio.Client, error) {
	s3 := o.status.S3
	return minio.New(s3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.SecretKey, "")})
}

func (o *Operator) makeBucket(ctx context.Context) error {
	client, err := o.s3()
	if err != nil {
		return err
	}
	there, err := client.BucketExists(ctx, Bucket)
	if err != nil || there {
		return err
	}
	return client.MakeBucket(ctx, Bucket, minio.MakeBucketOptions{})
}

// Objects lists what is in the bucket below a prefix; the empty prefix is all.
func (o *Operator) Objects(ctx context.Context, prefix string) ([]Object, error) {
	client, err := o.s3()
	if err != nil {
		return nil, err
	}
	var objects []Object
	for info := range client.ListObjects(ctx, Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if info.Err != nil {
			return nil, info.Err
		}
		objects = append(objects, Object{Key: info.Key, Size: info.Size})
	}
	return objects, nil
}

// DropObjects removes what is in the bucket below a prefix, as if it had been lost.
func (o *Operator) DropObjects(ctx context.Context, prefix string) error {
	client, err := o.s3()
	if err != nil {
		return err
	}
	objects, err := o.Objects(ctx, prefix)
	for _, object := range objects {
		err = errors.Join(err, client.RemoveObject(ctx, Bucket, object.Key, minio.RemoveObjectOptions{}))
	}
	return err
}
