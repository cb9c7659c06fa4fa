package image

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/transparent-checkpoint/operator/storage"
)

// PutLog keeps what a person may need beside a checkpoint, which need not be there: a failed one has nothing else. What has the same name is replaced.
// No upload and no reader looks at it, and Delete removes it.
func (f *Folder) PutLog(ctx context.Context, checkpoint, name string, content []byte) error {
	key, err := f.logKey(checkpoint, name)
	if err != nil {
		return err
	}
	var object bytes.Buffer
	if err := f.Keys.seal(logMagic, bytes.NewReader(content), &object); err != nil {
		return err
	}
	return f.Store.Put(ctx, key, storage.Bytes(object.Bytes()), storage.PutOptions{})
}

// Log writes what PutLog was given; what was written before an error is not to be trusted.
func (f *Folder) Log(ctx context.Context, checkpoint, name string, w io.Writer) error {
	key, err := f.logKey(checkpoint, name)
	if err != nil {
		return err
	}
	body, err := f.Store.Get(ctx, key, storage.Range{})
	if err != nil {
		return err
	}
	defer body.Close()
	return f.Keys.open(logMagic, body, w)
}

// Logs returns the names of those of a checkpoint, in their order.
func (f *Folder) Logs(ctx context.Context, checkpoint string) (names []string, err error) {
	if err := f.check(checkpoint); err != nil {
		return nil, err
	}
	prefix := f.key(logKind, checkpoint) + "/"
	for info, err := range f.Store.List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimPrefix(info.Key, prefix))
	}
	return names, nil
}

func (f *Folder) logKey(checkpoint, name string) (string, error) {
	if err := f.check(checkpoint); err != nil {
		return "", err
	}
	return f.key(logKind, checkpoint, name), storage.CheckKey("name of the log", name)
}

// deleteLogs removes those of a checkpoint.
func (f *Folder) deleteLogs(ctx context.Context, checkpoint string) error {
	names, err := f.Logs(ctx, checkpoint)
	for _, name := range names {
		if err == nil {
			err = f.Store.Delete(ctx, f.key(logKind, checkpoint, name))
		}
	}
	return err
}
