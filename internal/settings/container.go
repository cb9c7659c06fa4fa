package settings

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/criu"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/periodic"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// container returns what counts for a container: what its environment says, or else what the pod does.
func (r *reader) container(pod *corev1.Pod, c *corev1.Container, forAll Container) Container {
	own := forAll
	if w, found := r.variable(c, keys.EnvDiagnosis); found {
		own.Diagnosis = take(r, w, boolean)
	}
	if w, found := r.variable(c, keys.EnvCheckpointOptions); found {
		own.setCheckpointOptions(take(r, w, optionsOf(criu.Dump)))
	}
	if w, found := r.variable(c, keys.EnvRestoreOptions); found {
		own.RestoreOptions = take(r, w, optionsOf(criu.Restore))
	}
	if w, found := r.variable(c, keys.EnvFiles); found {
		own.Files = take(r, w, func(w written) ([]string, error) { return files(w, pod, c) })
	}
	return own
}

// shortest returns the shortest interval that the containers' environments say, as it is written; nothing if none does.
func (r *reader) shortest(pod *corev1.Pod) (text string) {
	var least time.Duration
	for _, c := range podspec.Lasting(pod) {
		w, found := r.variable(c, keys.EnvInterval)
		if !found {
			continue
		}
		take(r, w, interval)
		if length, err := periodic.ParseInterval(w.text); err == nil && (text == "" || length < least) {
			text, least = w.text, length
		}
	}
	return text
}

// variable returns a variable of a container's environment; of several of a name the last counts. One whose value is known on the node only, when the
// pod has been admitted, counts for nothing, and there is a warning.
func (r *reader) variable(c *corev1.Container, name string) (w written, found bool) {
	w.where = fmt.Sprintf("env %s of container %q", name, c.Name)
	var last corev1.EnvVar
	for _, v := range c.Env {
		if v.Name == name {
			last, found = v, true
		}
	}
	switch {
	case last.ValueFrom != nil:
		r.warnings = append(r.warnings, w.where+" has valueFrom: what it will hold is not known when the pod is made, and does not count; give it a value")
		return w, false
	case strings.Contains(last.Value, "$("):
		r.warnings = append(r.warnings, w.where+" refers to another variable: what it will hold is not known when the pod is made, and does not count")
		return w, false
	}
	w.text = last.Value
	return w, found
}

// take reads a value that is there.
func take[T any](r *reader, w written, parse func(written) (T, error)) T {
	value, err := parse(w)
	if err != nil && r.err == nil {
		r.err = err
	}
	return value
}

// containers reads the names of those that are captured. A Namespace speaks for many pods: names of others are left out there, and what is left may be
// nothing, which then counts as nothing said. In a pod's own key the names may be of containers that a webhook is going to add: they stay. Whether
// all are there the ValidatingAdmissionPolicy looks, which comes last.
func containers(w written, pod *corev1.Pod) ([]string, error) {
	names := w.list()
	if len(names) == 0 {
		return nil, w.wrong("names of containers, separated by commas, or in a label by dots")
	}
	if w.place.forAll {
		names = slices.DeleteFunc(names, func(name string) bool {
			return !slices.ContainsFunc(podspec.Lasting(pod), func(c *corev1.Container) bool { return c.Name == name })
		})
	}
	return names, nil
}

// maxFiles bounds how many paths a container may name: they end up in an annotation.
const maxFiles = 64

// files reads the paths that are captured with a container.
func files(w written, pod *corev1.Pod, c *corev1.Container) (paths []string, err error) {
	for _, item := range w.list() {
		if reason := cannotBeCaptured(item, pod, c); reason != "" {
			return nil, fmt.Errorf("%s names %q, which %s; it may name absolute paths, separated by commas", w.where, item, reason)
		}
		if item = path.Clean(item); !slices.Contains(paths, item) {
			paths = append(paths, item)
		}
	}
	if len(paths) > maxFiles {
		return nil, fmt.Errorf("%s names %d paths; it may name %d", w.where, len(paths), maxFiles)
	}
	return paths, nil
}

// cannotBeCaptured says what is wrong with a path; nothing if it may be named.
func cannotBeCaptured(item string, pod *corev1.Pod, c *corev1.Container) (reason string) {
	clean := path.Clean(item)
	switch {
	case !strings.HasPrefix(item, "/"):
		return "is not absolute"
	case slices.Contains(strings.Split(item, "/"), ".."):
		return `goes up by ".."`
	case clean == "/":
		return "is everything"
	case strings.ContainsFunc(item, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "has a control character"
	}
	for _, kernel := range []string{"/proc", "/sys", "/dev"} {
		if within(clean, kernel) {
			return "is of the kernel's: nothing below " + kernel + " can be written back"
		}
	}
	if volume := volumeOf(clean, pod, c); volume != "" {
		return fmt.Sprintf("is in the volume %q, which containers never write: the new pod has it without that", volume)
	}
	return ""
}

// volumeOf returns the name of the volume in which a path of a container is, if that is one which containers do not write.
func volumeOf(clean string, pod *corev1.Pod, c *corev1.Container) string {
	innermost, name := "", ""
	for _, m := range c.VolumeMounts {
		if at := path.Clean("/" + m.MountPath); within(clean, at) && len(at) > len(innermost) {
			innermost, name = at, m.Name
		}
	}
	for _, v := range pod.Spec.Volumes {
		if s := v.VolumeSource; v.Name == name &&
			(s.ConfigMap != nil || s.Secret != nil || s.Projected != nil || s.DownwardAPI != nil || s.Image != nil) {
			return name
		}
	}
	return ""
}

// within tells whether a clean path is a folder or in it.
func within(clean, folder string) bool {
	return clean == folder || folder == "/" || strings.HasPrefix(clean, folder+"/")
}
