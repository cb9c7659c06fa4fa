package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// captureLive has the runtime capture a pod that goes on, as an agent does, for a Checkpoint that there is not.
const captureLive = `/opt/checkpoint/bin/checkpoint-runtime capture-live %s by-hand 0f2d4c1a-93c1-4f7e-8a3d-5b8f3f6f1c2e`

// A pod goes on after its capture: its program, its connections, and what it was started with; what is captured of it at its end is its last state.
func TestAPodGoesOnAfterALiveCapture(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, onWorker1)
	put(t, c, pod, "/scratch/mine", "before")
	o := connect(t, c, pod)
	before := w.countOf(t, pod)
	for number := 1; number <= 3; number++ {
		name := fmt.Sprintf("number-%d", number)
		w.byHand(t, name, pod, nil)
		w.named(t, name, isComplete)
		now := w.countOf(t, pod)
		if now.Host != before.Host || now.PID != before.PID || now.Count <= before.Count {
			t.Fatalf("after capture %d it counts %+v; before it was %+v", number, now, before)
		}
		before = now
	}
	c.OnNode(t, "worker-2", "touch /tmp/again-"+pod.Status.PodIP)
	if said := o.said(t); !strings.Contains(said, "second: HTTP/1.1 200 OK") {
		t.Errorf("the other end of its connection saw %q", said)
	}
	left := c.OnNode(t, "worker-1", "ls /var/lib/checkpoint/captures/"+string(pod.UID)+"; cat /run/checkpoint/log/"+string(pod.UID)+".log")
	if strings.Contains(left, ".partial") {
		t.Errorf("there is left:\n%s", left)
	}
	before = w.countOf(t, pod)
	w.deletePod(t, pod)
	w.goesOn(t, w.running(t, pod), before, map[string]string{"/scratch/mine": "before"})
}

// A pod that is deleted in the middle of its live capture is captured for good, and does not run on.
func TestAPodThatIsDeletedDuringALiveCaptureLosesNothing(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, onWorker1)
	say(t, c, pod, "grow", "mib=300")
	before := waitForCount(t, c, pod, 5)
	done := make(chan string, 1)
	go func() {
		output, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", "worker-1", "--", "sh", "-c", fmt.Sprintf(captureLive, pod.UID))
		done <- fmt.Sprint(output, err)
	}()
	// The node itself looks: from here it could be over in between.
	c.OnNode(t, "worker-1", fmt.Sprintf("for i in $(seq 1500); do ls -d /var/lib/checkpoint/captures/%s/* 2>/dev/null && exit; sleep 0.02; done; exit 1", pod.UID))
	w.deletePod(t, pod)
	t.Logf("the live capture: %s", <-done)
	w.goesOn(t, w.running(t, pod), before, nil)
	t.Log(c.OnNode(t, "worker-1", "cat /run/checkpoint/log/"+string(pod.UID)+".log || true"))
}

// A live capture that is killed leaves the pod running, and nothing behind.
func TestAPodGoesOnWhenItsLiveCaptureIsKilled(t *testing.T) {
	for when, there := range map[string]string{"before the freeze": "*.partial", "in the dump": "*.partial/containers/app/criu/*.img"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w, pod := newWorkload(t, c, plainPod, onWorker1)
			say(t, c, pod, "grow", "mib=100")
			before := w.countOf(t, pod)
			captures := "/var/lib/checkpoint/captures/" + string(pod.UID) + "/"
			said := c.OnNode(t, "worker-1", fmt.Sprintf(`%s & live=$!
for i in $(seq 1000); do ls %s >/dev/null 2>&1 && break; sleep 0.005; done
kill -9 $live && echo killed`, fmt.Sprintf(captureLive, pod.UID), captures+there))
			if !strings.Contains(said, "killed") {
				t.Fatalf("the capture was not killed: %q", said)
			}
			lab.Eventually(t, time.Minute, "the folder is settled", func() error {
				_, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", "worker-1", "--", "sh", "-c", "! ls -d "+captures+"*.partial")
				return err
			})
			now := w.countOf(t, pod)
			if now.Host != before.Host || now.PID != before.PID || now.Count <= before.Count {
				t.Errorf("it counts %+v; before it was %+v", now, before)
			}
			w.deletePod(t, pod)
			w.goesOn(t, w.running(t, pod), now, nil)
		})
	}
}
