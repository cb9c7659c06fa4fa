package install

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"

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

// ObjectsOf lists what is in a folder of the bucket of one checkpoint alone.
func (o *Operator) ObjectsOf(ctx context.Context, folder, checkpoint string) ([]Object, error) {
	objects, err := o.Objects(ctx, folder+"/")
	return slices.DeleteFunc(objects, func(object Object) bool { return !strings.Contains(object.Key+"/", "/"+checkpoint+"/") }), err
}

// Content returns what an object of the bucket holds.
func (o *Operator) Content(ctx context.Context, key string) ([]byte, error) {
	client, err := o.s3()
	if err != nil {
		return nil, err
	}
	object, err := client.GetObject(ctx, Bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer object.Close()
	return io.ReadAll(object)
}

// Put stores an object, in the place of what is there.
func (o *Operator) Put(ctx context.Context, key string, data []byte) error {
	client, err := o.s3()
	if err != nil {
		return err
	}
	_, err = client.PutObject(ctx, Bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
	return err
}

// DropObjects removes those, as if they had been lost.
func (o *Operator) DropObjects(ctx context.Context, folder, checkpoint string) error {
	client, err := o.s3()
	if err != nil {
		return err
	}
	objects, err := o.ObjectsOf(ctx, folder, checkpoint)
	for _, object := range objects {
		err = errors.Join(err, client.RemoveObject(ctx, Bucket, object.Key, minio.RemoveObjectOptions{}))
	}
	return err
}
