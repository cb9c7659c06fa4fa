package engine

import (
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

// task is a process: its number, parent, group and session.
type task [4]uint32

func TestOrphansOfASubreaperGetASession(t *testing.T) {
	for what, test := range map[string]struct{ has, want []task }{
		"a tree whose leaders live stays":      {[]task{{1, 0, 1, 1}, {2, 1, 2, 2}, {3, 2, 2, 2}}, []task{{1, 0, 1, 1}, {2, 1, 2, 2}, {3, 2, 2, 2}}},
		"an orphan of the first process stays": {[]task{{1, 0, 1, 1}, {4, 1, 3, 3}}, []task{{1, 0, 1, 1}, {4, 1, 3, 3}}},
		"a child from before a new session stays": {
			[]task{{1, 0, 1, 1}, {2, 1, 2, 2}, {3, 2, 3, 3}, {4, 3, 2, 2}}, []task{{1, 0, 1, 1}, {2, 1, 2, 2}, {3, 2, 3, 3}, {4, 3, 2, 2}},
		},
		"an orphan of another process leads its session, with its children and their groups": {
			[]task{{1, 0, 1, 1}, {2, 1, 1, 1}, {5, 2, 4, 4}, {6, 5, 4, 4}, {7, 5, 7, 4}},
			[]task{{1, 0, 1, 1}, {2, 1, 1, 1}, {5, 2, 5, 5}, {6, 5, 5, 5}, {7, 5, 7, 5}},
		},
	} {
		tree := map[uint32]*pstree.PstreeEntry{}
		for _, p := range test.has {
			tree[p[0]] = &pstree.PstreeEntry{Pid: proto.Uint32(p[0]), Ppid: proto.Uint32(p[1]), Pgid: proto.Uint32(p[2]), Sid: proto.Uint32(p[3])}
		}
		adopt(tree)
		var got []task
		for _, p := range test.has {
			e := tree[p[0]]
			got = append(got, task{e.GetPid(), e.GetPpid(), e.GetPgid(), e.GetSid()})
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
}
