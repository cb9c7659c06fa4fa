package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/seccomp"
	"google.golang.org/protobuf/proto"
)

// filterFlagTSync is SECCOMP_FILTER_FLAG_TSYNC (linux/seccomp.h): a filter that is set for all threads of a process at once.
const filterFlagTSync = 1

// maxTreeSize bounds the images of the process tree and of the seccomp filters, in bytes.
const maxTreeSize = 16 << 20

// followers returns the threads, by their numbers, that have the seccomp filters of the first thread of their process: where all threads of a
// process have the same ones, CRIU writes them down for the first alone, with a flag that sets them for all, and has the others without
// (criu/seccomp.c, try_use_tsync).
func followers(images string, tasks map[uint32][]*criucore.CoreEntry) (map[uint32]bool, error) {
	filters, err := decodeImage(filepath.Join(images, "seccomp.img"), maxTreeSize, &seccomp.SeccompEntry{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no task has one
	}
	if err != nil {
		return nil, fmt.Errorf("read the seccomp filters: %w", err)
	}
	processes, err := decodeImage(filepath.Join(images, "pstree.img"), maxTreeSize, &pstree.PstreeEntry{})
	if err != nil {
		return nil, fmt.Errorf("read the process tree: %w", err)
	}
	var chain []*seccomp.SeccompFilter
	for _, entry := range filters {
		chain = append(chain, entry.GetSeccompFilters()...)
	}
	follow := map[uint32]bool{}
	for _, process := range processes {
		for _, leader := range tasks[process.GetPid()] {
			thread := leader.GetThreadCore()
			if thread.GetSeccompMode() != criucore.SeccompMode_filter || int64(thread.GetSeccompFilter()) >= int64(len(chain)) {
				continue
			}
			if chain[thread.GetSeccompFilter()].GetFlags()&filterFlagTSync == 0 {
				continue
			}
			for _, thread := range process.GetThreads() {
				follow[thread] = true
			}
		}
	}
	return follow, nil
}

// decodeImage returns the entries of one of CRIU's images, which must not be larger than that many bytes.
func decodeImage[T proto.Message](path string, most int64, kind T) ([]T, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() > most {
		return nil, errors.Join(err, fmt.Errorf("it has more than %d bytes", most))
	}
	image, err := crit.New(file, nil, "", false, true).Decode(kind)
	if err != nil {
		return nil, err
	}
	var entries []T
	for _, entry := range image.Entries {
		message, ok := entry.Message.(T)
		if !ok {
			return nil, fmt.Errorf("it holds something else than %T", kind)
		}
		entries = append(entries, message)
	}
	return entries, nil
}
