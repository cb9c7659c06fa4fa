package engine

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
)

// numbered are the namespaces of a task as a real dump has them: those of control groups, users and time are the node's.
func numbered(change func(*criucore.TaskKobjIdsEntry)) *criucore.TaskKobjIdsEntry {
	ids := &criucore.TaskKobjIdsEntry{
		VmId: new(uint32(2)), FilesId: new(uint32(2)), FsId: new(uint32(2)), SighandId: new(uint32(2)), PidNsId: new(uint32(9)), NetNsId: new(uint32(10)),
		IpcNsId: new(uint32(11)), UtsNsId: new(uint32(12)), MntNsId: new(uint32(13)), UserNsId: new(uint32(7)), CgroupNsId: new(uint32(8)),
		TimeNsId: new(uint32(5)),
	}
	change(ids)
	return ids
}

func TestNamespacesOfTheNodeAreRefused(t *testing.T) {
	spec := &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
		{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace, Path: "/proc/1/ns/ipc"},
		{Type: specs.UTSNamespace, Path: "/proc/1/ns/uts"}, {Type: specs.NetworkNamespace, Path: "/proc/1/ns/net"}, {Type: specs.CgroupNamespace},
	}}}
	node := numbered(func(ids *criucore.TaskKobjIdsEntry) {
		ids.PidNsId, ids.NetNsId, ids.IpcNsId, ids.UtsNsId, ids.MntNsId = new(uint32(1)), new(uint32(2)), new(uint32(3)), new(uint32(4)), new(uint32(6))
	})
	for what, test := range map[string]struct {
		first, second func(*criucore.TaskKobjIdsEntry)
		says          string
	}{
		"as it is":              {},
		"processes of the node": {first: func(ids *criucore.TaskKobjIdsEntry) { ids.PidNsId = node.PidNsId }, says: `"pid"`},
		"mounts of the node":    {first: func(ids *criucore.TaskKobjIdsEntry) { ids.MntNsId = node.MntNsId }, says: `"mount"`},
		"network of the node":   {first: func(ids *criucore.TaskKobjIdsEntry) { ids.NetNsId = node.NetNsId }, says: `"network"`},
		"memory of the node":    {first: func(ids *criucore.TaskKobjIdsEntry) { ids.IpcNsId = node.IpcNsId }, says: `"ipc"`},
		"name of the node":      {first: func(ids *criucore.TaskKobjIdsEntry) { ids.UtsNsId = node.UtsNsId }, says: `"uts"`},
		"one below the first's": {second: func(ids *criucore.TaskKobjIdsEntry) { ids.MntNsId = new(uint32(14)) }},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			writeImage(t, filepath.Join(dir, "inventory.img"), "INVENTORY", &inventory.InventoryEntry{ImgVersion: new(uint32(2)), RootIds: node})
			zero, one, two := new(uint32(0)), new(uint32(1)), new(uint32(2))
			writeImage(t, filepath.Join(dir, "pstree.img"), "PSTREE",
				&pstree.PstreeEntry{Pid: one, Ppid: zero, Pgid: one, Sid: one}, &pstree.PstreeEntry{Pid: two, Ppid: one, Pgid: one, Sid: one})
			for name, change := range map[string]func(*criucore.TaskKobjIdsEntry){"ids-1.img": test.first, "ids-2.img": test.second} {
				if change == nil {
					change = func(*criucore.TaskKobjIdsEntry) {}
				}
				writeImage(t, filepath.Join(dir, name), "IDS", proto.Message(numbered(change)))
			}
			err := checkNamespaces(dir, spec)
			if mismatch := errors.As(err, new(*MismatchError)); mismatch != (test.says != "") || mismatch && !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %v, should have %q", err, test.says)
			}
		})
	}
	if err := checkNamespaces(t.TempDir(), spec); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without an inventory: %v", err)
	}
}
