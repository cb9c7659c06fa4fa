package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
)

// note is what the agent keeps on disk of a labelled pod as long as it lives: the Checkpoint to make of it when it is captured while nobody
// looks, and is gone when somebody does.
type note struct {
	Checkpoint *v1alpha1.Checkpoint      `json:"checkpoint"`
	Source     v1alpha1.CheckpointSource `json:"source"`
	// Digests are those of the images that its containers run, by the names of the containers, as soon as they are known.
	Digests map[string]string `json:"digests,omitempty"`
}

func (a *Agent) noteFile(podUID string) string {
	return filepath.Join(a.Node.Root, "var/lib/checkpoint/pods", podUID+".json")
}

// takeNote writes the note of a pod, once, and again when more is known of its images.
func (a *Agent) takeNote(pod *corev1.Pod) error {
	path, digests := a.noteFile(string(pod.UID)), digestsIn(pod)
	a.mu.Lock()
	noted, known := a.noted[pod.UID]
	a.mu.Unlock()
	if _, err := os.Stat(path); err == nil && (known && noted == len(digests) || len(digests) == 0) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	checkpoint, source := lineage.TerminationCheckpoint(pod)
	err := capture.WriteJSON(path, note{checkpoint, source, digests})
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.noted[pod.UID] = len(digests)
	}
	return err
}

// noteOf returns the note of a captured pod. Without one, since the agent never saw the pod, the Checkpoint stands alone: it is not lost, but
// no pod is restored from it by itself.
func (a *Agent) noteOf(pod capture.Pod) (n note, known bool, err error) {
	data, err := os.ReadFile(a.noteFile(pod.UID))
	if err == nil {
		err = json.Unmarshal(data, &n)
		return n, err == nil, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return n, false, err
	}
	stranger := &corev1.Pod{}
	stranger.Namespace, stranger.Name, stranger.UID, stranger.Spec.NodeName = pod.Namespace, pod.Name, uid(pod.UID), a.NodeName
	n.Checkpoint, n.Source = lineage.TerminationCheckpoint(stranger)
	n.Source.Lineage = lineage.Unknown(pod.UID)
	n.Checkpoint.Labels[keys.Lineage] = n.Source.Lineage
	return n, false, nil
}

// unpublished returns those pods of a namespace on this node that were captured for the last time, or are being so, and whose Checkpoint was not made by
// this agent yet. A capture that is not wanted is among them until that is known.
func (a *Agent) unpublished(namespace string) []matching.Unpublished {
	dirs, err := filepath.Glob(filepath.Join(a.Node.CapturesRoot(), "*", "[0-9]*"))
	if err != nil {
		return nil
	}
	var found []matching.Unpublished
	for _, dir := range dirs {
		record, err := capture.Read(dir)
		if err != nil || record.Pod.Namespace != namespace || record.State == capture.Failed || record.Trigger.IsLive() {
			continue
		}
		if m, err := readMemo(dir); err != nil || m.CheckpointUID != "" {
			continue
		}
		if n, known, err := a.noteOf(record.Pod); err == nil && known {
			found = append(found, matching.Unpublished{PodName: n.Checkpoint.Spec.SourcePodName, Source: n.Source, Begun: record.Started})
		}
	}
	return found
}
