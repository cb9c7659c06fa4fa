package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/transparent-checkpoint/operator/storage"
)

// abortTimeout is how long a put that failed tries to remove the parts that it had sent.
const abortTimeout = 10 * time.Second

// Put implements storage.Store. A body that is known to fit into one part is streamed in one request; any other is sent in parts, several at
// once, each from a buffer. If-absent looks for the object first and asks the server to check again at the end.
func (s *Store) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	conditional := opts.IfAbsent && !s.noConditions.Load()
	err := s.put(ctx, key, body, opts.IfAbsent, conditional)
	if conditional && errors.Is(err, errNotImplemented) {
		s.noConditions.Store(true)
		if body.Repeatable() {
			err = s.put(ctx, key, body, opts.IfAbsent, false)
		}
	}
	if err != nil {
		return s.describe("put", key, err)
	}
	return nil
}

// put puts once. With look, it looks whether the object is there; with conditional, the server does.
func (s *Store) put(ctx context.Context, key string, body storage.Body, look, conditional bool) error {
	if err := errors.Join(storage.CheckKey("key", key), ctx.Err()); err != nil {
		return err
	}
	if look {
		switch _, err := s.stat(ctx, key); {
		case err == nil:
			return storage.ErrExist
		case !errors.Is(err, storage.ErrNotExist):
			return err
		}
	}
	r, err := body.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	opts := s.putOptions()
	if conditional {
		opts.SetMatchETagExcept("*")
		body.CRC32C = nil // a second put would find the object of the first
	}
	if body.Size >= 0 && body.Size <= s.partSize {
		err = s.putWhole(ctx, key, r, body, opts)
	} else {
		p := &partsPut{store: s, key: key, opts: opts, partSize: s.partSizeOf(body)}
		err = p.run(ctx, r)
	}
	if cause := r.Err(); cause != nil { // whatever the server said of it
		return cause
	}
	return err
}

func (s *Store) putOptions() minio.PutObjectOptions {
	return minio.PutObjectOptions{ServerSideEncryption: s.encryption}
}

// putWhole puts in one request. The reader is that of the body, and must end after its size.
func (s *Store) putWhole(ctx context.Context, key string, r io.Reader, body storage.Body, opts minio.PutObjectOptions) error {
	if err := readNothing(r, body.Size); err != nil {
		return err
	}
	if body.CRC32C != nil && body.Repeatable() && !s.noChecksums.Load() {
		return s.putSummed(ctx, key, r, body, opts)
	}
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+key, r, body.Size, "", "", opts)
	return translate(ctx, err)
}

// putSummed puts with the checksum in a header, for the server to compare: it takes a fifteenth of the time of signing the content, which the SDK
// does over plain HTTP. A server that does not say that it has compared gets the object once more, signed, and so all that follow.
func (s *Store) putSummed(ctx context.Context, key string, r io.Reader, body storage.Body, opts minio.PutObjectOptions) error {
	sum := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, *body.CRC32C))
	summed := opts
	summed.DisableContentSha256, summed.UserMetadata = true, map[string]string{checksumHeader: sum}
	info, err := s.client.PutObject(ctx, s.bucket, s.prefix+key, r, body.Size, "", "", summed)
	err = translate(ctx, err)
	unknown := errors.Is(err, errNotImplemented) || errors.Is(err, storage.ErrInvalid)
	if err != nil && !unknown || err == nil && (info.ChecksumCRC32C == sum || s.secure) {
		return err
	}
	again, err := body.Reader()
	if err != nil {
		return err
	}
	defer again.Close()
	_, err = s.client.PutObject(ctx, s.bucket, s.prefix+key, again, body.Size, "", "", opts)
	if err = translate(ctx, err); err == nil {
		s.noChecksums.Store(true)
	}
	return err
}

// checksumHeader is where S3 expects a CRC32C (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
const checksumHeader = "X-Amz-Checksum-Crc32c"

// readNothing reads a body of no bytes, which the SDK would not do, to see that it has none.
func readNothing(r io.Reader, size int64) error {
	if size > 0 {
		return nil
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// partSizeOf returns the part size in bytes for which the body does not need too many parts.
func (s *Store) partSizeOf(body storage.Body) int64 {
	most := max(body.Size, body.Max)
	size := s.partSize
	if most > 0 {
		size = min(size, most)
	}
	return max(size, (most+storage.MaxParts-1)/storage.MaxParts)
}

// partsPut is a put that reads its body into buffers and sends each as soon as it is full.
type partsPut struct {
	store    *Store
	key      string
	opts     minio.PutObjectOptions
	partSize int64 // bytes

	upload storage.Upload
	mu     sync.Mutex
	parts  []storage.Part
}

func (p *partsPut) run(ctx context.Context, r io.Reader) error {
	first, err := p.fill(ctx, r)
	if err != nil {
		return err
	}
	if int64(first.n) < p.partSize { // all of it
		defer p.store.buffers.put(first)
		body := storage.Bytes(first.data[:first.n])
		whole, err := body.Reader()
		if err != nil {
			return err
		}
		return p.store.putWhole(ctx, p.key, whole, body, p.opts)
	}
	if p.upload, err = p.store.begin(ctx, p.key); err != nil {
		p.store.buffers.put(first)
		return err
	}
	err = p.sendAll(ctx, r, first)
	if err == nil {
		err = p.store.complete(ctx, p.upload, p.parts, p.opts)
	}
	if err != nil {
		// Without an answer to Complete, the upload may be an object already; to abort it then does nothing.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		_ = p.store.Abort(ctx, p.upload) // the reason of the failure is worth more; what is left is the lifecycle rule's
	}
	return err
}

// sendAll sends the first buffer and whatever follows. Its parts ascend by number.
func (p *partsPut) sendAll(ctx context.Context, r io.Reader, next *buffer) error {
	group, sending := errgroup.WithContext(ctx)
	var err error
	for number := 1; err == nil && next.n > 0; number++ {
		if number > storage.MaxParts {
			p.store.buffers.put(next)
			err = fmt.Errorf("body goes on after %d parts of %d bytes; give its Max or a larger part size: %w", storage.MaxParts, p.partSize, storage.ErrInvalid)
			break
		}
		full := next
		p.note(storage.Part{Number: number, Size: int64(full.n)})
		group.Go(func() error { return p.send(sending, number, full) })
		next, err = p.fill(sending, r)
		if err == nil && next.n == 0 {
			p.store.buffers.put(next)
		}
	}
	if sent := group.Wait(); sent != nil { // upon which fill has failed too, or would have
		return sent
	}
	return err
}

// send sends one part and takes its buffer back.
func (p *partsPut) send(ctx context.Context, number int, full *buffer) error {
	defer p.store.buffers.put(full)
	data := full.data[:full.n]
	part, err := p.store.client.PutObjectPart(ctx, p.store.bucket, p.store.prefix+p.key, p.upload.ID, number, bytes.NewReader(data), int64(len(data)),
		minio.PutObjectPartOptions{SSE: p.store.encryption})
	if err != nil {
		return fmt.Errorf("send part %d: %w", number, translate(ctx, err))
	}
	p.note(storage.Part{Number: number, Size: int64(len(data)), Tag: part.ETag})
	return nil
}

// note keeps a part in its place in the list.
func (p *partsPut) note(part storage.Part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if part.Number > len(p.parts) {
		p.parts = append(p.parts, part)
		return
	}
	p.parts[part.Number-1] = part
}

// fill reads a part into a buffer. One that is not full is the end of the body, and so is an empty one.
func (p *partsPut) fill(ctx context.Context, r io.Reader) (*buffer, error) {
	next, err := p.store.buffers.get(ctx, p.partSize)
	if err != nil {
		return nil, err
	}
	next.n, err = io.ReadFull(r, next.data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		p.store.buffers.put(next)
		return nil, err
	}
	return next, nil
}
