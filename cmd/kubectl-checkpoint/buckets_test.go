package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/internal/inspect"
)

const (
	gib = 1 << 30
	mib = 1 << 20
)

func answers(t *testing.T, i *installation) {
	t.Helper()
	state := inspect.Verification{Namespace: "shop", Checkpoint: "web-5c9d-x-0123", Location: "main", Files: 41, Bytes: 300 * mib, Packs: 3, Stored: 88 * mib}
	i.answers["manager-a verify shop web-5c9d-x-0123"] = answerOf(t, state) + "\x00" + inspect.ProgressPrefix + "1 2\n"
	state.Checkpoint, state.Unread = "web-older", []string{"7f1c-uid"}
	state.Damages = []inspect.Damage{
		{Object: "checkpoints/shop/one/packs/0123/aa11", Offset: 4096, Length: 262144,
			Problem: "pack 0123/aa11: frame at byte 4096: its digest is 00; it has to be 11: the data is corrupt",
			Files:   []string{"containers/app/criu/pages-1.img"}, SharedWith: []string{"web-5c9d-a-live", "web-5c9d-x-0123"}},
		{Object: "checkpoints/shop/one/packs/0123/bb22", Length: 99, Problem: "pack 0123/bb22 is missing or too short",
			Files: strings.Fields(strings.Repeat("a ", 12))},
		{Object: "checkpoints/shop/one/manifests/0123", Problem: "it is not there"},
	}
	i.answers["manager-a verify shop web-older"] = answerOf(t, state)
	usage := inspect.Usage{Locations: []inspect.LocationUsage{
		{Name: "main", Bucket: "states", Prefix: "cluster-a", Logs: 3 * mib, Folders: []inspect.FolderUsage{
			{Namespace: "shop", Lineage: "one", Workload: "Deployment/web", Objects: 9, Bytes: 300 * mib, Shared: 200 * mib, Uploading: 10 * mib, Unnamed: 5 * mib,
				Checkpoints: []inspect.CheckpointUsage{
					{Name: "web-5c9d-x-0123", StorageName: "b", Stored: testNow.Add(-3 * time.Minute), Logical: gib, Own: 50 * mib, Shared: 200 * mib},
					{StorageName: "a", Stored: testNow.Add(-26 * time.Hour), Logical: gib, Own: 35 * mib, Shared: 200 * mib, Problem: "it has no key"},
				}},
			{Namespace: "shop", Lineage: "4711", Objects: 1, Bytes: mib, Unnamed: mib},
		}},
		{Name: "old", Bucket: "old", Problem: `storage location "old": there is no Secret "s3" in namespace "checkpoint-system"`},
		{Name: "new", Bucket: "new"},
	}}
	i.answers["manager-a du"], i.answers["manager-a du shop"] = answerOf(t, usage), answerOf(t, inspect.Usage{})
	i.answers["agent-1 logs capture shop web-5c9d-x web-5c9d-x-uid-0123 web-5c9d-x-0123-uid"] = answerOf(t, inspect.Logs{
		Looked: []string{"node worker-1: it has no capture of it any more"},
		Found:  []inspect.Log{{Name: "web-5c9d-x-uid-0123.log", Where: "node worker-1, /run/checkpoint/log", Text: "the runtime's\n"}},
	})
	i.answers["manager-a logs shop web-5c9d-x-0123"] = answerOf(t, inspect.Logs{
		Found: []inspect.Log{{Name: "log/app/dump.log", Where: "the state in location main", Text: "(00.1) all is well\n(00.2) done"}},
	})
	i.answers["agent-1 logs capture shop train-7 train-7-uid-0123 train-7-0123-uid"] = answerOf(t, inspect.Logs{Looked: []string{"node worker-1: nothing"}})
	i.answers["manager-a logs shop train-7-0123"] = "!no bucket has its state"
}

func TestWhatIsSaidOfBuckets(t *testing.T) {
	for name, test := range map[string]struct {
		words string
		err   error
	}{
		"verify-whole.txt":   {words: "verify web-5c9d-x-0123"},
		"verify-whole.json":  {words: "verify checkpoint/web-5c9d-x-0123 -o json"},
		"verify-damaged.txt": {"verify web-older", errDamaged},
		"du.txt":             {words: "du -A"},
		"du-wide.txt":        {words: "du -A -o wide"},
		"du-none.txt":        {words: "du"},
		"logs.txt":           {words: "logs web-5c9d-x-0123"},
		"logs-tail.txt":      {words: "logs train-7-0123"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newInstallation(t)
			answers(t, i)
			out, errOut, err := i.says(strings.Fields(test.words)...)
			if !errors.Is(err, test.err) || errOut != "" {
				t.Fatalf("%s: %v, %s", test.words, err, errOut)
			}
			golden(t, name, out)
		})
	}
}

func TestWhoLacksARightIsToldWhich(t *testing.T) {
	i := newInstallation(t)
	answers(t, i)
	i.forbidden = []string{"create pods/exec in checkpoint-system", "create pods/exec in checkpoint-agents"}
	for _, words := range []string{"verify web-older", "du", "export web-older x"} {
		_, _, err := i.says(strings.Fields(words)...)
		if err == nil || !strings.Contains(err.Error(), "that is the verb create of pods/exec in namespace checkpoint-system") {
			t.Errorf("%s: %v", words, err)
		}
	}
	_, _, err := i.says("logs", "web-older")
	if err == nil || !strings.Contains(err.Error(), "pods/exec in namespace checkpoint-agents") || !strings.Contains(err.Error(), "status.logTail: it is empty") {
		t.Errorf("logs: %v", err)
	}
	if out, _, err := i.says("logs", "train-7-0123"); err != nil || !strings.Contains(out, "status.logTail, its end alone") {
		t.Errorf("what the status has: %q, %v", out, err)
	}
	if len(i.calls) > 0 {
		t.Errorf("it was asked all the same: %v", i.calls)
	}
	i = newInstallation(t)
	i.answers["manager-a du shop"] = "!it went wrong"
	if _, _, err := i.says("du"); err == nil || err.Error() != "it went wrong" {
		t.Errorf("what the pod says is not the error: %v", err)
	}
	i.objects = nil
	const noPod = "no pod of checkpoint-manager is ready in namespace checkpoint-system: kubectl checkpoint doctor"
	if _, _, err := i.says("du"); err == nil || !strings.Contains(err.Error(), noPod) {
		t.Errorf("without a manager: %v", err)
	}
}

func TestAnExportIsThereWholeOrNotAtAll(t *testing.T) {
	i := newInstallation(t)
	path, sum := filepath.Join(t.TempDir(), "web.tar"), sha256.Sum256([]byte("archive"))
	sent := fmt.Sprintf("archive\x00%s{\"bytes\":7,\"sha256\":%q}\n", inspect.SentPrefix, hex.EncodeToString(sum[:]))
	i.answers["manager-a export shop web-older"], i.answers["manager-a export shop web-older app"] = "arch"+strings.TrimPrefix(sent, "archive"), sent
	if _, _, err := i.says("export", "web-older", path); err == nil || !strings.Contains(err.Error(), "4 bytes came of 7") {
		t.Errorf("of an archive that is cut short it says %v", err)
	}
	if found, _ := filepath.Glob(path + "*"); len(found) > 0 {
		t.Errorf("it leaves %v", found)
	}
	out, _, err := i.says("export", "web-older", path, "--container=app")
	if err != nil || !strings.Contains(out, path+" written, 7. It holds the memory of the program") {
		t.Errorf("it says %q, %v", out, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 7 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if out, _, err := i.says("export", "web-older", "-", "--container=app"); err != nil || out != "archive" {
		t.Errorf("the output is %q, %v", out, err)
	}
}
