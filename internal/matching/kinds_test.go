package matching

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// by makes another controller the pod's.
func by(apiVersion, kind, uid string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		ref := &p.OwnerReferences[0]
		ref.APIVersion, ref.Kind, ref.Name, ref.UID = apiVersion, kind, uid, types.UID(uid)
	}
}

var (
	ofSet    = by("apps/v1", "StatefulSet", "db")
	ofDaemon = by("apps/v1", "DaemonSet", "logs")
	ofRing   = by("example.com/v1", "Ring", "ring")
)

func ofJob(name string) func(*corev1.Pod) { return by("batch/v1", "Job", name) }

func ofNobody(p *corev1.Pod) { p.OwnerReferences = nil }

func index(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations["batch.kubernetes.io/job-completion-index"] = value }
}

func controllerRevision(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels["controller-revision-hash"] = value }
}

func env(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Name: "app", Env: []corev1.EnvVar{{Name: "A", Value: value}}}}
	}
}

func onNode(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }

func generated(p *corev1.Pod) { p.GenerateName = "x-" }

func uid(value string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.UID = types.UID(value) } }

// goingFor is terminated since then, with two minutes of grace.
func goingFor(age time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		end := metav1.NewTime(testNow.Add(2*time.Minute - age))
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &end, new(int64(120))
	}
}

func exited(code int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodFailed
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}},
		}}
	}
}

// madeByForce is the Checkpoint of a pod that is gone from the API, which the manager has just made.
func madeByForce(age time.Duration) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		c.CreationTimestamp = metav1.NewTime(testNow.Add(-age))
		c.Status.CaptureTime = nil
		c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.CheckpointReady, Status: metav1.ConditionFalse, Reason: v1alpha1.StatePending}}
	}
}

func withoutSource(c *v1alpha1.Checkpoint) { c.Status = v1alpha1.CheckpointStatus{} }

func ofWorkload(value string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) { c.Labels[keys.Workload] = value }
}

func TestChooseForEveryKind(t *testing.T) {
	all := func(c ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return c }
	otherSet := by("apps/v1", "ReplicaSet", "web-2")
	for what, test := range map[string]choiceTest{
		"a StatefulSet's pod takes its own": {
			pod:         newPod("db-1", ofSet, uid("new")),
			checkpoints: all(of(newPod("db-0", ofSet), 0), of(newPod("db-1", ofSet), time.Hour)), claim: "db-1-db-1-uid",
		},
		"what it left last is on a node that is gone, and it is not taken back": {
			pod: newPod("db-0", ofSet, uid("new")), gone: "worker-1", cold: keys.ColdWaitTimeout,
			checkpoints: all(of(newPod("db-0", ofSet, uid("second")), time.Minute, notUploaded), of(newPod("db-0", ofSet, uid("first")), time.Hour)),
		},
		"what it left last is on a node that is gone, and it left milestones before": {
			pod: newPod("db-0", ofSet, uid("new")), gone: "worker-1", claim: "m1",
			checkpoints: all(of(newPod("db-0", ofSet, uid("second")), time.Minute, notUploaded), of(newPod("db-0", ofSet, uid("second")), time.Hour, milestone("m1"))),
		},
		"and not another's": {pod: newPod("db-1", ofSet), checkpoints: all(of(newPod("db-0", ofSet), 0)), cold: keys.ColdNoCheckpoint},
		"a changed StatefulSet": {
			pod:         newPod("db-0", ofSet, uid("new"), controllerRevision("2")),
			checkpoints: all(of(newPod("db-0", ofSet, controllerRevision("1")), 0)), cold: keys.ColdTemplateChanged,
		},
		"an indexed Job's pod takes that of its index": {
			pod:         newPod("j-1-x", ofJob("j"), index("1")),
			checkpoints: all(of(newPod("j-0-a", ofJob("j"), index("0")), 0), of(newPod("j-1-b", ofJob("j"), index("1")), time.Hour)), claim: "j-1-b-j-1-b-ui",
		},
		"the next run of a CronJob": {
			pod: newPod("run-2-x", ofJob("run-2")), checkpoints: all(of(newPod("run-1-x", ofJob("run-1")), 0)), cold: keys.ColdNoCheckpoint,
		},
		"a DaemonSet's pod takes that of its node": {
			pod:         newPod("logs-x", ofDaemon),
			checkpoints: all(of(newPod("logs-a", ofDaemon, onNode("worker-2")), 0), of(newPod("logs-b", ofDaemon), time.Hour)), claim: "logs-b-logs-b-u",
		},
		"a DaemonSet's pod on a new node": {
			pod: newPod("logs-x", ofDaemon, onNode("worker-3")), checkpoints: all(of(newPod("logs-a", ofDaemon), 0)), cold: keys.ColdNoCheckpoint,
		},
		"another unknown controller's named pod": {
			pod: newPod("broker-1", ofRing), checkpoints: all(of(newPod("broker-0", ofRing), 0)), cold: keys.ColdNoCheckpoint,
		},
		"an unknown controller's generated pod": {
			pod: newPod("broker-x", ofRing, generated), checkpoints: all(of(newPod("broker-y", ofRing, generated), 0)), claim: "broker-y-broker-y",
		},
		"an unknown controller's that was changed": {
			pod:         newPod("broker-x", ofRing, generated, env("2")),
			checkpoints: all(of(newPod("broker-y", ofRing, generated, env("1")), 0)), cold: keys.ColdTemplateChanged,
		},
		"a plain pod that was changed": {
			pod: newPod("mine", ofNobody, uid("new"), env("2")), checkpoints: all(of(newPod("mine", ofNobody, env("1")), 0)), cold: keys.ColdTemplateChanged,
		},
		"another ReplicaSet of the Deployment": {
			checkpoints: all(of(newPod("a", otherSet, revision("3")), 0, ofWorkload("web"))), cold: keys.ColdTemplateChanged,
		},
		"a ReplicaSet of another Deployment": {
			checkpoints: all(of(newPod("a", otherSet, revision("2")), 0, ofWorkload("other"))), cold: keys.ColdNoCheckpoint,
		},
		"a Job that says it is of the Deployment": {
			checkpoints: all(of(newPod("a", ofJob("j")), 0, ofWorkload("web"))), cold: keys.ColdNoCheckpoint,
		},
		"a late replacement":                     {checkpoints: all(of(newPod("a"), 23*time.Hour)), claim: "a-a-uid"},
		"back to a ReplicaSet that was replaced": {checkpoints: all(of(newPod("a"), time.Minute, expired)), cold: keys.ColdCheckpointTooOld},
		"the owner has another, which is no longer good": {
			checkpoints: all(of(newPod("a"), 0, expired), of(newPod("b"), time.Hour)), claim: "b-b-uid",
		},
	} {
		check(t, what, test)
	}
}

func TestWhatANewPodWaitsFor(t *testing.T) {
	all := func(c ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return c }
	for what, test := range map[string]choiceTest{
		"one was deleted by force":                      {checkpoints: all(of(newPod("a"), 0, madeByForce(0))), wait: "waiting for the capture of pod a on worker-1"},
		"and its Checkpoint has no status yet":          {checkpoints: all(of(newPod("a"), 0, withoutSource)), wait: "waiting for the capture of pod a on its node"},
		"and its node has said nothing for six minutes": {checkpoints: all(of(newPod("a"), 0, madeByForce(6*time.Minute))), cold: keys.ColdNoCheckpoint},
		"and there is an older state": {
			checkpoints: all(of(newPod("a"), 0, madeByForce(0)), of(newPod("b"), time.Hour)), wait: "waiting for the capture of pod a on worker-1",
		},
		"one that goes at the same time as the one that is there": {
			siblings: []corev1.Pod{*newPod("b", goingFor(10*time.Second))}, checkpoints: all(of(newPod("a"), 8*time.Second)), claim: "a-a-uid",
		},
		"one that began to go after the one that is there": {
			siblings: []corev1.Pod{*newPod("b", goingFor(10*time.Second))}, checkpoints: all(of(newPod("a"), 12*time.Second)),
			wait: "waiting for the capture of pod b on worker-1",
		},
		"one that ended by itself, and is deleted": {siblings: []corev1.Pod{*newPod("b", going, exited(1))}, cold: keys.ColdNoCheckpoint},
		"one that was killed, and is deleted": {
			siblings: []corev1.Pod{*newPod("b", going, exited(137))}, wait: "waiting for the capture of pod b on worker-1",
		},
		"another place of a StatefulSet": {pod: newPod("db-0", ofSet), siblings: []corev1.Pod{*newPod("db-1", ofSet, going)}, cold: keys.ColdNoCheckpoint},
		"two new pods, one state, and one that goes": {
			siblings:    []corev1.Pod{*newPod("a-first"), *newPod("c", goingFor(10*time.Second))},
			checkpoints: all(of(newPod("b"), 5*time.Second)), wait: "waiting for the capture of pod c on worker-1",
		},
		"two new pods and one state": {siblings: []corev1.Pod{*newPod("a-first")}, checkpoints: all(of(newPod("b"), time.Minute)), claim: "b-b-uid"},
		"two new pods and two states": {
			siblings: []corev1.Pod{*newPod("a-first")}, checkpoints: all(of(newPod("b"), time.Minute), of(newPod("c"), time.Hour)), claim: "c-c-uid",
		},
		"of two new pods the other has its own": {
			siblings:    []corev1.Pod{*newPod("a-first")},
			checkpoints: all(of(newPod("b"), time.Minute), of(newPod("c"), 0, claimedBy("a-first-uid", v1alpha1.ClaimClaimed))), claim: "b-b-uid",
		},
	} {
		check(t, what, test)
	}
}

// Many that decide by the same lists, and by lists in which some have decided, choose one Checkpoint each.
func TestNewPodsStandInAQueue(t *testing.T) {
	const many = 50
	var pods []corev1.Pod
	var checkpoints []v1alpha1.Checkpoint
	for i := range many {
		pods = append(pods, *newPod(fmt.Sprintf("new-%02d", i)))
		checkpoints = append(checkpoints, of(newPod(fmt.Sprintf("old-%02d", i)), time.Duration(i)*time.Minute))
	}
	taken := map[string]string{}
	for round := range 2 {
		for i := range pods {
			got := Choose(Facts{
				Pod: &pods[i], Own: lineage.Of(&pods[i]), Checkpoints: checkpoints, Siblings: pods, Now: testNow, Here: func(*v1alpha1.Checkpoint) bool { return false },
			})
			if round == 1 && i < many/2 {
				continue // it has one
			}
			if got.Claim == nil || round == 0 && taken[got.Claim.Name] != "" || round == 1 && taken[got.Claim.Name] != pods[i].Name {
				t.Fatalf("round %d: %s chooses %+v; %v", round, pods[i].Name, got, taken)
			}
			taken[got.Claim.Name] = pods[i].Name
		}
		for i := range many / 2 { // by the second look half of them have claimed theirs
			claimedBy(string(pods[i].UID), v1alpha1.ClaimClaimed)(&checkpoints[i])
		}
	}
}
