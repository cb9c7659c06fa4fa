package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// TestAPodGoesOnThoughThePowerWasCutBeforeItsRestore, and though what was fetched for it has holes: it is fetched again, and the claim stays. No other test
// may run meanwhile, since it stops a node.
func TestAPodGoesOnThoughThePowerWasCutBeforeItsRestore(t *testing.T) {
	c := labelled(t)
	w := prepareWorkload(t, c, deployment, nil)
	w.policy(t, v1alpha1.RestorePolicySpec{Fallback: v1alpha1.FallbackFail})
	w.create(t)
	pod := w.running(t, nil)
	for path, content := range files {
		put(t, c, pod, path, content)
	}
	before := waitForCount(t, c, pod, 10)
	other := map[string]string{"worker-1": "worker-2", "worker-2": "worker-1"}[pod.Spec.NodeName]
	const find = `criu=$(sed -n 's/.*"criuDirectory": "\(.*\)".*/\1/p' /opt/checkpoint/runtime.json)/criu; `
	c.OnNode(t, other, find+`mv $criu $criu.whole; printf '#!/bin/sh\nexit 1\n' > $criu; chmod 755 $criu`)
	cordon(t, c, pod.Spec.NodeName)
	w.deletePod(t, pod)
	next := w.refused(t, pod, "not restored, and RestorePolicy mine says Fail")
	dir := "/var/lib/checkpoint/restores/" + string(next.UID)
	torn := c.OnNode(t, other, "cat "+dir+"/decision.json; for f in "+dir+"/states/*/*/containers/*/criu/pages-*.img; do : > $f; echo torn; done")
	c.Run(t, "node", "stop", other)
	c.Run(t, "node", "start", other)
	c.OnNode(t, other, find+`mv $criu.whole $criu`)
	if !strings.Contains(torn, `"action": "restore"`) || !strings.Contains(torn, "torn\n") {
		t.Errorf("on the node was %s", torn)
	}
	lab.Eventually(t, 2*time.Minute, "its container runs", func() error {
		now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), next.Name, metav1.GetOptions{})
		if err == nil && !isRunning(now) {
			err = fmt.Errorf("it is %s: %+v", now.Status.Phase, now.Status.ContainerStatuses)
		}
		return err
	})
	w.goesOn(t, w.running(t, pod), before, files)
}
