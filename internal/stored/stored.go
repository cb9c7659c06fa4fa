// Package stored is the file in which a stored state says whose it is, so that its Checkpoint can be made anew where that is not there: in another
// cluster, or in its own if the object was lost. The agent writes the file before it uploads a state; the manager's sync of locations reads it.
//
// It imports the API types, and how Checkpoints are labelled. Start reading at Checkpoint.
package stored

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// FileName is the name of the file at the top of a state's folder.
const FileName = "checkpoint.json"

// MaxSize bounds the file, in bytes.
const MaxSize = 1 << 20

// Checkpoint returns of a Checkpoint what is written into the file: its name, labels and spec, and of its status what was captured. Who stored it where, who
// claimed it, and its conditions are left out: they change, or are told by where it is found.
func Checkpoint(c *v1alpha1.Checkpoint) *v1alpha1.Checkpoint {
	return &v1alpha1.Checkpoint{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Checkpoint"},
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name, Labels: c.Labels},
		Spec:       c.Spec,
		Status: v1alpha1.CheckpointStatus{
			Source: c.Status.Source, Containers: c.Status.Containers, Machine: c.Status.Machine, CaptureTime: c.Status.CaptureTime,
			SizeBytes: c.Status.SizeBytes, Size: c.Status.Size, Frozen: c.Status.Frozen,
		},
	}
}

// Decode reads the file of a state that was found in the folder of a namespace and lineage, and returns the Checkpoint that is to be made anew, with its
// finalizer and labels and without an owner: one of another cluster is not there, and its Checkpoint would be collected as garbage. Whether the values are
// such as a Checkpoint may have, the API server says.
func Decode(data []byte, namespace, folderLineage string) (*v1alpha1.Checkpoint, error) {
	var c v1alpha1.Checkpoint
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&c); err != nil {
		return nil, err
	}
	want := metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Checkpoint"}
	source := c.Status.Source
	switch {
	case c.TypeMeta != want:
		return nil, fmt.Errorf("it is a %q of %q; it may be a %q of %q", c.Kind, c.APIVersion, want.Kind, want.APIVersion)
	case source == nil:
		return nil, errors.New("it says no status.source")
	case c.Namespace != namespace:
		return nil, fmt.Errorf("metadata.namespace is %q; it lies in the folder of %q", c.Namespace, namespace)
	case source.Lineage != folderLineage:
		return nil, fmt.Errorf("status.source.lineage is %q; it lies in the folder of %q", source.Lineage, folderLineage)
	case c.Status.CaptureTime == nil:
		return nil, errors.New("it says no status.captureTime")
	case c.Spec.SourcePodUID != "" && c.Spec.SourcePodUID != source.PodUID:
		return nil, fmt.Errorf("spec.sourcePodUID is %q, and status.source.podUID %q; both may be the same", c.Spec.SourcePodUID, source.PodUID)
	}
	made := Checkpoint(&c)
	made.Labels = lineage.Labels(c.Namespace, c.Spec.SourcePodName, *source, types.UID(c.Labels[keys.Workload]))
	made.Finalizers = []string{keys.CheckpointFinalizer}
	return made, nil
}
