package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/transparent-checkpoint/operator/storage"
)

// Begin implements storage.Store.
func (s *Store) Begin(ctx context.Context, key string) (storage.Upload, error) {
	upload, err := s.begin(ctx, key)
	if err != nil {
		return storage.Upload{}, s.describe("begin the upload of", key, err)
	}
	return upload, nil
}

func (s *Store) begin(ctx context.Context, key string) (storage.Upload, error) {
	if err := errors.Join(storage.CheckKey("key", key), ctx.Err()); err != nil {
		return storage.Upload{}, err
	}
	id, err := s.client.NewMultipartUpload(ctx, s.bucket, s.prefix+key, s.putOptions())
	if err != nil {
		return storage.Upload{}, translate(ctx, err)
	}
	return storage.Upload{Key: key, ID: id}, nil
}

// PutPart implements storage.Store.
func (s *Store) PutPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (storage.Part, error) {
	part, err := s.putPart(ctx, upload, number, body)
	if err != nil {
		return storage.Part{}, s.describe(fmt.Sprintf("put part %d of", number), upload.Key, err)
	}
	return part, nil
}

func (s *Store) putPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (storage.Part, error) {
	if err := errors.Join(upload.Check(), storage.CheckPart(number, body.Size), ctx.Err()); err != nil {
		return storage.Part{}, err
	}
	r, err := body.Reader()
	if err != nil {
		return storage.Part{}, err
	}
	defer r.Close()
	if err := readNothing(r, body.Size); err != nil {
		return storage.Part{}, err
	}
	part, err := s.client.PutObjectPart(ctx, s.bucket, s.prefix+upload.Key, upload.ID, number, r, body.Size,
		minio.PutObjectPartOptions{SSE: s.encryption})
	if cause := r.Err(); cause != nil {
		return storage.Part{}, cause
	}
	if err != nil {
		return storage.Part{}, translate(ctx, err)
	}
	return storage.Part{Number: number, Size: body.Size, Tag: part.ETag}, nil
}

// Parts implements storage.Store.
func (s *Store) Parts(ctx context.Context, upload storage.Upload) ([]storage.Part, error) {
	parts, err := s.parts(ctx, upload)
	if err != nil {
		return nil, s.describe("list the parts of", upload.Key, err)
	}
	return parts, nil
}

// parts asks for the parts, of which a server returns up to 1000 at a time.
func (s *Store) parts(ctx context.Context, upload storage.Upload) ([]storage.Part, error) {
	if err := errors.Join(upload.Check(), ctx.Err()); err != nil {
		return nil, err
	}
	var parts []storage.Part
	for marker := 0; ; {
		page, err := s.client.ListObjectParts(ctx, s.bucket, s.prefix+upload.Key, upload.ID, marker, 1000)
		if err != nil {
			return nil, translate(ctx, err)
		}
		for _, part := range page.ObjectParts {
			parts = append(parts, storage.Part{Number: part.PartNumber, Size: part.Size, Tag: strings.Trim(part.ETag, `"`)})
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			return parts, nil
		}
		marker = page.NextPartNumberMarker
	}
}

// Complete implements storage.Store.
func (s *Store) Complete(ctx context.Context, upload storage.Upload, parts []storage.Part) error {
	if err := s.complete(ctx, upload, parts, s.putOptions()); err != nil {
		return s.describe("complete the upload of", upload.Key, err)
	}
	return nil
}

func (s *Store) complete(ctx context.Context, upload storage.Upload, parts []storage.Part, opts minio.PutObjectOptions) error {
	if err := errors.Join(upload.Check(), storage.CheckParts(parts), ctx.Err()); err != nil {
		return err
	}
	list := make([]minio.CompletePart, len(parts))
	for i, part := range parts {
		list[i] = minio.CompletePart{PartNumber: part.Number, ETag: part.Tag}
	}
	_, err := s.client.CompleteMultipartUpload(ctx, s.bucket, s.prefix+upload.Key, upload.ID, list, opts)
	return translate(ctx, err)
}

// Abort implements storage.Store.
func (s *Store) Abort(ctx context.Context, upload storage.Upload) error {
	err := errors.Join(upload.Check(), ctx.Err())
	if err == nil {
		err = translate(ctx, s.client.AbortMultipartUpload(ctx, s.bucket, s.prefix+upload.Key, upload.ID))
	}
	if err != nil && !errors.Is(err, storage.ErrNotExist) {
		return s.describe("abort the upload of", upload.Key, err)
	}
	return nil
}
