package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/util/exec"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// installation is the shop in a cluster in which the operator runs on two nodes.
type installation struct {
	t       *testing.T
	objects []client.Object
	// answers are what pods answer, by their names and what they are asked; a string that begins with ! is what they say when they fail.
	answers map[string]string
	// forbidden are the rights that the user lacks, as pods/exec in checkpoint-agents.
	forbidden []string
	// admits is what admission does with a pod; nil is what it has to do.
	admits func(*corev1.Pod)
	kinds  []string
	logs   map[string]string
	calls  []string
}

func managed(namespace, name, app, container, node string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/name": app}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: container, Args: args}}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func answerOf(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	well := answerOf(t, inspect.Answer{Version: "dev", Checks: []inspect.Check{
		{Name: "clock", Level: inspect.OK, Says: "as that of the API server, to 500ms"},
		{Name: "handler", Level: inspect.OK, Says: "containerd serves transparent-checkpoint"},
	}})
	i := &installation{
		t: t, kinds: []string{"Checkpoint", "CheckpointPolicy", "CheckpointStorageLocation", "RestorePolicy"},
		answers: map[string]string{"manager-a doctor": well, "agent-1 doctor": well, "agent-2 doctor": well},
		logs:    map[string]string{"manager-a": "{\"msg\":\"all is well\"}\n", "agent-1": "x\n", "agent-2": "y\n"},
		objects: []client.Object{
			&appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Namespace: "checkpoint-system", Name: "checkpoint-manager"},
				Status:     appsv1.DeploymentStatus{Replicas: 1, ReadyReplicas: 1, UpdatedReplicas: 1},
			},
			&appsv1.DaemonSet{
				ObjectMeta: metav1.ObjectMeta{Namespace: "checkpoint-agents", Name: "checkpoint-agent"},
				Status:     appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, NumberReady: 2, UpdatedNumberScheduled: 2},
			},
			&coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Namespace: "checkpoint-system", Name: "checkpoint-manager"},
				Spec: coordinationv1.LeaseSpec{
					HolderIdentity: new("manager-a_0123"), RenewTime: &metav1.MicroTime{Time: testNow.Add(-2 * time.Second)}, LeaseDurationSeconds: new(int32(15)),
				},
			},
			&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: keys.RuntimeClass}, Handler: keys.RuntimeClass},
			managed("checkpoint-system", "manager-a", "checkpoint-manager", "manager", "worker-1"),
			managed("checkpoint-agents", "agent-1", "checkpoint-agent", "agent", "worker-1", "--disk-budget=20%"),
			managed("checkpoint-agents", "agent-2", "checkpoint-agent", "agent", "worker-2", "--disk-budget=20%"),
		},
	}
	for _, o := range shop() {
		if node, is := o.(*corev1.Node); is {
			if node.Name == "worker-3" {
				continue
			}
			node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		}
		i.objects = append(i.objects, o)
	}
	return i
}

// object is the one of that kind and name.
func find[O client.Object](i *installation, name string) O {
	i.t.Helper()
	for _, o := range i.objects {
		if found, is := o.(O); is && o.GetName() == name {
			return found
		}
	}
	i.t.Fatalf("there is no %s", name)
	panic("unreachable")
}

// create is what the API server does with a review, and with a pod on trial.
func (i *installation) create(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
	switch o := o.(type) {
	case *authorizationv1.SelfSubjectAccessReview:
		a := o.Spec.ResourceAttributes
		right := a.Verb + " " + a.Resource
		if a.Subresource != "" {
			right += "/" + a.Subresource
		}
		if a.Namespace != "" {
			right += " in " + a.Namespace
		}
		o.Status.Allowed = true
		for _, f := range i.forbidden {
			o.Status.Allowed = o.Status.Allowed && f != right
		}
		return nil
	case *corev1.Pod:
		if i.admits != nil {
			i.admits(o)
		} else {
			o.Spec.RuntimeClassName, o.Annotations = new(keys.RuntimeClass), map[string]string{keys.Effective: "{}"}
		}
		return nil
	}
	return c.Create(ctx, o, options...)
}

// exec answers in the place of a container.
func (i *installation) exec(_ context.Context, pod *corev1.Pod, container string, words []string, out, errOut io.Writer) error {
	i.calls = append(i.calls, fmt.Sprintf("%s/%s %s", pod.Name, container, strings.Join(words, " ")))
	asked := words[2+len(pod.Spec.Containers[0].Args):]
	says, known := i.answers[pod.Name+" "+strings.Join(asked, " ")]
	if text, fails := strings.CutPrefix(says, "!"); fails || !known {
		fmt.Fprintln(errOut, "something before it\n"+text)
		return exec.CodeExitError{Err: errors.New("command terminated with exit code 1"), Code: 1}
	}
	content, end, _ := strings.Cut(says, "\x00") // what is behind it goes to the standard error
	fmt.Fprint(out, content)
	fmt.Fprint(errOut, end)
	return nil
}

// says runs a command there.
func (i *installation) says(words ...string) (out, errOut string, err error) {
	i.t.Helper()
	k := fake.NewClientBuilder().WithScheme(newScheme()).WithObjects(i.objects...).WithInterceptorFuncs(interceptor.Funcs{Create: i.create}).
		WithStatusSubresource(&v1alpha1.Checkpoint{}).Build()
	streams, _, stdout, stderr := genericiooptions.NewTestIOStreams()
	root, c := newRoot(streams)
	c.fake, c.now, c.run = k, func() time.Time { return testNow }, i.exec
	c.server = func() (string, []string, error) { return "v1.37.2", i.kinds, nil }
	c.logs = func(_ context.Context, pod *corev1.Pod, _ string, _ bool) ([]byte, error) {
		text, is := i.logs[pod.Name]
		if !is {
			return nil, errors.New("it has none")
		}
		return []byte(text), nil
	}
	root.SetArgs(append([]string{"--namespace=shop"}, words...))
	err = root.ExecuteContext(i.t.Context())
	return stdout.String(), stderr.String(), err
}
