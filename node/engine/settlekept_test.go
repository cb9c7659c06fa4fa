package engine

import (
	"path/filepath"
	"testing"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// What a volume of the pod has is not lost with the folder on the node that the power cut may have torn.
func TestACaptureThatAVolumeHasOutlivesThePowerCut(t *testing.T) {
	stopped, asks := capture.Trigger{Signal: "SIGTERM"}, capture.Trigger{Asks: &capture.Asks{Checkpoint: "c", UID: "c-uid"}}
	kept := &capture.KeptFile{Name: "db-0.1234.20261124T120000-1.tar.zst"}
	for name, test := range map[string]struct {
		folder  string
		state   capture.State
		trigger capture.Trigger
		kept    *capture.KeptFile
		want    capture.State
	}{
		"dumped, on the node alone":              {"1.partial", capture.Dumped, stopped, nil, capture.Failed},
		"dumped, and in the volume":              {"1.partial", capture.Dumped, stopped, kept, capture.Complete},
		"dumped, in the volume, and goes on":     {"1.partial", capture.Dumped, asks, kept, capture.Complete},
		"complete, and in the volume":            {"1", capture.Complete, stopped, kept, capture.Complete},
		"complete, not named, and in the volume": {"1.partial", capture.Complete, stopped, kept, capture.Complete},
		"complete, on the node alone":            {"1", capture.Complete, stopped, nil, capture.Failed},
		"complete, not named, on the node alone": {"1.partial", capture.Complete, stopped, nil, capture.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			e := quiet(t)
			write(t, filepath.Join(e.Node.Root, "proc/sys/kernel/random/boot_id"), "second")
			dir := filepath.Join(e.Node.Captures(uidOfPod), test.folder)
			record := &capture.Capture{State: test.state, Trigger: test.trigger, Sequence: 1, BootID: "first", Kept: test.kept}
			write(t, filepath.Join(dir, "containers/app/criu/pages-1.img"), "torn")
			if err := record.Write(dir); err != nil {
				t.Fatal(err)
			}
			a := &attempt{engine: e, podUID: uidOfPod, owed: signalsOf(e.Node, uidOfPod)}
			if a.openHooks(); a.settle(t.Context()) != nil {
				t.Fatal("it is not settled")
			}
			final := filepath.Join(e.Node.Captures(uidOfPod), "1")
			settled, err := capture.Read(final)
			if err != nil || settled.State != test.want || (settled.Kept != nil) != (test.kept != nil) {
				t.Errorf("it is %+v, %v", settled, err)
			}
			if e.Node.IsWhole(final, settled) {
				t.Error("what may be torn is restored from the node")
			}
		})
	}
}
