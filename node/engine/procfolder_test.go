package engine

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

func TestFoldersOfProcHaveTheirNames(t *testing.T) {
	const file, folder = unix.S_IFREG | 0o444, unix.S_IFDIR | 0o555
	for what, test := range map[string]struct {
		name string
		mode uint32
		want string
	}{
		"a slash too many":                  {"/proc/1/", folder, "/proc/1"},
		"a byte of CRIU's memory":           {"/proc/1/\x08", folder, "/proc/1"},
		"more of it":                        {"/proc/17/\nroup/cpu/cpu.shares", folder, "/proc/17"},
		"a folder in it stays":              {"/proc/1/task", folder, "/proc/1/task"},
		"one deeper stays":                  {"/proc/1/task/7/fd", folder, "/proc/1/task/7/fd"},
		"a file in it stays":                {"/proc/1/status", file, "/proc/1/status"},
		"a file with a name that we do not": {"/proc/1/new", file, "/proc/1/new"},
		"that of an ended process stays":    {"/proc/16 (deleted)", folder, "/proc/16 (deleted)"},
		"a folder of the machine stays":     {"/proc/sys/net", folder, "/proc/sys/net"},
		"one elsewhere stays":               {"/data/proc/1/x", folder, "/data/proc/1/x"},
	} {
		t.Run(what, func(t *testing.T) {
			zero, kind := uint32(0), fdinfo.FdTypes_REG
			entry, err := proto.Marshal(&fdinfo.FileEntry{Type: &kind, Id: &zero, Reg: &regfile.RegFileEntry{
				Id: &zero, Flags: &zero, Pos: new(uint64), Name: &test.name, Mode: &test.mode,
				Fown: &fown.FownEntry{Uid: &zero, Euid: &zero, Signum: &zero, PidType: &zero, Pid: &zero},
			}})
			if err != nil {
				t.Fatal(err)
			}
			image := append(binary.LittleEndian.AppendUint32([]byte("8bytes!!"), uint32(len(entry))), entry...)
			trimmed, err := trimProcFolders(image)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == test.name && !bytes.Equal(trimmed, image) {
				t.Error("the image has changed")
			}
			got := &fdinfo.FileEntry{}
			if err := proto.Unmarshal(trimmed[len("8bytes!!")+4:], got); err != nil {
				t.Fatal(err)
			}
			if got.GetReg().GetName() != test.want {
				t.Errorf("its name is %q, want %q", got.GetReg().GetName(), test.want)
			}
		})
	}
}
