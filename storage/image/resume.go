package image

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// fetched is a file in a directory that is not whole yet, which says which ranges of packs are in their places. What was written before the machine
// was started anew may be on the disk or not; so it counts for one boot alone, and nothing has to be synced.
type fetched struct {
	mu    sync.Mutex
	file  *os.File
	done  map[place]bool
	isNew bool // there was none that counts
}

// place is a range that is read at once: its number among those of the entries from first on.
type place struct{ first, number int }

const (
	fetchedFile = notes + "-fetch" // no manifest may name it
	bootFile    = "/proc/sys/kernel/random/boot_id"
)

// openFetched opens that of a directory for a checkpoint. A directory without one that counts is made anew.
func openFetched(dir, digest string) (*fetched, error) {
	boot, err := os.ReadFile(bootFile)
	if err != nil {
		return nil, err
	}
	head := fetchedHead(digest, string(boot))
	path := filepath.Join(dir, fetchedFile)
	if done, ok := readFetched(path, head); ok {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		return &fetched{file: file, done: done}, err
	}
	if err := errors.Join(discard(dir), os.Mkdir(dir, 0o700)); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	f := &fetched{file: file, isNew: true}
	if _, err := file.WriteString(head); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return f, nil
}

// fetchedHead is the first line: for what, in which boot, and how the ranges are numbered.
func fetchedHead(digest, boot string) string {
	return fmt.Sprintf("%s %s %d %d %d\n", digest, strings.TrimSpace(boot), maxSpan, maxGap, maxOpened)
}

// discard removes a directory that is not whole, and first of all what says that something of it is.
func discard(dir string) error {
	if err := os.Remove(filepath.Join(dir, fetchedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// errTorn says that a file is not there of which ranges should be in their places: somebody has begun to remove the directory.
var errTorn = errors.New("a part of what was fetched before is gone")

// began tells whether any range of the entries from first on is in its place.
func (f *fetched) began(first int) bool {
	for p := range f.done {
		if p.first == first {
			return true
		}
	}
	return false
}

// readFetched reads one, up to a line that was cut off. It has to begin with the head.
func readFetched(path, head string) (map[place]bool, bool) {
	file, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer file.Close()
	in, done := bufio.NewReader(file), map[place]bool{}
	if line, err := in.ReadString('\n'); err != nil || line != head {
		return nil, false
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return done, true
		}
		var p place
		if _, err := fmt.Sscanf(line, "%d %d\n", &p.first, &p.number); err != nil {
			return nil, false
		}
		done[p] = true
	}
}

// has tells whether a range is in its place. Without a file none is.
func (f *fetched) has(p place) bool { return f != nil && f.done[p] }

// note notes that it is.
func (f *fetched) note(p place) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := fmt.Fprintf(f.file, "%d %d\n", p.first, p.number) // in one write
	return err
}

// remove ends it: all is there.
func (f *fetched) remove() error {
	err := os.Remove(f.file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
