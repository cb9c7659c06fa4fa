package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

// unwell has something of everything be wrong.
func unwell(i *installation) {
	find[*appsv1.Deployment](i, "checkpoint-manager").Status = appsv1.DeploymentStatus{Replicas: 2, ReadyReplicas: 1, UpdatedReplicas: 2}
	find[*appsv1.DaemonSet](i, "checkpoint-agent").Status.NumberReady = 1
	find[*coordinationv1.Lease](i, "checkpoint-manager").Spec.RenewTime.Time = testNow.Add(-time.Minute)
	find[*nodev1.RuntimeClass](i, keys.RuntimeClass).Handler = "runc"
	find[*corev1.ConfigMap](i, operator.ConfigMap).Data = map[string]string{operator.Paused: "perhaps"}
	location := find[*v1alpha1.CheckpointStorageLocation](i, "main")
	location.Status.Conditions[0] = metav1.Condition{Type: v1alpha1.LocationAvailable, Status: metav1.ConditionFalse, Reason: v1alpha1.LocationAccessDenied,
		Message: "the service does not know the access key"}
	location.Spec.Role = v1alpha1.RoleNamed
	i.admits = func(*corev1.Pod) {}
	i.kinds = i.kinds[:3]
	i.answers["agent-1 doctor"] = answerOf(i.t, inspect.Answer{Version: "v0.1.0", Checks: []inspect.Check{
		{Name: "clock", Level: inspect.Warn, Says: "12s ahead of that of the API server, to 500ms", Mend: "set the clocks by NTP"},
		{Name: "handler", Level: inspect.Fail, Says: "containerd does not serve transparent-checkpoint: labelled pods cannot start on this node",
			Mend: "the agent mends it within a minute, or says why not: kubectl logs -n checkpoint-agents agent-1"},
		{Name: "disk", Level: inspect.OK, Says: "100Gi of 200Gi are free; states take 0"},
	}})
	i.answers["agent-2 doctor"] = "!exec: no such program"
	delete(find[*corev1.Node](i, "worker-2").Labels, keys.NodeReady)
	down := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-4"}}
	down.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Message: "Kubelet stopped posting node status."}}
	bare := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-5"}}
	bare.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	windows := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "windows-1", Labels: map[string]string{corev1.LabelOSStable: "windows"}}}
	i.objects = append(i.objects, down, bare, windows)
	i.forbidden = []string{"list nodes", "create checkpoints in shop"}
}

func TestWhatDoctorSays(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*installation)
		words  string
		unwell bool
	}{
		"doctor-well.txt":   {words: "doctor"},
		"doctor-well.json":  {words: "doctor -o json"},
		"doctor-wide.txt":   {words: "doctor -o wide --node worker-2"},
		"doctor-unwell.txt": {change: unwell, words: "doctor", unwell: true},
		"doctor-nothing.txt": {words: "doctor", unwell: true, change: func(i *installation) {
			i.objects, i.kinds, i.admits = []client.Object{find[*corev1.Node](i, "worker-1")}, nil, func(*corev1.Pod) {}
		}},
		"doctor-without-rights.txt": {words: "doctor", change: func(i *installation) {
			i.forbidden = []string{"create pods/exec in checkpoint-system", "create pods/exec in checkpoint-agents"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			i := newInstallation(t)
			if test.change != nil {
				test.change(i)
			}
			out, errOut, err := i.says(strings.Fields(test.words)...)
			if errors.Is(err, errUnwell) != test.unwell || err != nil && !test.unwell || errOut != "" {
				t.Fatalf("%s: %v, %s", test.words, err, errOut)
			}
			golden(t, name, out)
		})
	}
}

func TestDoctorAsksWithTheArgumentsOfThePods(t *testing.T) {
	i := newInstallation(t)
	find[*corev1.Pod](i, "manager-a").Spec.Containers[0].Command = []string{"/else/manager", "--namespace=ours"}
	i.answers["manager-a --namespace=ours doctor"] = i.answers["manager-a doctor"]
	if _, _, err := i.says("doctor", "--node", "worker-1"); err != nil {
		t.Fatal(err)
	}
	said := strings.Join(i.calls, "\n")
	for _, want := range []string{"agent-1/agent /agent inspect --disk-budget=20% doctor", "manager-a/manager /else/manager inspect --namespace=ours doctor"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not call %s, but\n%s", want, said)
		}
	}
	if strings.Contains(said, "agent-2") {
		t.Errorf("it asks of another node: %s", said)
	}
	if _, _, err := i.says("doctor", "--node", "nobody"); err == nil || err.Error() != `there is no node "nobody"` {
		t.Errorf("of a node that is not there it says %v", err)
	}
}
