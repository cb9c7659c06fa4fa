package agent

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
)

// The reasons of events on captures of pods with a storage volume.
const (
	keptInVolume    = "KeptInVolume"
	notKeptInVolume = "NotKeptInVolume"
)

// publishKept says of a capture that the pod's own volume has it. Nothing is sent to a bucket; the copy on the node serves as one of an uploaded state does.
func (a *Agent) publishKept(ctx context.Context, dir string, record *capture.Capture, checkpoint *v1alpha1.Checkpoint, r report, p *publication) error {
	volume := record.Settings.StorageVolume
	if volume == nil {
		return fmt.Errorf("%s has a file in a volume, and no volume", dir)
	}
	r.volume = &v1alpha1.CheckpointVolume{
		Name: volume.Name, Kind: v1alpha1.VolumeKind(volume.Kind), Source: volume.Source,
		File: record.Kept.Name, SizeBytes: record.Kept.SizeBytes, ContentBytes: record.Kept.ContentBytes, Digest: record.Kept.Digest,
	}
	r.captured.Status, r.captured.Reason, r.captured.Message = metav1.ConditionTrue, v1alpha1.StateCompleted, "safe in "+volume.String()
	r.uploaded.Status, r.uploaded.Reason = metav1.ConditionTrue, v1alpha1.StateCompleted
	r.uploaded.Message = fmt.Sprintf("kept in %s, %s in %s, and in no bucket", volume, v1alpha1.ReadableSize(record.Kept.SizeBytes),
		v1alpha1.ReadableDuration(record.Timings.Volume).Duration)
	if err := a.apply(ctx, checkpoint, r); err != nil {
		return err
	}
	a.tellCaptured(ctx, checkpoint, record, r, p)
	a.event(checkpoint, record, corev1.EventTypeNormal, keptInVolume, r.uploaded.Message)
	keptBytes.Add(float64(record.Kept.SizeBytes))
	return a.noteUploaded(ctx, dir, memo{CheckpointUID: checkpoint.StorageName(), Uploaded: a.Now()}, p)
}

// tellNotKept tells once that a capture is not in the storage volume of its pod. It goes to a bucket, if there is one, and stays on the node until then.
func (a *Agent) tellNotKept(checkpoint *v1alpha1.Checkpoint, record *capture.Capture, p *publication) {
	if record.NotKept == "" || p.toldKept {
		return
	}
	p.toldKept = true
	notKept.Inc()
	a.event(checkpoint, record, corev1.EventTypeWarning, notKeptInVolume, fmt.Sprintf("the state is not kept in %s; it is on node %s, and goes to the "+
		"bucket if there is one", record.NotKept, a.NodeName))
}

// keptRecord is what is known of a state that is in a volume of the new pod, which the agent cannot read before the pod has it.
func keptRecord(checkpoint *v1alpha1.Checkpoint) *capture.Capture {
	record := &capture.Capture{State: capture.Complete}
	for _, c := range checkpoint.Status.Containers {
		record.Containers = append(record.Containers, capture.Container{Name: c.Name, Image: c.Image})
	}
	return record
}

// keptOf returns the file that the runtime is to bring to the folder of a state; nil when it is there.
func (a *Agent) keptOf(dir string, checkpoint *v1alpha1.Checkpoint) *capture.KeptFile {
	v := checkpoint.Status.Volume
	if _, err := os.Stat(filepath.Join(dir, capture.FileName)); err == nil || v == nil {
		return nil
	}
	return &capture.KeptFile{Name: v.File, SizeBytes: v.SizeBytes, ContentBytes: v.ContentBytes, Digest: v.Digest}
}

// lineOf is the line of the states that the pod takes up, alone, as it holds the Checkpoint that it claimed: that of this one, or of the one in its place.
// Without a claim there is none.
func lineOf(pod *corev1.Pod, claimed, from *v1alpha1.Checkpoint) (line string) {
	if claimed == nil {
		return ""
	}
	if claim := claimed.Status.Claim; claim == nil || claim.PodUID != pod.UID {
		return ""
	}
	if v := cmp.Or(claimed.Status.Volume, from.Status.Volume); v != nil {
		line, _, _ = capture.ParseKeptName(v.File)
	}
	return line
}
