package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/builder"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// impersonated is somebody who may do all that RBAC decides about, with a token of that node.
func impersonated(user, node string) rest.ImpersonationConfig {
	who := rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters"}}
	if node != "" {
		who.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {node}}
	}
	return who
}

// managing speaks to the API server as the manager, which may write what is reserved.
func managing() *rest.Config {
	config := rest.CopyConfig(shared.Config)
	config.Impersonate = impersonated(theManager, "")
	return config
}

func clientOf(t *testing.T, user, node string) *kubernetes.Clientset {
	t.Helper()
	config := rest.CopyConfig(shared.Config)
	config.Impersonate = impersonated(user, node)
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	theManager = "system:serviceaccount:checkpoint-system:checkpoint-manager"
	theAgent   = "system:serviceaccount:checkpoint-agents:checkpoint-agent"
)

func TestTheAnnotationThatTheRuntimeObeysIsReserved(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	forged := map[string]string{keys.Effective: `{"schemaVersion":1}`}
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if _, err := tryPod(t, ns, nil, forged); err == nil {
			return errors.New("a pod with the reserved annotation was taken")
		}
		return nil
	})
	_, err := tryPod(t, ns, nil, forged)
	checkAnswer(t, err, `annotation memverge.ai/effective is reserved; to have the pod captured, give it the label memverge.ai/checkpoint-mode: "true" instead`)
	_, err = tryPod(t, ns, map[string]string{keys.CheckpointMode: keys.True}, forged)
	checkAnswer(t, err, "")

	pod := builder.MakePod(ns, "web").Obj()
	pod.Labels, pod.Annotations, pod.Spec.AutomountServiceAccountToken = map[string]string{keys.CheckpointMode: keys.True}, forged, new(false)
	if pod, err = shared.Client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	patch := func(annotations map[string]string) error {
		_, err := shared.Client.CoreV1().Pods(ns).Patch(t.Context(), pod.Name, types.MergePatchType, metadataPatch(nil, annotations), dryRunPatch)
		return err
	}
	checkAnswer(t, patch(map[string]string{keys.Effective: `{"schemaVersion":2}`}), "was written when the pod was made, and may not change")
	checkAnswer(t, patch(map[string]string{keys.Effective: ""}), "was written when the pod was made, and may not change")
	checkAnswer(t, patch(map[string]string{"a": "b"}), "")
}

var dryRunPatch = metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}

func TestTheConditionsOfPodsAreReserved(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	pod := builder.MakePod(ns, "web").Node("a").Obj()
	pod.Annotations, pod.Spec.AutomountServiceAccountToken = nil, new(false)
	if _, err := shared.Client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	say := func(c *kubernetes.Clientset, kind, status string, dry bool) error {
		patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":%q,"status":%q}]}}`, kind, status)
		options := metav1.PatchOptions{}
		if dry {
			options = dryRunPatch
		}
		_, err := c.CoreV1().Pods(ns).Patch(t.Context(), pod.Name, types.StrategicMergePatchType, patch, options, "status")
		return err
	}
	const refused = "may be written by checkpoint-manager and checkpoint-agent alone"
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if say(shared.Client, keys.Restored, "True", true) == nil {
			return errors.New("anybody may say that a pod was restored")
		}
		return nil
	})
	checkRights(t, say(shared.Client, keys.Checkpointable, "True", true), refused)
	checkRights(t, say(clientOf(t, theManager, ""), keys.Checkpointable, "True", true), "")
	checkRights(t, say(clientOf(t, theAgent, "b"), keys.Restored, "True", true), `the checkpoint-agent of node "b" may change nothing of node "a"`)
	checkRights(t, say(clientOf(t, theAgent, ""), keys.Restored, "True", true), `the checkpoint-agent of node "" may change nothing of node "a"`)
	checkRights(t, say(clientOf(t, theAgent, "a"), keys.Restored, "True", false), "")
	checkRights(t, say(shared.Client, "Ready", "True", true), "")
	checkRights(t, say(shared.Client, keys.Restored, "False", true), refused)
	_, err := shared.Client.CoreV1().Pods(ns).Patch(t.Context(), pod.Name, types.JSONPatchType, []byte(`[{"op":"remove","path":"/status/conditions"}]`),
		dryRunPatch, "status")
	checkRights(t, err, refused)
}

// checkRights wants it forbidden with those words; with none it wants it allowed.
func checkRights(t *testing.T, err error, refused string) {
	t.Helper()
	if refused == "" && err != nil || refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), refused)) {
		t.Errorf("the answer is %v; wanted: %q", err, refused)
	}
}

func TestAnAgentChangesItsOwnNodeAlone(t *testing.T) {
	name := namespace(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": "fast"}}}
	if _, err := shared.Client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.Client.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	try := func(of string, patch string) error {
		_, err := clientOf(t, theAgent, of).CoreV1().Nodes().Patch(t.Context(), name, types.MergePatchType, []byte(patch), dryRunPatch)
		return err
	}
	ours, facts := `{"metadata":{"labels":{"memverge.ai/checkpoint-ready":"true"}}}`, `{"metadata":{"annotations":{"memverge.ai/checkpoint-node-facts":"{}"}}}`
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if try("another", ours) == nil {
			return errors.New("an agent may label another node")
		}
		return nil
	})
	checkAnswer(t, try(name, ours), "")
	checkAnswer(t, try(name, facts), "")
	for what, patch := range map[string]string{
		"another label": `{"metadata":{"labels":{"disk":"slow"}}}`, "one that is taken away": `{"metadata":{"labels":{"disk":null}}}`,
		"an annotation": `{"metadata":{"annotations":{"a":"b"}}}`, "a taint": `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`,
	} {
		t.Run(what, func(t *testing.T) { checkRights(t, try(name, patch), "may change nothing of its node but") })
	}
}

// What a state is and who has it is written by who has it, whatever a role says: a forged source would lead an agent to another pod's state.
func TestTheStatusOfCheckpointsIsReserved(t *testing.T) {
	ns := namespace(t)
	made := create(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, nil)
	allow(t, ns, "jane", "jane", rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}})
	node := func(name string) *v1alpha1.CheckpointSource {
		source := newSource()
		source.Node = name
		return source
	}
	claimOf := func(name string) *v1alpha1.CheckpointClaim {
		claim := newClaim(v1alpha1.ClaimClaimed)
		claim.Node = name
		return claim
	}
	write := func(who rest.ImpersonationConfig, status v1alpha1.CheckpointStatus, dry bool) error {
		config := rest.CopyConfig(shared.Config)
		config.Impersonate = who
		c, err := versioned.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		options := metav1.PatchOptions{}
		if dry {
			options = dryRunPatch
		}
		_, err = c.CheckpointV1alpha1().Checkpoints(ns).Patch(t.Context(), made.Name, types.MergePatchType, statusPatch(t, status), options, "status")
		return err
	}
	jane := rest.ImpersonationConfig{UserName: "jane"}
	agent := func(node string) rest.ImpersonationConfig { return impersonated(theAgent, node) }
	captured := v1alpha1.CheckpointStatus{Source: node("a")}
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if write(jane, captured, true) == nil {
			return errors.New("anybody may write a status")
		}
		return nil
	})
	const reserved = "the status of a Checkpoint may be written by checkpoint-manager and checkpoint-agent alone"
	checkRights(t, write(jane, captured, true), reserved)
	checkRights(t, write(jane, v1alpha1.CheckpointStatus{}, true), "") // nothing changes
	checkRights(t, write(impersonated(theManager, ""), captured, true), "")
	checkRights(t, write(impersonated("admin", ""), captured, true), "")
	checkRights(t, write(agent("b"), captured, true), `of node "b" may write nothing but a claim of what was captured on node "a"`)
	checkRights(t, write(agent("a"), captured, false), "")
	checkRights(t, write(agent("b"), v1alpha1.CheckpointStatus{ManifestDigest: digest}, true), `may write nothing but a claim`)
	checkRights(t, write(agent("b"), v1alpha1.CheckpointStatus{Claim: claimOf("a")}, true), `may neither make nor take back a claim of node "a"`)
	checkRights(t, write(agent("a"), v1alpha1.CheckpointStatus{Claim: claimOf("b")}, true), `may neither make nor take back a claim of node "b"`)
	checkRights(t, write(agent("b"), v1alpha1.CheckpointStatus{Claim: claimOf("b")}, false), "")
	checkRights(t, write(agent("a"), v1alpha1.CheckpointStatus{ManifestDigest: digest}, true), "") // beside another's claim
	for who, refused := range map[string]string{"a": `may neither make nor take back a claim of node "b"`, "b": ""} {
		config := rest.CopyConfig(shared.Config)
		config.Impersonate = agent(who)
		c, err := versioned.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		back := []byte(`{"status":{"claim":null}}`)
		_, err = c.CheckpointV1alpha1().Checkpoints(ns).Patch(t.Context(), made.Name, types.MergePatchType, back, dryRunPatch, "status")
		checkRights(t, err, refused)
	}
}

// statusPatch is a merge patch that sets what a status has.
func statusPatch(t *testing.T, status v1alpha1.CheckpointStatus) []byte {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		t.Fatal(err)
	}
	return patch
}

// Of pods the manager may change our annotations alone, whatever its role allows.
func TestTheManagerChangesNothingElseOfAPod(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	pod := builder.MakePod(ns, "web").Node("a").Obj()
	pod.Annotations, pod.Spec.AutomountServiceAccountToken = map[string]string{"a": "b"}, new(false)
	pod, err := shared.Client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	manager := clientOf(t, theManager, "")
	try := func(patch string) error {
		_, err := manager.CoreV1().Pods(ns).Patch(t.Context(), "web", types.MergePatchType, []byte(patch), dryRunPatch)
		return err
	}
	ours := `{"metadata":{"annotations":{"memverge.ai/restore-counted":"1"}}}`
	image := fmt.Sprintf(`[{"op":"replace","path":"/spec/containers/0/image","value":"%s-evil"}]`, pod.Spec.Containers[0].Image)
	withImage := func() error {
		_, err := manager.CoreV1().Pods(ns).Patch(t.Context(), "web", types.JSONPatchType, []byte(image), dryRunPatch)
		return err
	}
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if withImage() == nil {
			return errors.New("the manager may change an image")
		}
		return nil
	})
	checkRights(t, try(ours), "")
	const refused = "the checkpoint-manager may change nothing of a pod but annotations that begin with memverge.ai/"
	for name, err := range map[string]error{
		"the image": withImage(), "a label": try(`{"metadata":{"labels":{"app":"other"}}}`), "an annotation of others": try(`{"metadata":{"annotations":{"a":"c"}}}`),
		"one taken away": try(`{"metadata":{"annotations":{"a":null}}}`), "a finalizer": try(`{"metadata":{"finalizers":["a/b"]}}`),
		"an owner": try(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"a","uid":"a"}]}}`),
	} {
		t.Run(name, func(t *testing.T) { checkRights(t, err, refused) })
	}
}
