package admission

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// machine is a ready node whose agent has said what it is.
func machine(t *testing.T, name, instructions string) (*corev1.Node, string) {
	t.Helper()
	facts := compat.Facts{Architecture: "amd64", Kernel: "6.1", PageSize: 4096, Instructions: instructions}
	text, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{keys.NodeReady: keys.True, keys.NodeClass: facts.Class()}, Annotations: map[string]string{keys.NodeFacts: string(text)},
	}}, facts.Class()
}

func TestANewPodPrefersTheNodesOnWhichItCanGoOn(t *testing.T) {
	old, _ := machine(t, "old", "avx")
	modern, modernClass := machine(t, "modern", "avx avx512f")
	newest, newestClass := machine(t, "newest", "amx avx avx512f")
	source := labelled(func(p *corev1.Pod) {
		p.Namespace, p.Name, p.UID, p.Spec.NodeName = "ns", "p", "one", "modern"
		p.Spec.RuntimeClassName, p.Annotations = new(keys.RuntimeClass), map[string]string{keys.Effective: "{}"}
	})
	leaving := source.DeepCopy()
	leaving.DeletionTimestamp, leaving.Finalizers = new(metav1.Now()), []string{"test/kept"}
	capturedOn := func(instructions string) *v1alpha1.Checkpoint {
		c, s := lineage.TerminationCheckpoint(source)
		c.Status = v1alpha1.CheckpointStatus{
			Source: &s, CaptureTime: new(metav1.Now()), Conditions: []metav1.Condition{{Type: v1alpha1.CheckpointCaptured, Status: metav1.ConditionTrue}},
			Machine: &v1alpha1.CheckpointMachine{Architecture: "amd64", Kernel: "6.1", PageSizeBytes: 4096, Instructions: instructions},
		}
		return c
	}
	unknown := capturedOn("")
	unknown.Status.Machine = nil
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	golden := capturedOn("avx512f") // of another pod
	golden.Name, golden.Labels[keys.Lineage], golden.Status.Source.Lineage = "golden", "another", "another"
	for name, test := range map[string]struct {
		there []client.Object
		names string
		want  []string
	}{
		"nothing to restore":              {there: []client.Object{old, modern}},
		"all nodes do":                    {there: []client.Object{old, modern, capturedOn("avx")}},
		"some do":                         {there: []client.Object{old, modern, newest, capturedOn("avx512f")}, want: []string{modernClass, newestClass}},
		"none does":                       {there: []client.Object{old, modern, capturedOn("sse5")}},
		"what is being captured":          {there: []client.Object{old, modern, newest, leaving}, want: []string{modernClass, newestClass}},
		"there is one class of nodes":     {there: []client.Object{old, capturedOn("avx512f")}},
		"a Checkpoint without its facts":  {there: []client.Object{old, modern, unknown}},
		"it can go on at every old place": {there: []client.Object{old, newest, leaving}},
		"what it names":                   {there: []client.Object{old, modern, golden}, names: "golden", want: []string{modernClass}},
		"what another names":              {there: []client.Object{old, modern, golden}},
	} {
		t.Run(name, func(t *testing.T) {
			reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(test.there...).Build()
			pod := labelled(func(p *corev1.Pod) { p.Namespace, p.Name = "ns", "p" })
			if test.names != "" {
				pod.Annotations = map[string]string{keys.RestoreFrom: test.names}
			}
			for range 2 { // admission may be asked again
				if err := (Placement{Reader: reader, Now: time.Now}).Prefer(t.Context(), pod); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			if a := pod.Spec.Affinity; a != nil {
				terms := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
				if len(terms) != 1 || terms[0].Weight != 100 {
					t.Fatalf("the wishes are %v", terms)
				}
				got = terms[0].Preference.MatchExpressions[0].Values
			}
			sortStrings := cmp.Transformer("sorted", func(in []string) map[string]bool {
				all := map[string]bool{}
				for _, s := range in {
					all[s] = true
				}
				return all
			})
			if diff := cmp.Diff(test.want, got, sortStrings); diff != "" {
				t.Errorf("classes (-want +got)\n%s", diff)
			}
		})
	}
}
