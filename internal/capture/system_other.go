//go:build !linux

package capture

import (
	"errors"
	"io/fs"
	"os"
)

func tryLock(*os.File, sharing) error { return errors.ErrUnsupported }

func awaitLock(*os.File) error { return errors.ErrUnsupported }

func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }

func diskBytes(info fs.FileInfo) int64 { return info.Size() }
