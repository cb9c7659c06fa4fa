package agent

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/node/probe"
)

// verdict is what the looks at a pod's containers came to.
type verdict struct {
	// key is the same as long as nothing changes that is worth an event.
	key     string
	status  corev1.ConditionStatus
	reason  string
	message string
}

// protectedMessage is that of a pod in which nothing was found.
const protectedMessage = "its state is captured when it is terminated"

// maxSentences bounds the findings in a message.
const maxSentences = 3

// verdictOn puts together what was found in the containers of a pod. free is the room on the node's disk, in bytes; 0 is not known.
func verdictOn(containers []*watched, free int64) verdict {
	var sentences, parts []string
	v, total := verdict{status: corev1.ConditionFalse}, 0
	seen := map[string]bool{}
	hinders := slices.ContainsFunc(containers, func(w *watched) bool { // what is merely changed is told when nothing else is
		return slices.ContainsFunc(w.counts, func(f probe.Finding) bool { return f.Reason != keys.CheckpointableChanged })
	})
	for _, w := range containers {
		for _, f := range w.counts {
			if hinders != (f.Reason != keys.CheckpointableChanged) {
				continue
			}
			key := w.Name + "\x00" + f.Key()
			if seen[key] {
				continue
			}
			seen[key] = true
			if v.reason == "" {
				v.reason = f.Reason
			}
			if total++; total <= maxSentences {
				sentences = append(sentences, fmt.Sprintf("container %q: %s", w.Name, f))
				parts = append(parts, key)
			}
		}
	}
	if total == 0 {
		return sizeVerdict(containers, free)
	}
	v.message = "CRIU cannot dump it. "
	if v.reason == keys.CheckpointableChanged {
		switch size := sizeVerdict(containers, free); size.reason {
		case keys.CheckpointableVolumeSize, keys.CheckpointableNoSpace:
			return size
		}
		v.status, v.message = corev1.ConditionTrue, protectedMessage+", but not all of it comes back as it was. "
	}
	v.message += strings.Join(sentences, ". ")
	if total > maxSentences {
		v.message += fmt.Sprintf(". There are %d more", total-maxSentences)
	}
	v.key = strings.Join(parts, "\x01")
	return v
}

// nearBound is the part of a pod's bound, in per cent, from which on its state is near to it.
const nearBound = 80

// sizeVerdict warns when the state of a pod has outgrown its bound, or the disk, or is about to.
func sizeVerdict(containers []*watched, free int64) verdict {
	need := int64(0)
	for _, w := range containers {
		need += w.memory + w.files
	}
	v := verdict{status: corev1.ConditionTrue, reason: keys.CheckpointableProtected, message: protectedMessage}
	bound := containers[0].Settings.VolumeSizeBytes
	switch {
	case bound > 0 && need > bound:
		v.reason = keys.CheckpointableVolumeSize
		v.message = fmt.Sprintf("its state takes about %d MiB by now, and %s allows %d MiB: a capture would fail; raise it in the template",
			need>>20, keys.CheckpointVolumeSize, bound>>20)
	case free > 0 && need > free:
		v.reason = keys.CheckpointableNoSpace
		v.message = fmt.Sprintf("its state takes about %d MiB by now, and the node's disk has %d MiB: a capture would fail; make room below /var/lib/checkpoint",
			need>>20, free>>20)
	case bound > 0 && need*100 >= bound*nearBound:
		v.reason = keys.CheckpointableNearVolumeSize
		v.message = fmt.Sprintf("%s. It takes about %d MiB by now, %d %% of the %d MiB that %s allows: raise the label in the template before it is full",
			protectedMessage, need>>20, need*100/bound, bound>>20, keys.CheckpointVolumeSize)
	}
	v.key = v.reason
	return v
}

// checkpointable is the condition of a pod as far as the agent knows. Before the first look it stays what it was, as another agent may have looked.
func (a *Agent) checkpointable(pod *corev1.Pod) corev1.PodCondition {
	a.prober.mu.Lock()
	v, known := a.prober.verdicts[string(pod.UID)]
	a.prober.mu.Unlock()
	if c, is := a.paused(pod); is {
		return c
	}
	c := protection(pod)
	if known && v.reason != keys.CheckpointableProtected {
		c.Status, c.Reason, c.Message = v.status, v.reason, v.message
		return c
	}
	if old := podspec.Condition(pod, keys.Checkpointable); old != nil && !known && old.Status == corev1.ConditionFalse && isFound(old.Reason) {
		c.Status, c.Reason, c.Message = old.Status, old.Reason, old.Message
	}
	return c
}

// isFound tells whether a reason is one that only an agent gives.
func isFound(reason string) bool {
	switch reason {
	case keys.UnprotectedIOUring, keys.UnprotectedDescriptor, keys.UnprotectedDeviceInUse, keys.UnprotectedSocket, keys.UnprotectedOutsideSocket,
		keys.UnprotectedUnread, keys.UnprotectedTraced, keys.UnprotectedNestedNamespace, keys.UnprotectedMount, keys.UnprotectedMessageQueue,
		keys.UnprotectedDeadLeader, keys.UnprotectedLargeDeletedFile, keys.UnprotectedDetachedFile:
		return true
	}
	return false
}

// How often the files of a container are measured, and how many of them at most.
const (
	measureInterval = 5 * time.Minute
	measureMost     = 50_000
)

// measure adds up the files that a capture of a container takes: its own changes, and the pod's emptyDirs. They lie in folders of the node that the
// agent's pod does not have mounted; its root leads there.
func (a *Agent) measure(w *watched) {
	a.prober.mu.Lock()
	isDue := w.looks > 0 && (w.sized.IsZero() || a.Now().Sub(w.sized) >= measureInterval)
	a.prober.mu.Unlock()
	if !isDue {
		return
	}
	sum, left := int64(0), measureMost
	for _, dir := range w.trees() {
		sum += sizeBelow(filepath.Join(a.proc(), "1/root", dir), &left)
	}
	a.prober.mu.Lock()
	defer a.prober.mu.Unlock()
	w.files, w.sized = sum, a.Now()
}

func (r *record) trees() []string {
	var dirs []string
	if r.Upper != "" {
		dirs = append(dirs, r.Upper)
	}
	for _, dir := range r.Volumes {
		dirs = append(dirs, dir)
	}
	return dirs
}

// sizeBelow adds up what the files below dir take on the disk, in bytes, until left of them were seen.
func sizeBelow(dir string, left *int) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error { // an estimate: what cannot be read counts nothing
		if *left--; *left < 0 {
			return fs.SkipAll
		}
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += stat.Blocks * 512
			}
		}
		return nil
	})
	return sum
}

// freeSpace is the room for captures on the node's disk, in bytes; 0 is not known.
func (a *Agent) freeSpace() int64 {
	dir := a.Node.CapturesRoot()
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Dir(dir)
	}
	var disk unix.Statfs_t
	if unix.Statfs(dir, &disk) != nil {
		return 0
	}
	return int64(disk.Bavail) * disk.Bsize
}
