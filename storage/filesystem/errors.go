package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/transparent-checkpoint/operator/storage"
)

// meanings is what the errors of the system mean to the port, first match wins.
var meanings = []struct{ from, to error }{
	{fs.ErrNotExist, storage.ErrNotExist},
	{syscall.ENOTEMPTY, storage.ErrInvalid}, // it also is fs.ErrExist
	{fs.ErrExist, storage.ErrExist},
	{fs.ErrPermission, storage.ErrAccessDenied},
	{syscall.EROFS, storage.ErrAccessDenied},
	{syscall.ENOSPC, storage.ErrNoSpace},
	{syscall.EDQUOT, storage.ErrNoSpace},
	{syscall.EISDIR, storage.ErrInvalid},  // the key is the folder of another
	{syscall.ENOTDIR, storage.ErrInvalid}, // the folder of the key is an object
	{syscall.ENAMETOOLONG, storage.ErrInvalid},
	// A network file system that lost its server, or ran into a limit of the moment.
	{syscall.ESTALE, storage.ErrUnavailable},
	{syscall.EAGAIN, storage.ErrUnavailable},
	{syscall.ETIMEDOUT, storage.ErrUnavailable},
	{syscall.EMFILE, storage.ErrUnavailable},
	{syscall.ENFILE, storage.ErrUnavailable},
}

// translate gives an error of the system the port's meaning. Errors that have one already stay as they are.
func translate(err error) error {
	for _, sentinel := range []error{
		storage.ErrNotExist, storage.ErrExist, storage.ErrInvalid, storage.ErrCorrupt, storage.ErrUnavailable, storage.ErrNoSpace, storage.ErrAccessDenied,
	} {
		if errors.Is(err, sentinel) {
			return err
		}
	}
	for _, meaning := range meanings {
		if errors.Is(err, meaning.from) {
			return fmt.Errorf("%w: %w", meaning.to, err)
		}
	}
	return err
}

// absent makes of the error that a folder of the key is an object, which to a reader only means that the key is not there, ErrNotExist.
func absent(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return storage.ErrNotExist
	}
	return err
}
