package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/transparent-checkpoint/operator/storage"
)

const (
	aheadSuffix = ".ahead"
	// maxAhead bounds the files that are sent ahead. In the file for their marks each has a place that is large enough for any.
	maxAhead   = 64
	aheadPlace = maxFileSize / minPageSize * markSize // bytes
	// aheadPackers leaves the processors to who writes the files.
	aheadPackers = 1
)

// Ahead sends memory that is still being written, and notes in the state of an upload what it has sent: an Upload with that state sends the rest.
// Whatever becomes of it, Upload finds the truth in the state and in the store.
type Ahead struct {
	u       *uploader
	work    chan *item
	working context.Context
	group   *errgroup.Group
	files   map[string]*grown
}

// grown is how far a file has been sent.
type grown struct {
	entry int
	size  int64
}

// ErrBegun says that there is a state of an earlier attempt, with which Upload goes on by itself.
var ErrBegun = errors.New("the upload has begun before")

// Ahead begins to send memory of a checkpoint of which the directory is not whole yet. Nothing is shared with others, since pages have no addresses
// before their map is written. After a nil error, Close has to be called. The state is that of UploadOptions, and required.
func (f *Folder) Ahead(ctx context.Context, name, dir, state string) (*Ahead, error) {
	if err := f.check(name); err != nil {
		return nil, err
	}
	if state == "" {
		return nil, fmt.Errorf("state is empty; it may be a path: %w", storage.ErrInvalid)
	}
	if _, err := os.Stat(state + journalSuffix); err == nil {
		return nil, ErrBegun
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	u := &uploader{Folder: f, name: name, dir: filepath.Dir(state), memory: f.memory(), markKey: newMarkKey(), marksAt: map[int]int64{}}
	u.m = &manifest{head: head{PageSize: os.Getpagesize(), Entries: make([]entry, maxAhead)}}
	for i := range u.m.Entries {
		// All that is to be known of the memory is that it is some.
		u.m.Entries[i].segments, u.m.Entries[i].growing = []segment{{pages: 1<<32 - 1}}, true
		u.marksAt[i] = int64(i) * aheadPlace
	}
	if err := f.putIntent(ctx, name, []string{}); err != nil { // before the first pack
		return nil, err
	}
	a := &Ahead{u: u, work: make(chan *item), files: map[string]*grown{}}
	if err := a.open(dir, state); err != nil {
		return nil, errors.Join(err, a.closeFiles())
	}
	a.group, a.working = errgroup.WithContext(ctx)
	for range aheadPackers {
		a.group.Go(func() error {
			encoder, err := newEncoder()
			if err != nil {
				return err
			}
			return (&packer{u: u, encoder: encoder}).run(a.working, a.work)
		})
	}
	return a, nil
}

// open opens what is read and written.
func (a *Ahead) open(dir, state string) (err error) {
	if a.u.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	if a.u.index, err = os.OpenFile(state+aheadSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	a.u.journal, err = beginJournal(state+journalSuffix, journalHead{Version: formatVersion, Folder: a.u.Name, Name: a.u.name, MarkKey: a.u.markKey}, nil,
		func(error) {}) // Upload sends what is not noted, and tells
	return err
}

// Grow says that a file has at least so many bytes which do not change any more: one of CRIU's files of pages, with its path in the directory. It waits
// until somebody works on them. Its error is that of Close.
func (a *Ahead) Grow(path string, size int64) error {
	file := a.files[path]
	if file == nil {
		if len(a.files) == maxAhead {
			return nil // Upload sends it
		}
		file = &grown{entry: len(a.files)}
		a.u.m.Entries[file.entry].Path = path
		a.files[path] = file
	}
	for ; file.size+itemSize <= size; file.size += itemSize {
		select {
		case a.work <- &item{entry: file.entry, offset: file.size, length: itemSize}:
		case <-a.working.Done():
			return context.Cause(a.working)
		}
	}
	return nil
}

// Close ends it when all that it was told of is sent, and says how many bytes of packs those were. After an error Upload sends what is missing.
func (a *Ahead) Close() (sent int64, err error) {
	close(a.work)
	err = errors.Join(a.group.Wait(), a.closeFiles())
	return a.u.summary.Sent, err
}

func (a *Ahead) closeFiles() (err error) {
	if a.u.root != nil {
		err = a.u.root.Close()
	}
	if a.u.index != nil {
		err = errors.Join(err, a.u.index.Close())
	}
	if a.u.journal != nil {
		err = errors.Join(err, a.u.journal.close())
	}
	return err
}

// takeMarks copies the marks of pages that were sent ahead to their place in the index. Without them they are not shared by later uploads, and no more.
func (u *uploader) takeMarks(state string, it *item, ahead int) error {
	file, err := os.Open(state + aheadSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	marks := make([]byte, it.length/int64(u.m.PageSize)*markSize)
	at := it.offset / int64(u.m.PageSize) * markSize
	if n, err := file.ReadAt(marks, int64(ahead)*aheadPlace+at); n < len(marks) {
		clear(marks[n:])
		if err != nil && !endsEarly(err) {
			return err
		}
	}
	return u.writeMarks(marks, u.marksAt[it.entry]+at)
}
