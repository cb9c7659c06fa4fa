package admission

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

func TestANamespaceAsksForItsPods(t *testing.T) {
	asks := settings.Namespace{Name: "ns", Annotations: map[string]string{keys.CheckpointMode: keys.True}}
	cold := settings.Namespace{Name: "ns", Labels: map[string]string{keys.CheckpointMode: keys.True, keys.RestoreMode: keys.False}}
	for name, test := range map[string]struct {
		namespace   settings.Namespace
		change      func(*corev1.Pod)
		isProtected bool
		labels      map[string]string
	}{
		"a pod that says nothing": {namespace: asks, isProtected: true, labels: map[string]string{keys.CheckpointMode: keys.True}},
		"which is not to be restored": {namespace: cold, isProtected: true,
			labels: map[string]string{keys.CheckpointMode: keys.True, keys.RestoreMode: keys.False}},
		"a pod that wants to be restored all the same": {namespace: cold, isProtected: true,
			change: func(p *corev1.Pod) { p.Annotations = map[string]string{keys.RestoreMode: keys.True} },
			labels: map[string]string{keys.CheckpointMode: keys.True}},
		"a pod whose label says no": {namespace: asks, change: func(p *corev1.Pod) { p.Labels = map[string]string{keys.CheckpointMode: keys.False} },
			labels: map[string]string{keys.CheckpointMode: keys.False}},
		"a pod whose annotation says no": {namespace: asks,
			change: func(p *corev1.Pod) { p.Annotations = map[string]string{keys.CheckpointMode: keys.False} }},
		"a pod whose annotation says no, and whose label yes": {
			change: func(p *corev1.Pod) {
				p.Labels, p.Annotations = map[string]string{keys.CheckpointMode: keys.True}, map[string]string{keys.CheckpointMode: keys.False}
			},
			labels: map[string]string{keys.CheckpointMode: keys.True}},
		"a pod with an annotation alone": {isProtected: true,
			change: func(p *corev1.Pod) { p.Annotations = map[string]string{keys.CheckpointMode: keys.True} },
			labels: map[string]string{keys.CheckpointMode: keys.True}},
		"a pod that cannot be captured, of which the manager has to tell": {namespace: asks,
			change: func(p *corev1.Pod) { p.Spec.HostNetwork = true }, labels: map[string]string{keys.CheckpointMode: keys.True}},
		"a picture of a pod": {namespace: asks,
			change: func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }},
	} {
		t.Run(name, func(t *testing.T) {
			pod := labelled(func(p *corev1.Pod) { p.Labels = nil })
			if test.change != nil {
				test.change(pod)
			}
			for range 2 { // it may come by again
				if err := admitIn(pod, test.namespace, nil); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.labels, pod.Labels); diff != "" || podspec.IsProtected(pod) != test.isProtected {
					t.Errorf("protected: %t; labels (-want +got)\n%s", podspec.IsProtected(pod), diff)
				}
			}
		})
	}
}

// A cache that has not heard yet of what the API server knows costs no pod its protection.
func TestWhatANamespaceSaysIsReadAnewWhenItMatters(t *testing.T) {
	yes, no := map[string]string{keys.CheckpointMode: keys.True}, map[string]string(nil)
	plain, refused := labelled(func(p *corev1.Pod) { p.Labels = no }), labelled(func(p *corev1.Pod) { p.Labels[keys.CheckpointMode] = keys.False })
	operators := namespaces(yes, yes)
	operators.Operator = "default"
	for name, test := range map[string]struct {
		pod        *corev1.Pod
		namespaces Namespaces
		namespace  string
		want       bool
		warnings   int
	}{
		"the cache knows":                   {pod: plain, namespaces: namespaces(yes, no), want: true},
		"the cache is behind":               {pod: plain, namespaces: namespaces(no, yes), want: true},
		"the pod says no":                   {pod: refused, namespaces: namespaces(yes, yes)},
		"nobody asks":                       {pod: plain, namespaces: namespaces(no, no)},
		"it is not there":                   {pod: labelled(nil), namespaces: namespaces(yes, yes), namespace: "other", want: true, warnings: 1},
		"it is the operator's":              {pod: plain, namespaces: operators},
		"it is not there, and nobody asked": {pod: plain, namespaces: namespaces(yes, yes), namespace: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.namespace == "" {
				test.namespace = "default"
			}
			raw, err := json.Marshal(test.pod)
			if err != nil {
				t.Fatal(err)
			}
			scheme := runtime.NewScheme()
			if err := v1alpha1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			pods := Pods{
				Decoder: admission.NewDecoder(clientgoscheme.Scheme), Namespaces: test.namespaces, Policies: fake.NewClientBuilder().WithScheme(scheme).Build(),
			}
			answer := pods.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Namespace: test.namespace, Object: runtime.RawExtension{Raw: raw},
			}})
			patch, err := json.Marshal(answer.Patches)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(patch), "runtimeClassName"); !answer.Allowed || got != test.want || len(answer.Warnings) != test.warnings {
				t.Errorf("protected: %t; %+v", got, answer.AdmissionResponse)
			}
		})
	}
}

func TestAJobInANamespaceThatAsks(t *testing.T) {
	jobs := Jobs{Decoder: admission.NewDecoder(clientgoscheme.Scheme), Namespaces: namespaces(map[string]string{keys.CheckpointMode: keys.True}, nil)}
	for name, test := range map[string]struct {
		change func(*batchv1.Job)
		want   bool
	}{
		"its pods say nothing": {func(j *batchv1.Job) { j.Spec.Template.Labels = nil }, true},
		"its pods say no":      {func(j *batchv1.Job) { j.Spec.Template.Labels[keys.CheckpointMode] = keys.False }, false},
		"what of its pods is captured has no obstacle": {func(j *batchv1.Job) {
			j.Spec.Template.ObjectMeta = metav1.ObjectMeta{Annotations: map[string]string{keys.CheckpointContainers: "app"}}
			j.Spec.Template.Spec.Containers = append(j.Spec.Template.Spec.Containers, corev1.Container{Name: "gpu",
				Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "gpu"}}}})
		}, true},
	} {
		raw, err := json.Marshal(labelledJob(test.change))
		if err != nil {
			t.Fatal(err)
		}
		answer := jobs.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
			Namespace: "default", Object: runtime.RawExtension{Raw: raw},
		}})
		if !answer.Allowed || (len(answer.Patches) > 0) != test.want {
			t.Errorf("%s: %+v", name, answer.AdmissionResponse)
		}
	}
}
