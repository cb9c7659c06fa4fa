package storage

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"
)

// Store keeps objects. All methods may be called from many goroutines at once.
//
// An object appears as a whole or not at all: a reader never sees half a put. Reads and lists that begin after a put or delete has returned
// see it (S3 has promised that since December 2020, https://aws.amazon.com/s3/consistency/).
//
// Keys follow CheckKey. A key must not be used as the folder of another ("a" beside "a/b"): S3 allows it, directories and MinIO do not.
//
// Errors wrap one of this package's sentinels where one fits; an error that wraps none is permanent. Every method ends with the context's
// error soon after its context ends.
type Store interface {
	// Put stores the body under the key and replaces what was there, unless the options forbid that. When it fails, nothing was stored; only
	// after ErrUnavailable or the end of the context may the object be there all the same, because the answer was lost.
	Put(ctx context.Context, key string, body Body, opts PutOptions) error

	// Get reads an object or a range of it. The caller closes the reader. A range that begins at or behind the end of the object is ErrInvalid;
	// one that goes on behind it ends with the object. Reading fails with ErrUnavailable when the connection breaks, never with a short success.
	Get(ctx context.Context, key string, r Range) (io.ReadCloser, error)

	// Stat describes an object without reading it.
	Stat(ctx context.Context, key string) (Info, error)

	// List yields the objects whose keys begin with prefix and come after the key after ("" for all), in the order of the bytes of their keys.
	// The prefix is a string, not a folder: "a/b" also finds "a/bc". It ends with the first error. What is put or deleted meanwhile may be
	// seen or not. Objects that others stored under keys that CheckKey refuses are left out.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes an object. That it is not there is no error.
	Delete(ctx context.Context, key string) error

	Uploader
}

// Uploader puts an object in parts that may be sent in any order, by several processes, over several days. Nothing of an upload can be seen
// by Get, Stat and List before Complete.
//
// An upload that is neither completed nor aborted keeps its parts. Stores do not list forgotten uploads; on S3 a lifecycle rule
// (AbortIncompleteMultipartUpload) removes them.
type Uploader interface {
	// Begin starts an upload. The value it returns can be written to a file and used by another process later.
	Begin(ctx context.Context, key string) (Upload, error)

	// PutPart stores one part and replaces an earlier one of that number. The size of the body has to be known. All parts but the last have at
	// least MinPartSize bytes, which is checked at Complete; some servers also want them to be of the same size. ErrNotExist: no such upload.
	PutPart(ctx context.Context, upload Upload, number int, body Body) (Part, error)

	// Parts returns the parts that are there, by number: where to go on after a cut. ErrNotExist: no such upload.
	Parts(ctx context.Context, upload Upload) ([]Part, error)

	// Complete makes the object from these parts, which ascend by number, and ends the upload. It replaces an object of that key.
	// ErrNotExist: no such upload, perhaps since it was completed before.
	Complete(ctx context.Context, upload Upload, parts []Part) error

	// Abort ends the upload and removes its parts. That there is no such upload is no error.
	Abort(ctx context.Context, upload Upload) error
}

// The limits of an upload, those of S3 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
const (
	MinPartSize = 5 << 20 // bytes
	MaxPartSize = 5 << 30 // bytes
	MaxParts    = 10000
)

// PutOptions says how to put.
type PutOptions struct {
	// IfAbsent makes the put fail with ErrExist when there is an object of that key. storage/filesystem guarantees that of several such puts one
	// wins. storage/s3 looks first and sends If-None-Match, which some servers ignore: there, two puts at the same moment may both succeed.
	IfAbsent bool
}

// Info describes an object.
type Info struct {
	Key      string
	Size     int64 // in bytes
	Modified time.Time
}

// Range is a part of an object. The zero value is all of it.
type Range struct {
	Offset int64 // bytes, ≥ 0
	Length int64 // bytes, > 0; 0 means up to the end
}

// Check returns ErrInvalid unless the numbers make a range.
func (r Range) Check() error {
	if r.Offset < 0 || r.Length < 0 || r.Offset+r.Length < 0 {
		return fmt.Errorf("range is %d bytes from %d on; both may be 0 or more: %w", r.Length, r.Offset, ErrInvalid)
	}
	return nil
}

// Upload names an upload that was begun.
type Upload struct {
	Key string `json:"key"`
	ID  string `json:"id"`
}

// Check returns ErrInvalid unless the upload has a proper key and an id.
func (u Upload) Check() error {
	if u.ID == "" {
		return fmt.Errorf("id of the upload is empty; it may be what Begin returned: %w", ErrInvalid)
	}
	return CheckKey("key of the upload", u.Key)
}

// Part is a part of an upload that the store has.
type Part struct {
	Number int    `json:"number"` // 1 to MaxParts
	Size   int64  `json:"size"`   // in bytes
	Tag    string `json:"tag"`    // the store's own name for the content; that of a server that encrypts is another one each time
}

// CheckPart returns ErrInvalid unless the number and the size, in bytes, are those of a part.
func CheckPart(number int, size int64) error {
	if number < 1 || number > MaxParts {
		return fmt.Errorf("number of the part is %d; it may be 1 to %d: %w", number, MaxParts, ErrInvalid)
	}
	if size < 0 || size > MaxPartSize {
		return fmt.Errorf("size of part %d is %d bytes; it may be 0 to %d: %w", number, size, int64(MaxPartSize), ErrInvalid)
	}
	return nil
}

// CheckParts returns ErrInvalid unless the parts can be completed: at least one, ascending, and all but the last large enough.
func CheckParts(parts []Part) error {
	if len(parts) == 0 {
		return fmt.Errorf("list of parts is empty; it may have 1 to %d: %w", MaxParts, ErrInvalid)
	}
	for i, part := range parts {
		if err := CheckPart(part.Number, part.Size); err != nil {
			return err
		}
		if i > 0 && part.Number <= parts[i-1].Number {
			return fmt.Errorf("part %d comes after part %d; parts may only ascend: %w", part.Number, parts[i-1].Number, ErrInvalid)
		}
		if i < len(parts)-1 && part.Size < MinPartSize {
			return fmt.Errorf("size of part %d is %d bytes; all but the last may have %d or more: %w", part.Number, part.Size, MinPartSize, ErrInvalid)
		}
	}
	return nil
}
