package admission

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// labelledJob is a Job with labelled pods, as the API server shows it: with its own defaults.
func labelledJob(change func(*batchv1.Job)) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", Annotations: map[string]string{}}, Spec: batchv1.JobSpec{
		PodReplacementPolicy: new(batchv1.TerminatingOrFailed),
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{keys.CheckpointMode: keys.True}},
			Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "app"}}},
		},
	}}
	if change != nil {
		change(job)
	}
	return job
}

// admitJob does to a Job what the webhook does.
func admitJob(job *batchv1.Job) (warnings []string, err error) {
	asked, err := settings.Resolve(templateOf(job), settings.Namespace{})
	if err != nil {
		return nil, err
	}
	return AdmitJob(job, asked)
}

func TestCapturedPodsOfAJobDoNotCount(t *testing.T) {
	job := labelledJob(nil)
	want := job.DeepCopy()
	want.Spec.PodReplacementPolicy = new(batchv1.Failed)
	want.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:          batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "DisruptionTarget", Status: "True"}},
	}}}
	for range 2 { // it may come by again
		if warnings, err := admitJob(job); err != nil || warnings != nil {
			t.Fatal(warnings, err)
		}
		if diff := cmp.Diff(want, job); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestJobsThatAreLeftAlone(t *testing.T) {
	for name, change := range map[string]func(*batchv1.Job){
		"no label":                func(j *batchv1.Job) { j.Spec.Template.Labels = nil },
		"the label is on the Job": func(j *batchv1.Job) { j.Labels, j.Spec.Template.Labels = j.Spec.Template.Labels, nil },
		"the label says no":       func(j *batchv1.Job) { j.Spec.Template.Labels[keys.CheckpointMode] = keys.False },
		"it opted out":            func(j *batchv1.Job) { j.Annotations[keys.JobFailurePolicy] = keys.JobFailurePolicyKeep },
		"containers that restart": func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure },
		"it has a policy":         func(j *batchv1.Job) { j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{} },
		"an annotation says no": func(j *batchv1.Job) {
			j.Spec.Template.Annotations = map[string]string{keys.CheckpointMode: keys.False}
		},
		"its pods are not captured":   func(j *batchv1.Job) { j.Spec.Template.Spec.HostNetwork = true },
		"its pods have another class": func(j *batchv1.Job) { j.Spec.Template.Spec.RuntimeClassName = new("kata") },
	} {
		job := labelledJob(change)
		want := job.DeepCopy()
		if warnings, err := admitJob(job); err != nil || warnings != nil {
			t.Errorf("%s: %v %v", name, warnings, err)
		}
		if diff := cmp.Diff(want, job); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func askAboutJob(t *testing.T, job *batchv1.Job) admission.Response {
	t.Helper()
	raw, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	jobs := Jobs{Decoder: admission.NewDecoder(clientgoscheme.Scheme), Namespaces: namespaces(nil, nil)}
	return jobs.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: "default", Object: runtime.RawExtension{Raw: raw},
	}})
}

func TestTheUserIsToldOfAJobsAnnotations(t *testing.T) {
	const refused = `annotation memverge.ai/job-failure-policy is "yes"; it may be "keep"`
	answer := askAboutJob(t, labelledJob(func(j *batchv1.Job) { j.Annotations[keys.JobFailurePolicy] = "yes" }))
	if answer.Allowed || !strings.Contains(answer.Result.Message, refused) {
		t.Errorf("a bad value is answered by %+v", answer)
	}
	answer = askAboutJob(t, labelledJob(func(j *batchv1.Job) {
		j.Spec.Template.Annotations = map[string]string{keys.JobFailurePolicy: keys.JobFailurePolicyKeep}
	}))
	if !answer.Allowed || len(answer.Warnings) != 1 || !strings.Contains(answer.Warnings[0], "belongs into the metadata of the Job") {
		t.Errorf("one in the wrong place is answered by %+v", answer)
	}
}

func TestAJobIsPatchedWhereItHasTo(t *testing.T) {
	var paths []string
	for _, patch := range askAboutJob(t, labelledJob(nil)).Patches {
		paths = append(paths, patch.Operation+" "+patch.Path)
	}
	slices.Sort(paths)
	if diff := cmp.Diff([]string{"add /spec/podFailurePolicy", "replace /spec/podReplacementPolicy"}, paths); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
