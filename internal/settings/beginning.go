package settings

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// RestoreFrom returns the name of the Checkpoint that pods begin from, by labels and annotations of a pod or a template; empty where they name none. An error
// names the key, and says what its value may be. It is the same as that of Settings, for those who have nothing else of the pod.
func RestoreFrom(labels, annotations map[string]string) (string, error) {
	pod := &corev1.Pod{}
	pod.Labels, pod.Annotations = labels, annotations
	r := reader{places: placesOf(pod, Namespace{})}
	name := restoreFrom(&r)
	return name, r.err
}

// restoreFrom resolves the key at the pod alone: all pods of a Namespace beginning from one Checkpoint is nothing that anybody could want, and who may write
// the Namespace has not been asked whether he may restore it. What stands there does not count, and whoever makes the pod is told.
func restoreFrom(r *reader) string {
	places := r.places
	defer func() { r.places = places }()
	r.places = slices.DeleteFunc(slices.Clone(places), func(p place) bool { return p.forAll })
	for _, p := range places {
		if w, found := p.read(keys.RestoreFrom); found && p.forAll {
			r.warnings = append(r.warnings, w.where+" does not count: it belongs on a pod, or on the template of pods")
		}
	}
	return resolve(r, keys.RestoreFrom, checkpointName)
}

// checkpointName reads the name of a Checkpoint.
func checkpointName(w written) (string, error) {
	switch {
	case w.text == "":
		return "", fmt.Errorf(`%s is ""; it may be the name of a Checkpoint; to have pods start cold, write %s: "%s" instead`, w.where, keys.RestoreMode, keys.False)
	case !v1alpha1.IsName(w.text):
		return "", w.wrong(fmt.Sprintf("the name of a Checkpoint of the pod's namespace: lower case letters, digits, hyphens and dots, %d at most",
			v1alpha1.MaxNameLength))
	}
	return w.text, nil
}
