package settings

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/criu"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/periodic"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Settings are what the keys of a pod come to. The zero value is that of a pod without any.
type Settings struct {
	// Checkpoint is true for a pod that is to be captured and restored, StartsCold for one that is not to be restored.
	Checkpoint, StartsCold bool
	// RestoreFrom is the name of the Checkpoint that the pod begins from; empty where it names none.
	RestoreFrom string
	// Containers are the names of those that are captured; none where no key says which.
	Containers []string
	// VolumeSizeBytes bounds what a capture may take; 0 is no bound.
	VolumeSizeBytes           int64
	KeepPreStop, AllowIOUring bool
	// StorageVolume is the volume of the pod in which its states are kept; nil where no key names one.
	StorageVolume *Volume
	// Interval is how often the pod is captured while it goes on, as it was written; empty where no key says so.
	Interval string
	// Hooks are those that keys ask for, by their phases: one, or none where a key says that there is none. A phase of which no key says anything is not there.
	Hooks map[capture.HookPhase][]capture.Command
	// Of has each container that runs as long as the pod, by its name.
	Of map[string]Container
	// From says of each key that says something where the value that counts stands.
	From map[string]string
	// Warnings are for whoever makes the pod.
	Warnings []string
}

// Container is what counts for one container.
type Container struct {
	capture.ContainerSettings
	Diagnosis, TCPEstablished bool
}

// Resolve finds what the keys of a pod come to, which may be the template of pods. An error names a key of its own whose value means nothing, and says
// what it may be. Such a value at the Namespace is a warning, and the next place counts.
func Resolve(pod *corev1.Pod, namespace Namespace) (Settings, error) {
	r := reader{places: placesOf(pod, namespace)}
	s := Settings{
		Checkpoint:      resolve(&r, keys.CheckpointMode, boolean),
		StartsCold:      isFalse(&r, keys.RestoreMode),
		RestoreFrom:     restoreFrom(&r),
		Containers:      resolve(&r, keys.CheckpointContainers, func(w written) ([]string, error) { return containers(w, pod) }),
		VolumeSizeBytes: resolve(&r, keys.CheckpointVolumeSize, bytes),
		KeepPreStop:     resolve(&r, keys.KeepPreStop, boolean),
		AllowIOUring:    resolve(&r, keys.IOUring, allow),
		StorageVolume:   resolve(&r, keys.CheckpointStorageVolume, func(w written) (*Volume, error) { return volume(w, pod) }),
		Interval:        resolve(&r, keys.CheckpointInterval, interval),
		Hooks:           r.hooks(),
		Of:              map[string]Container{},
	}
	if class := resolve(&r, keys.CheckpointStorageClass, asItIs); class.text != "" {
		r.warnings = append(r.warnings, fmt.Sprintf("%s has no meaning here: states go to the bucket of a CheckpointStorageLocation", class.where))
	}
	forAll := Container{Diagnosis: resolve(&r, keys.CheckpointDiagnosis, boolean)}
	forAll.setCheckpointOptions(resolve(&r, keys.CheckpointOptions, optionsOf(criu.Dump)))
	forAll.RestoreOptions = resolve(&r, keys.RestoreOptions, optionsOf(criu.Restore))
	for _, c := range podspec.Lasting(pod) {
		s.Of[c.Name] = r.container(pod, c, forAll)
	}
	if s.RestoreFrom != "" && s.StartsCold {
		r.warnings = append(r.warnings, fmt.Sprintf("%s does nothing here: the pod starts cold, as %s says", r.from[keys.RestoreFrom], r.from[keys.RestoreMode]))
	}
	if own := r.shortest(pod); own != "" {
		s.Interval = own
	}
	s.From, s.Warnings = r.from, r.warnings
	return s, r.err
}

// Selection says which containers are captured: by the key, or else by the CheckpointPolicy of the pod, nil if it has none. It is nil when neither says.
func (s Settings) Selection(policy *v1alpha1.CheckpointPolicy) *v1alpha1.ContainerSelection {
	switch {
	case len(s.Containers) > 0:
		return &v1alpha1.ContainerSelection{Include: s.Containers}
	case policy != nil:
		return policy.Spec.Containers
	}
	return nil
}

// AddTo writes what was asked for into what the runtime reads, which has the names of the captured containers; also the hooks that the CheckpointPolicy of
// the pod, nil if it has none, asks for. What is asked for a pod as a whole counts when one of them does.
func (s Settings) AddTo(effective *capture.Settings, policy *v1alpha1.CheckpointPolicy) {
	s.addHooks(effective, policy)
	effective.VolumeSizeBytes, effective.AllowIOUring = s.VolumeSizeBytes, s.AllowIOUring
	for _, name := range effective.Containers {
		c := s.Of[name]
		effective.Diagnosis = effective.Diagnosis || c.Diagnosis
		effective.TCPEstablished = effective.TCPEstablished || c.TCPEstablished
		if len(c.CheckpointOptions)+len(c.RestoreOptions)+len(c.Files) == 0 {
			continue
		}
		if effective.OfContainers == nil {
			effective.OfContainers = map[string]capture.ContainerSettings{}
		}
		effective.OfContainers[name] = c.ContainerSettings
	}
}

// setCheckpointOptions takes out what is for the pod as a whole.
func (c *Container) setCheckpointOptions(words []string) {
	c.TCPEstablished = slices.Contains(words, criu.TCPEstablished)
	c.CheckpointOptions = slices.DeleteFunc(words, func(word string) bool { return word == criu.TCPEstablished })
}

func boolean(w written) (bool, error) {
	if w.text != keys.True && w.text != keys.False {
		return false, w.wrong(fmt.Sprintf("%q or %q", keys.True, keys.False))
	}
	return w.text == keys.True, nil
}

// isFalse tells of a key that takes "true" and "false" whether it says "false"; without it nothing does.
func isFalse(r *reader, key string) bool {
	return resolve(r, key, func(w written) (bool, error) {
		is, err := boolean(w)
		return err == nil && !is, err
	})
}

func interval(w written) (string, error) {
	if _, err := periodic.ParseInterval(w.text); err != nil {
		return "", w.wrong(fmt.Sprintf("a duration of %s or more, as 15m, or 0 for none", periodic.Least))
	}
	return w.text, nil
}

func allow(w written) (bool, error) {
	if w.text != keys.IOUringAllow {
		return false, w.wrong(fmt.Sprintf("%q", keys.IOUringAllow))
	}
	return true, nil
}

func asItIs(w written) (written, error) { return w, nil }

// bytes reads the bound on what a capture may take.
func bytes(w written) (int64, error) {
	size, err := resource.ParseQuantity(w.text)
	if err != nil || size.Sign() <= 0 {
		return 0, w.wrong("a quantity of bytes above 0, as 2Gi")
	}
	return size.Value(), nil
}

func optionsOf(phase criu.Phase) func(written) ([]string, error) {
	return func(w written) ([]string, error) { return options(phase, w) }
}

func options(phase criu.Phase, w written) ([]string, error) {
	words, err := criu.ParseOptions(phase, w.commas())
	if err != nil {
		return nil, fmt.Errorf("%s %w", w.where, err)
	}
	return words, nil
}
