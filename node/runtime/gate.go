package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// How long the gate waits (design R1).
const (
	gatePatience  = 20 * time.Second // in one call; then kubelet shows why, and calls again
	agentPatience = 5 * time.Minute  // for a node without an agent
)

// await returns the decision for a pod once it is there. When it does not come in time, the error says what it waits for; kubelet shows that as
// an event and tries again. A node whose agent does not run decides for a cold start in the end, unless the agent has left word that the pod's
// policy says Fail; and at once if the agent has left word that the operator is paused.
func (f *front) await(pod capture.Pod) (*capture.Decision, error) {
	return f.awaitFor(pod, gatePatience)
}

func (f *front) awaitFor(pod capture.Pod, patience time.Duration) (*capture.Decision, error) {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		decision, err := f.node.Decision(pod.UID)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return decision, err
		}
		if why, paused := f.node.IsPaused(); paused && !f.node.AgentLives() { // it left that word, and would say the same
			cold := capture.Decision{Action: capture.Cold, Reason: keys.ColdPaused, Message: why}
			if err := f.node.Decide(pod.UID, cold); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
			continue
		}
		if time.Now().Before(end) {
			continue
		}
		if f.node.AgentLives() {
			_ = os.Remove(f.gateFile(pod.UID)) // if it goes again, patience begins anew
			if waiting, there := f.node.ReadHint(pod.UID, capture.WaitingHint); there {
				return nil, errors.New(waiting)
			}
			return nil, fmt.Errorf("waiting for the checkpoint agent to decide about pod %s/%s", pod.Namespace, pod.Name)
		}
		policy, fails := f.node.ReadHint(pod.UID, capture.FailingHint)
		if lost := f.node.Lost(pod.UID); lost != nil && lost.Fallback == capture.Refuse { // hints do not outlive a boot
			policy, fails = lost.Policy, true
		}
		if fails {
			return nil, fmt.Errorf("%s: checkpoint agent not running on this node", capture.Refusal(policy))
		}
		since, err := f.waitingSince(pod.UID)
		if err != nil {
			return nil, err
		}
		if left := agentPatience - time.Since(since); left > 0 {
			return nil, fmt.Errorf("checkpoint agent not running on this node; the pod starts cold in %s", left.Round(time.Second))
		}
		cold := capture.Decision{Action: capture.Cold, Reason: keys.ColdAgentUnavailable}
		if err := f.node.Decide(pod.UID, cold); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

// waitingSince returns since when a pod waits at the gate, and remembers that.
func (f *front) waitingSince(podUID string) (time.Time, error) {
	path := f.gateFile(podUID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return time.Time{}, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		return time.Now().Add(-gatePatience), file.Close()
	}
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime().Add(-gatePatience), nil
}

func (f *front) gateFile(podUID string) string {
	return filepath.Join(f.node.Root, "run/checkpoint/gates", podUID)
}
