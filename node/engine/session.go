package engine

import (
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	"google.golang.org/protobuf/proto"
)

// maxProcessesSize bounds the image of a container's process tree, in bytes.
const maxProcessesSize = 64 << 20

// adoptSessions gives a session of their own to processes whose session's leader has ended, and which are neither children of the first process
// nor descend from a leader: orphans that a subreaper has taken. CRIU brings back the session of an orphan of the first process only
// (https://github.com/checkpoint-restore/criu/blob/v4.2/criu/pstree.c), and would refuse the whole container.
func adoptSessions(images string) error {
	return rewriteImage(filepath.Join(images, "pstree.img"), maxProcessesSize, func(image []byte) ([]byte, error) {
		tree := map[uint32]*pstree.PstreeEntry{}
		if _, err := mapEntries(image, func(entry []byte) ([]byte, error) {
			p := &pstree.PstreeEntry{}
			if err := proto.Unmarshal(entry, p); err != nil {
				return nil, err
			}
			tree[p.GetPid()] = p
			return entry, nil
		}); err != nil {
			return nil, err
		}
		changed := adopt(tree)
		return mapEntries(image, func(entry []byte) ([]byte, error) {
			p := &pstree.PstreeEntry{}
			if err := proto.Unmarshal(entry, p); err != nil || !changed[p.GetPid()] {
				return entry, err
			}
			return proto.Marshal(tree[p.GetPid()])
		})
	})
}

// adopt changes the sessions of a process tree, by numbers, and returns whose.
func adopt(tree map[uint32]*pstree.PstreeEntry) map[uint32]bool {
	heads := map[uint32]*pstree.PstreeEntry{} // by the numbers of those that go with them
	for pid, p := range tree {
		if head := headOf(tree, p); head != nil {
			heads[pid] = head
		}
	}
	changed := map[uint32]bool{}
	for pid, head := range heads {
		p := tree[pid]
		if p == head {
			continue
		}
		if p.GetPgid() == head.GetPgid() {
			p.Pgid = proto.Uint32(head.GetPid())
		}
		p.Sid, changed[pid] = proto.Uint32(head.GetPid()), true
	}
	for _, head := range heads {
		head.Sid, head.Pgid, changed[head.GetPid()] = proto.Uint32(head.GetPid()), proto.Uint32(head.GetPid()), true
	}
	return changed
}

// headOf returns the uppermost of p and those above it that are in the same session, if CRIU cannot bring that session back; else nil.
func headOf(tree map[uint32]*pstree.PstreeEntry, p *pstree.PstreeEntry) *pstree.PstreeEntry {
	head, above := p, tree[p.GetPpid()]
	for range tree { // no more often, in case of a loop
		if above == nil || above.GetSid() != p.GetSid() {
			break
		}
		head, above = above, tree[above.GetPpid()]
	}
	if head.GetPid() == p.GetSid() || above == nil || tree[above.GetPpid()] == nil { // a leader, the first process, a child of it
		return nil
	}
	for range tree {
		if above == nil {
			return head
		}
		if above.GetPid() == p.GetSid() { // it was born before an ancestor left the session
			return nil
		}
		above = tree[above.GetPpid()]
	}
	return nil
}
