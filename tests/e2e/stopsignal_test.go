package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whatever signal an image asks to be ended with, its pod is captured, and the signal does not come back with it. A pod that cannot be captured gets its own.
func TestImagesWithStopSignalsOfTheirOwn(t *testing.T) {
	c := labelled(t)
	for signal, written := range map[string]string{"SIGINT": "int", "SIGQUIT": "quit", "SIGUSR1": "usr1", "SIGRTMIN+3": "rtmin+3"} {
		own := "localhost/testapp-" + strings.ReplaceAll(written, "+", "-") + ":e2e"
		c.Run(t, "image", "build", own, "--binary=build/images/testapp", "--stop-signal="+signal)
		t.Run(signal+" captures", func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				app := &template.Spec.Containers[0]
				app.Image, app.Args = own, []string{"serve", "-note-signals=/scratch/signals"}
			})
			before := waitForCount(t, c, pod, 5)
			w.deletePod(t, pod)
			next := w.running(t, pod)
			w.goesOn(t, next, before, nil)
			if signals, err := ask(t.Context(), c, next, "file/scratch/signals", nil); err == nil {
				t.Errorf("the program got %q", signals)
			}
		})
		t.Run(signal+" comes to a pod that cannot be captured", func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			out := "/var/lib/out-" + written
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				cannotBeCaptured(template, out)
				template.Spec.Containers[0].Image = own
			})
			waitForCount(t, c, pod, 5)
			if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			w.awaitGone(t, pod)
			if got := c.OnNode(t, pod.Spec.NodeName, "cat "+out+"/log"); got != written+" began\n"+written+" ended\n" {
				t.Errorf("it left %q", got)
			}
		})
	}
}
