package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/seccomp"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

func TestThreadsFollowTheFirstOneWhereItsFilterIsForAll(t *testing.T) {
	filtered := func(position uint32) []*criucore.CoreEntry {
		mode := criucore.SeccompMode_filter
		return []*criucore.CoreEntry{{ThreadCore: &criucore.ThreadCoreEntry{SeccompMode: &mode, SeccompFilter: &position}}}
	}
	tasks := map[uint32][]*criucore.CoreEntry{1: filtered(0), 7: filtered(1), 9: {{ThreadCore: &criucore.ThreadCoreEntry{}}}}
	dir := t.TempDir()
	got, err := followers(dir, tasks)
	if err != nil || len(got) > 0 {
		t.Errorf("without filters it says %v, %v", got, err)
	}
	filter := func(flags uint32) *seccomp.SeccompFilter {
		return &seccomp.SeccompFilter{Filter: []byte{0}, Flags: &flags}
	}
	filters := []*seccomp.SeccompFilter{filter(filterFlagTSync | 4), filter(4)}
	writeImage(t, filepath.Join(dir, "seccomp.img"), "SECCOMP", &seccomp.SeccompEntry{SeccompFilters: filters})
	process := func(pid uint32, threads ...uint32) *pstree.PstreeEntry {
		none := uint32(0)
		return &pstree.PstreeEntry{Pid: &pid, Ppid: &none, Pgid: &none, Sid: &none, Threads: threads}
	}
	writeImage(t, filepath.Join(dir, "pstree.img"), "PSTREE", process(1, 1, 2, 3), process(7, 7, 8), process(9, 9))
	got, err = followers(dir, tasks)
	if diff := cmp.Diff(map[uint32]bool{1: true, 2: true, 3: true}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

// writeImage writes an image as CRIU does.
func writeImage(t *testing.T, path, magic string, messages ...proto.Message) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	image := &crit.CriuImage{Magic: magic, EntryType: messages[0]}
	for _, message := range messages {
		image.Entries = append(image.Entries, &crit.CriuEntry{Message: message})
	}
	if err := crit.New(nil, file, "", false, true).Encode(image); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
