package engine

import (
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/creds"
	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
)

func TestWhereNothingConfinesAProcessIsNotConfined(t *testing.T) {
	if hasLabels() {
		t.Skip("this machine has AppArmor or SELinux")
	}
	none := uint32(0)
	confined := &criucore.CoreEntry{Mtype: criucore.CoreEntry_X86_64.Enum(), ThreadCore: &criucore.ThreadCoreEntry{
		FutexRla: new(uint64(0)), FutexRlaLen: &none, Creds: &creds.CredsEntry{
			Uid: &none, Gid: &none, Euid: &none, Egid: &none, Suid: &none, Sgid: &none, Fsuid: &none, Fsgid: &none, Secbits: &none,
			LsmProfile: proto.String("cri-containerd.apparmor.d"), LsmSockcreate: proto.String("x"),
		},
	}}
	for what, test := range map[string]struct {
		process *specs.Process
		want    string
	}{
		"none asked for":     {&specs.Process{}, ""},
		"nothing known":      {nil, ""},
		"one is asked for":   {&specs.Process{ApparmorProfile: "mine"}, "cri-containerd.apparmor.d"},
		"a label of SELinux": {&specs.Process{SelinuxLabel: "mine"}, "cri-containerd.apparmor.d"},
	} {
		images := t.TempDir()
		file := filepath.Join(images, "core-1.img")
		writeEntries(t, file, confined)
		if err := adaptLabels(images, &specs.Spec{Process: test.process}); err != nil {
			t.Fatal(err)
		}
		err := editImage(file, func() *criucore.CoreEntry { return &criucore.CoreEntry{} }, func(core *criucore.CoreEntry) edit {
			if got := core.GetThreadCore().GetCreds().GetLsmProfile(); got != test.want {
				t.Errorf("%s: it has %q", what, got)
			}
			return leaveEntry
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
