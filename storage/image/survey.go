package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/storage"
)

// itemSize is how many bytes of a file are worked on at once.
const itemSize = 4 << 20

// item is a piece of work: a range of a file, and what became of it.
type item struct {
	entry  int // in the manifest
	offset int64
	length int64

	done   bool
	parts  []part
	marks  []mark    // of the parts, unless it is memory
	pack   *madePack // that has its own parts; nil if it has none
	shared int64     // bytes that are in the base
}

// part is an extent before the manifest's table of frames is known.
type part struct {
	length uint32
	frame  uint32 // of the pack, or of the base
	offset uint32
	from   origin
}

type origin uint8

const (
	fromHole origin = iota
	fromPack
	fromBase
)

// add appends a part, or makes the last one longer.
func (it *item) add(p part) {
	if n := len(it.parts); n > 0 {
		last := &it.parts[n-1]
		if last.from == p.from && (p.from == fromHole || last.frame == p.frame && last.offset+last.length == p.offset) {
			last.length += p.length
			return
		}
	}
	it.parts = append(it.parts, p)
}

// survey writes what is in the directory into a manifest, but for the extents and what mapPages adds.
func survey(root *os.Root) (*manifest, error) {
	m := &manifest{head: head{PageSize: os.Getpagesize()}}
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case isNote(name):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := storage.CheckKey("path", name); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{Path: name, Kind: kindDirectory, Mode: encodeMode(info.Mode()), Modified: info.ModTime().UnixNano()}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			e.UID, e.GID = int(stat.Uid), int(stat.Gid)
		}
		switch {
		case d.IsDir():
		case d.Type().IsRegular():
			e.Kind, e.Size = kindFile, info.Size()
		default:
			return fmt.Errorf("%q is %s; it may be a regular file or a directory: %w", name, d.Type(), storage.ErrInvalid)
		}
		if e.XAttrs, err = xattrs(filepath.Join(root.Name(), name)); err != nil {
			return fmt.Errorf("%q: extended attributes: %w", name, err)
		}
		m.Entries = append(m.Entries, e)
		return nil
	})
	return m, err
}

// xattrs reads the extended attributes of a file or directory; none is nil.
func xattrs(path string) (map[string][]byte, error) {
	size, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, size)
	if size, err = unix.Llistxattr(path, list); err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for start, i := 0, 0; i < size; i++ {
		if list[i] != 0 {
			continue
		}
		name := string(list[start:i])
		start = i + 1
		if !utf8.ValidString(name) { // JSON would make another name of it
			return nil, fmt.Errorf("a name is %q; it may be UTF-8: %w", name, storage.ErrInvalid)
		}
		length, err := unix.Lgetxattr(path, name, nil)
		if err != nil {
			return nil, err
		}
		value := make([]byte, length)
		if length, err = unix.Lgetxattr(path, name, value); err != nil {
			return nil, err
		}
		all[name] = value[:length]
	}
	return all, nil
}

// itemsOf cuts the files into items.
func itemsOf(m *manifest) []*item {
	var items []*item
	for i := range m.Entries {
		for at := int64(0); at < m.Entries[i].Size; at += itemSize {
			items = append(items, &item{entry: i, offset: at, length: min(itemSize, m.Entries[i].Size-at)})
		}
	}
	return items
}

// hasData says whether some of the size bytes from offset on are not in a hole. It moves the file's own offset, so all else has to use ReadAt.
func hasData(file *os.File, offset, size int64) bool {
	next, err := unix.Seek(int(file.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, syscall.ENXIO) {
		return false // none up to the end
	}
	return err != nil || next < offset+size // without an answer it has to be read
}
