package checkpoint

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestLabelsFollowTheSource(t *testing.T) {
	set := func(above string) *appsv1.ReplicaSet {
		s := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-1", UID: "set"}}
		if above != "" {
			s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "deployment", Controller: new(true)}}
		}
		return s
	}
	ofSet := &v1alpha1.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-1", UID: "set"}
	ofJob := &v1alpha1.Owner{APIVersion: "batch/v1", Kind: "Job", Name: "work", UID: "job"}
	right := map[string]string{keys.Lineage: "l", keys.PodUID: "p", keys.Workload: "job"}
	with := func(labels ...string) map[string]string { // and those that are always there
		all := map[string]string{keys.Lineage: "l", keys.PodUID: "p"}
		for i := 0; i < len(labels); i += 2 {
			all[labels[i]] = labels[i+1]
		}
		return all
	}
	changed := maps.Clone(right)
	changed[keys.Lineage], changed["mine"] = "other", "x"
	for what, test := range map[string]struct {
		owner     *v1alpha1.Owner
		labels    map[string]string
		set       client.Object
		want      map[string]string
		untouched bool
	}{
		"they are right":                   {owner: ofJob, labels: right, want: right, untouched: true},
		"somebody took them away":          {owner: ofJob, want: right},
		"somebody changed one, added one":  {owner: ofJob, labels: changed, want: with(keys.Workload, "job", "mine", "x")},
		"a Deployment is above":            {owner: ofSet, set: set("web"), want: with(keys.Workload, "deployment")},
		"a ReplicaSet alone":               {owner: ofSet, set: set(""), want: with(keys.Workload, "set")},
		"a ReplicaSet that is gone":        {owner: ofSet, want: with()},
		"the Deployment is known for long": {owner: ofSet, labels: map[string]string{keys.Workload: "d"}, want: with(keys.Workload, "d")},
	} {
		t.Run(what, func(t *testing.T) {
			c := &v1alpha1.Checkpoint{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", Labels: maps.Clone(test.labels)},
				Status:     v1alpha1.CheckpointStatus{Source: &v1alpha1.CheckpointSource{PodUID: "p", Node: "n", Lineage: "l", Owner: test.owner}},
			}
			objects := []client.Object{c}
			if test.set != nil {
				objects = append(objects, test.set)
			}
			kept := newClient(t, objects...)
			r := &Reconciler{Client: kept, Live: kept}
			read := func() *v1alpha1.Checkpoint {
				now := &v1alpha1.Checkpoint{}
				if err := kept.Get(t.Context(), client.ObjectKeyFromObject(c), now); err != nil {
					t.Fatal(err)
				}
				return now
			}
			before := read()
			if err := r.label(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			after := read()
			if diff := cmp.Diff(test.want, after.Labels); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if untouched := before.ResourceVersion == after.ResourceVersion; untouched != test.untouched {
				t.Errorf("nothing was written: %t", untouched)
			}
		})
	}
}
