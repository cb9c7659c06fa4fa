package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/node/probe"
)

// When a container is looked at, counted from its start or its restore: programs open early what they use. What may pass is looked at again soon.
const (
	probeTick     = 500 * time.Millisecond
	probeInterval = time.Minute
	probeAgain    = 3 * time.Second
	probeFound    = 15 * time.Second // as long as there is something to go
	probePatience = 10 * time.Second // for one look
)

var probeSchedule = []time.Duration{2 * time.Second, 5 * time.Second, 15 * time.Second}

// record is what the agent needs of the runtime's record of a container, a file in capture.Node.Containers (node/engine, Container).
type record struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Pod      capture.Pod       `json:"pod"`
	Sandbox  string            `json:"sandbox"`
	PIDFile  string            `json:"pidFile"`
	Settings capture.Settings  `json:"settings"`
	Upper    string            `json:"upper"`
	Volumes  map[string]string `json:"volumes"`
}

// watched is a container that is looked at.
type watched struct {
	record
	since  time.Time // when its first process was first seen
	next   time.Time
	looks  int
	busy   bool // a look has not come back
	last   []probe.Finding
	counts []probe.Finding // those that are reported
	memory int64
	files  int64
	sized  time.Time // when files was measured
}

// prober remembers what was found. All of it can be forgotten.
type prober struct {
	mu         sync.Mutex
	containers map[string]*watched // by ID
	verdicts   map[string]verdict  // by pod UID
	changed    chan event.GenericEvent
}

// probeAll looks at the containers of the node for as long as the context lives.
func (a *Agent) probeAll(ctx context.Context) error {
	return every(ctx, probeTick, func() {
		a.prober.update(a.Node)
		for _, w := range a.prober.due(a.Now()) {
			a.probe(ctx, w)
		}
	})
}

// update brings the list of containers in line with the runtime's records.
func (p *prober) update(node capture.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.containers == nil {
		p.containers, p.verdicts = map[string]*watched{}, map[string]verdict{}
	}
	there := map[string]bool{}
	for _, name := range namesIn(node.Containers()) {
		id, isRecord := strings.CutSuffix(name, ".json")
		if !isRecord {
			continue
		}
		there[id] = true
		if p.containers[id] != nil {
			continue
		}
		w := &watched{}
		data, err := os.ReadFile(filepath.Join(node.Containers(), name))
		if err != nil || json.Unmarshal(data, &w.record) != nil || w.ID != id {
			continue
		}
		p.containers[id] = w
	}
	for id, w := range p.containers {
		if !there[id] {
			delete(p.containers, id)
			p.judge(w.Pod.UID, 0)
		}
	}
	p.forget()
}

// forget drops the verdicts of pods without a container.
func (p *prober) forget() {
	alive := map[string]bool{}
	for _, w := range p.containers {
		alive[w.Pod.UID] = true
	}
	for podUID := range p.verdicts {
		if !alive[podUID] {
			delete(p.verdicts, podUID)
		}
	}
}

// due returns the containers that are to be looked at.
func (p *prober) due(now time.Time) []*watched {
	p.mu.Lock()
	defer p.mu.Unlock()
	var due []*watched
	for _, w := range p.containers {
		if w.Sandbox != w.ID && w.Settings.Selects(w.Name) && !w.busy && !now.Before(w.next) {
			due = append(due, w)
		}
	}
	return due
}

// probe looks at a container, unless it is being captured: CRIU itself traces its processes then.
func (a *Agent) probe(ctx context.Context, w *watched) {
	pid, err := a.firstProcess(w)
	now := a.Now()
	a.prober.mu.Lock()
	if err != nil {
		w.since, w.looks, w.last, w.counts = time.Time{}, 0, nil, nil // it has not started, is being restored, or has ended
		a.prober.mu.Unlock()
		return
	}
	if w.since.IsZero() {
		w.since, w.next = now, now.Add(probeSchedule[0])
		a.prober.mu.Unlock()
		return
	}
	w.busy = true
	a.prober.mu.Unlock()
	if a.isCaptured(w) {
		a.prober.done(w, now.Add(time.Second))
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.lookAt(ctx, w, pid)
	}()
	select {
	case <-done:
	case <-time.After(probePatience): // the others must not wait
		ctrl.LoggerFrom(ctx).Info("a look at a container does not come back", "pod", w.Pod.Name, "namespace", w.Pod.Namespace, "container", w.Name)
	}
}

// lookAt looks at a container and takes down what it found.
func (a *Agent) lookAt(ctx context.Context, w *watched, pid int) {
	started := time.Now()
	report, err := probe.Look(probe.Container{Proc: a.proc(), Init: pid, GhostLimit: w.Settings.GhostLimitOf(w.Name)})
	probeSeconds.Add(time.Since(started).Seconds())
	if err != nil || a.isCaptured(w) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			ctrl.LoggerFrom(ctx).Error(err, "look at a container", "pod", w.Pod.Name, "namespace", w.Pod.Namespace, "container", w.Name)
		}
		a.prober.done(w, a.Now().Add(time.Second))
		return
	}
	if report.Missed != nil {
		ctrl.LoggerFrom(ctx).V(1).Info("sockets were not looked at", "pod", w.Pod.Name, "namespace", w.Pod.Namespace, "why", report.Missed.Error())
	}
	a.measure(w)
	a.prober.take(w, report, a.Now(), a.freeSpace())
}

// take takes down a report, and has the pod's condition written when it changes by that.
func (p *prober) take(w *watched, report probe.Report, now time.Time, free int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	earlier := map[string]bool{}
	for _, f := range w.last {
		earlier[f.Key()] = true
	}
	w.counts, w.memory, w.last, w.busy = nil, report.MemoryBytes, report.Findings, false
	unsure := false
	for _, f := range report.Findings {
		if f.Passing && !earlier[f.Key()] {
			unsure = true
			continue
		}
		w.counts = append(w.counts, f)
	}
	w.looks++
	w.next = now.Add(probeInterval)
	if len(w.counts) > 0 {
		w.next = now.Add(probeFound)
	}
	if w.looks < len(probeSchedule) {
		w.next = w.since.Add(probeSchedule[w.looks])
	}
	if unsure || !now.Before(w.next) {
		w.next = now.Add(probeAgain)
	}
	p.judge(w.Pod.UID, free)
}

// done notes that a look came to nothing.
func (p *prober) done(w *watched, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.busy, w.next = false, next
}

// judge forms the verdict on a pod anew. The lock is held.
func (p *prober) judge(podUID string, free int64) {
	var of []*watched
	for _, w := range p.containers {
		if w.Pod.UID != podUID || w.Sandbox == w.ID || !w.Settings.Selects(w.Name) {
			continue
		}
		if w.looks == 0 {
			return // nobody knows yet
		}
		of = append(of, w)
	}
	if len(of) > 0 {
		slices.SortFunc(of, func(a, b *watched) int { return strings.Compare(a.Name, b.Name) })
		v := verdictOn(of, free)
		if old, known := p.verdicts[podUID]; !known || old.key != v.key {
			p.verdicts[podUID] = v
			p.notify(of[0].Pod)
		}
	}
	p.export()
}

// notify has the pod reconciled.
func (p *prober) notify(pod capture.Pod) {
	object := &corev1.Pod{}
	object.Namespace, object.Name = pod.Namespace, pod.Name
	select {
	case p.changed <- event.GenericEvent{Object: object}:
	default: // nobody listens, or it has a lot to do: the next verdict or the next change of the pod comes
	}
}

// export counts the containers with findings, by reason.
func (p *prober) export() {
	probeFindings.Reset()
	for _, w := range p.containers {
		counted := map[string]bool{}
		for _, f := range w.counts {
			if !counted[f.Reason] {
				counted[f.Reason] = true
				probeFindings.WithLabelValues(f.Reason).Inc()
			}
		}
	}
}

// proc is the node's /proc, which the agent's pod sees by hostPID.
func (a *Agent) proc() string { return filepath.Join(a.Node.Root, "proc") }

// firstProcess returns the number of a container's first process.
func (a *Agent) firstProcess(w *watched) (int, error) {
	data, err := os.ReadFile(filepath.Join(a.proc(), "1/root", w.PIDFile)) // the runtime wrote it on the node, of which the agent mounts little
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", w.PIDFile, err)
	}
	_, err = os.Stat(filepath.Join(a.proc(), strconv.Itoa(pid)))
	return pid, err
}

// isCaptured tells whether the pod of a container is being captured, or is about to be.
func (a *Agent) isCaptured(w *watched) bool {
	_, deleting := a.Node.ReadHint(w.Pod.UID, capture.DeletingHint)
	return deleting || isLocked(filepath.Join(a.Node.Captures(w.Pod.UID), "lock"))
}
