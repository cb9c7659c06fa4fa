package agent

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
)

// For how long the folder of a capture stays for diagnosis, and how many do on a node.
const (
	diagnosisTime = 24 * time.Hour
	diagnosisMost = 10
)

// retire is the end of a capture that has served, or failed: it is kept for diagnosis, if that is asked for, or else removed. One that nobody wants, or
// that goes to make room, is removed in any case.
func (a *Agent) retire(dir string) error {
	kept, err := a.keepForDiagnosis(dir)
	if err != nil {
		return err
	}
	if !kept {
		return a.remove(dir)
	}
	a.forgetFolder(dir)
	return nil
}

// keepForDiagnosis moves the folder of a capture that is needed no more to where a person finds it, if its pod asks for that and the disk has room.
func (a *Agent) keepForDiagnosis(dir string) (kept bool, err error) {
	record, err := capture.Read(dir)
	if err != nil || !record.Settings.Diagnosis || a.nearlyFull(a.Node.CapturesRoot()) {
		return false, nil //nolint:nilerr // what cannot be read is of no use to anybody
	}
	name := fmt.Sprintf("%s_%s_%.8s_%d", record.Pod.Namespace, record.Pod.Name, record.Pod.UID, record.Sequence)
	target := filepath.Join(a.Node.DiagnosisRoot(), name)
	if err := os.MkdirAll(a.Node.DiagnosisRoot(), 0o700); err != nil {
		return false, err
	}
	if err := os.RemoveAll(target); err != nil {
		return false, err
	}
	if err := os.Rename(dir, target); err != nil {
		return false, err
	}
	now := a.Now()
	_ = os.Chtimes(target, now, now) // its age counts from here; if that fails it goes earlier
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.UID = record.Pod.Namespace, record.Pod.Name, uid(record.Pod.UID)
	pod.APIVersion, pod.Kind = "v1", "Pod"
	a.Recorder.Eventf(pod, nil, corev1.EventTypeNormal, "DiagnosisKept", "Capture", "%s",
		v1alpha1.EventNote(fmt.Sprintf("images and logs of the capture are on node %s in %s, for %s at most", a.NodeName, target, diagnosisTime)))
	return true, nil
}

// tidyDiagnosis removes what was kept for long enough, and the oldest of too many. When the disk is nearly full all of it goes.
func (a *Agent) tidyDiagnosis() {
	root := a.Node.DiagnosisRoot()
	type folder struct {
		path string
		kept time.Time
	}
	var all []folder
	for _, name := range namesIn(root) {
		if info, err := os.Stat(filepath.Join(root, name)); err == nil {
			all = append(all, folder{filepath.Join(root, name), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(x, y folder) int { return cmp.Compare(y.kept.UnixNano(), x.kept.UnixNano()) })
	full := len(all) > 0 && a.nearlyFull(root)
	for i, f := range all {
		if full || i >= diagnosisMost || a.Now().Sub(f.kept) > diagnosisTime {
			_ = os.RemoveAll(f.path) // the next turn tries again
		}
	}
}
