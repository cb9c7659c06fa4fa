package removal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func ours(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "transparent-checkpoint"}}
}

// foreign is what others have, under names and with labels that could be taken for ours.
func foreign(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "shop"}}
}

func checkpoint(name, state string) *v1alpha1.Checkpoint {
	c := &v1alpha1.Checkpoint{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: name, Finalizers: []string{keys.CheckpointFinalizer, "other/one"}}}
	c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.CheckpointReady, Reason: state, Status: metav1.ConditionFalse}}
	return c
}

func pod(name, node, class string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	if class != "" {
		p.Spec.RuntimeClassName = &class
	}
	return p
}

// deleted has the grace period of a pod end in some time.
func deleted(p *corev1.Pod, in time.Duration) *corev1.Pod {
	end := metav1.NewTime(time.Now().Add(in))
	p.DeletionTimestamp, p.Finalizers = &end, []string{"other/one"}
	p.Annotations = map[string]string{keys.Effective: "{}"}
	return p
}

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:        name,
		Labels:      map[string]string{keys.NodeReady: "true", keys.NodeReady + "-nvidia": "true", keys.NodeClass: "1", "disk": "fast"},
		Annotations: map[string]string{keys.NodeFacts: "{}", "other": "1"},
	}}
}

// installed is a cluster with the operator.
func installed(more ...client.Object) []client.Object {
	return append(more,
		&corev1.Namespace{ObjectMeta: ours("", "checkpoint-system")}, &corev1.Namespace{ObjectMeta: ours("", "checkpoint-agents")},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "jobs", Labels: map[string]string{keys.NamespaceAsks: "true", "team": "blue"}}},
		&appsv1.DaemonSet{ObjectMeta: ours("checkpoint-agents", "checkpoint-agent")}, &appsv1.DaemonSet{ObjectMeta: foreign("shop", "agent")},
		&appsv1.Deployment{ObjectMeta: ours("checkpoint-system", "checkpoint-manager")}, &appsv1.Deployment{ObjectMeta: foreign("shop", "front")},
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: ours("", "transparent-checkpoint")},
		&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: ours("", "transparent-checkpoint")},
		&admissionv1.ValidatingAdmissionPolicy{ObjectMeta: ours("", "transparent-checkpoint-labels")},
		&admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: ours("", "transparent-checkpoint-labels")},
		&rbacv1.ClusterRole{ObjectMeta: ours("", "checkpoint-manager")}, &rbacv1.ClusterRoleBinding{ObjectMeta: ours("", "checkpoint-manager")},
		&rbacv1.ClusterRole{ObjectMeta: ours("", ourselves)}, &rbacv1.ClusterRoleBinding{ObjectMeta: ours("", ourselves)},
		&rbacv1.ClusterRole{ObjectMeta: foreign("", "shop")},
		&apiextensionsv1.CustomResourceDefinition{ObjectMeta: ours("", "checkpoints.checkpoint.memverge.ai")},
		&nodev1.RuntimeClass{ObjectMeta: ours("", keys.RuntimeClass)}, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "kata"}},
		node("a"), node("b"),
	)
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// left names what there is, as KIND/NAME, with the keys that an object has from us.
func left(t *testing.T, c client.Client) (names []string) {
	t.Helper()
	for kind, list := range map[string]client.ObjectList{
		"Namespace": &corev1.NamespaceList{}, "DaemonSet": &appsv1.DaemonSetList{}, "Deployment": &appsv1.DeploymentList{},
		"Mutating": &admissionv1.MutatingWebhookConfigurationList{}, "Validating": &admissionv1.ValidatingWebhookConfigurationList{},
		"Policy": &admissionv1.ValidatingAdmissionPolicyList{}, "PolicyBinding": &admissionv1.ValidatingAdmissionPolicyBindingList{},
		"ClusterRole": &rbacv1.ClusterRoleList{}, "ClusterRoleBinding": &rbacv1.ClusterRoleBindingList{},
		"CRD": &apiextensionsv1.CustomResourceDefinitionList{}, "RuntimeClass": &nodev1.RuntimeClassList{}, "Node": &corev1.NodeList{},
	} {
		if err := c.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		items, err := itemsOf(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			name := kind + "/" + item.GetName()
			for key := range item.GetLabels() {
				if strings.Contains(key, "memverge.ai") {
					name += " " + key
				}
			}
			names = append(names, name)
		}
	}
	return names
}

func itemsOf(list client.ObjectList) (items []client.Object, err error) {
	objects, err := meta.ExtractList(list)
	for _, object := range objects {
		items = append(items, object.(client.Object))
	}
	return items, err
}

const others = "ClusterRole/shop DaemonSet/agent Deployment/front Namespace/jobs Node/a Node/b RuntimeClass/kata"

func TestTheOperatorGoesWithAllThatItIs(t *testing.T) {
	const ready = "Node/b " + keys.NodeReady
	for what, test := range map[string]struct {
		objects []client.Object
		options Options
		stays   string // beside what is of others; our own rights go with the namespace, by an owner
		says    string
		err     string
	}{
		"nothing runs": {},
		"states that are in the bucket, or are none": {
			objects: []client.Object{checkpoint("a", v1alpha1.StateCompleted), checkpoint("b", v1alpha1.StateFailed), checkpoint("c", v1alpha1.StateExpired)},
		},
		"a pod of ours runs": {
			objects: []client.Object{pod("work", "b", keys.RuntimeClass), pod("other", "a", "kata"), pod("plain", "a", "")},
			stays:   "RuntimeClass/transparent-checkpoint " + ready, says: "kubectl delete runtimeclass transparent-checkpoint",
		},
		"a pod of a variant runs": {
			objects: []client.Object{pod("work", "b", keys.RuntimeClass+"-nvidia")},
			stays:   "RuntimeClass/transparent-checkpoint " + ready, says: "as 1 pods run with it: jobs/work",
		},
		"a state is under way": {
			objects: []client.Object{checkpoint("a", v1alpha1.StateUploading)},
			err:     "states are not in the bucket after 20ms: jobs/a; see why with kubectl describe",
		},
		"a state is under way, and may be left": {
			objects: []client.Object{checkpoint("a", v1alpha1.StateDumping)}, options: Options{LeaveStates: true},
			says: "these stay on the disks of their nodes, in /var/lib/checkpoint: jobs/a",
		},
		"a pod is being captured": {
			objects: []client.Object{deleted(pod("work", "b", keys.RuntimeClass), time.Minute)},
			err:     "states are not in the bucket after 20ms: pod jobs/work",
		},
		"a pod should have ended long ago": {
			objects: []client.Object{deleted(pod("work", "b", keys.RuntimeClass), -2*endingMargin)},
			stays:   "RuntimeClass/transparent-checkpoint " + ready,
		},
		"a pod that is not ours is deleted": {objects: []client.Object{deleted(pod("plain", "b", ""), time.Minute)}},
		"Checkpoints are kept":              {options: Options{KeepCRDs: true}, stays: "CRD/checkpoints.checkpoint.memverge.ai"},
		"Helm removes the rest": {
			options: Options{KeepObjects: true, KeepCRDs: true},
			stays: "CRD/checkpoints.checkpoint.memverge.ai ClusterRole/checkpoint-manager ClusterRoleBinding/checkpoint-manager " +
				"Namespace/checkpoint-agents Namespace/checkpoint-system Policy/transparent-checkpoint-labels PolicyBinding/transparent-checkpoint-labels",
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(installed(test.objects...)...).Build()
			var said strings.Builder
			r := Removal{Options: test.options, Client: c, Out: &said, pause: time.Millisecond}
			r.Namespace, r.Patience = "checkpoint-system", 20*time.Millisecond
			err := r.Run(t.Context())
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || !errors.Is(err, ErrStatesLeft) {
					t.Errorf("it says %v, want %q", err, test.err)
				}
				if all := fmt.Sprint(left(t, c)); !strings.Contains(all, "DaemonSet/checkpoint-agent") || !strings.Contains(all, "Deployment/checkpoint-manager") ||
					!strings.Contains(all, "Mutating/transparent-checkpoint") {
					t.Errorf("the operator, which brings the states to the bucket and goes on, is not whole: %s", all)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said.String(), test.says) {
				t.Errorf("it says\n%swant %q", said.String(), test.says)
			}
			compare(t, c, test.stays)
		})
	}
}

// compare tells what of ours is there and should not be, and the other way round.
func compare(t *testing.T, c client.Client, stays string) {
	t.Helper()
	want := map[string]bool{"ClusterRole/" + ourselves: true, "ClusterRoleBinding/" + ourselves: true}
	node := strings.Contains(stays, "Node/b")
	for _, name := range strings.Fields(others + " " + strings.Replace(stays, "Node/b "+keys.NodeReady, "", 1)) {
		want[name] = true
	}
	got := map[string]bool{}
	for _, name := range left(t, c) {
		if strings.HasPrefix(name, "Node/b ") && node {
			name = "Node/b"
		}
		got[name] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is there (-want +got)\n%s", diff)
	}
	list := &v1alpha1.CheckpointList{}
	if err := c.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for _, item := range list.Items {
		if diff := cmp.Diff([]string{"other/one"}, item.Finalizers); diff != "" {
			t.Errorf("finalizers of %s (-want +got)\n%s", item.Name, diff)
		}
	}
}

// TestARemovalThatIsKilledGoesOn: at each write in turn.
func TestARemovalThatIsKilledGoesOn(t *testing.T) {
	killed := errors.New("killed")
	for at := range 60 {
		writes := 0
		counted := func() error {
			writes++
			if writes == at+1 {
				return killed
			}
			return nil
		}
		c := fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(installed(checkpoint("a", v1alpha1.StateCompleted))...).
			WithInterceptorFuncs(interceptor.Funcs{
				Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
					return errors.Join(counted(), c.Delete(ctx, object, options...))
				},
				Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
					return errors.Join(counted(), c.Patch(ctx, object, patch, options...))
				},
			}).Build()
		r := Removal{Client: c, Out: &strings.Builder{}, pause: time.Millisecond}
		r.Namespace, r.Patience = "checkpoint-system", 20*time.Millisecond
		err := r.Run(t.Context())
		if err == nil { // it has not that many
			if at < 15 {
				t.Errorf("it takes %d writes alone", at)
			}
			return
		}
		if !errors.Is(err, killed) {
			t.Fatal(err)
		}
		if err := r.Run(t.Context()); err != nil {
			t.Fatalf("killed at write %d, then: %s", at+1, err)
		}
		compare(t, c, "")
	}
	t.Error("it never ends")
}
