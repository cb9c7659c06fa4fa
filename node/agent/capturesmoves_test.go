package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/controllers/checkpoint"
	podcontroller "github.com/transparent-checkpoint/operator/controllers/pod"
	"github.com/transparent-checkpoint/operator/controllers/retention"
	"github.com/transparent-checkpoint/operator/internal/capture"
)

// who makes a move.
type who string

const (
	byRuntime   who = "runtime"
	byAgent     who = "agent"
	byManager   who = "manager"
	byRetention who = "retention"
	byPerson    who = "person"
	byNode      who = "node" // its power, and kubelet
	byWorld     who = "world"
)

// move is one thing that can happen. A process that writes more than once may be killed in between, and others may move then.
type move struct {
	who   who
	what  string
	fault bool // of which there are few
	kills bool // what else runs on the node
	long  bool // it writes more than once
	do    func(l *life)
}

// moves are those that can be made.
func (l *life) moves() (all []move) {
	add := func(who who, what string, do func(l *life)) { all = append(all, move{who: who, what: what, do: do}) }
	fault := func(who who, what string, do func(l *life)) {
		if l.faults > 0 {
			all = append(all, move{who: who, what: what, fault: true, do: func(l *life) { l.faults--; do(l) }})
		}
	}
	for what, do := range l.stepsOfRuntime() {
		if what == "the dump fails" {
			fault(byRuntime, what, do)
			continue
		}
		add(byRuntime, what, do)
	}
	if l.runtime != "" {
		fault(byRuntime, "the runtime is killed", func(l *life) { l.runtime = "" })
	}
	switch {
	case l.gone:
	case !l.going:
		add(byWorld, "the pod is deleted", (*life).deletePod)
	case !l.noticed:
		add(byNode, "kubelet stops the pod", func(l *life) { l.noticed, l.owed = true, l.program == runs })
	case l.program == ended && l.runtime == "":
		add(byNode, "the pod is gone", func(l *life) { l.gone = true; l.removePod() })
	}
	if !l.noticed && l.program == runs && !l.owed && l.stopped == 0 {
		fault(byNode, "kubelet stops a container alone", func(l *life) { l.stopped++; l.owed = true })
	}
	if !l.noticed && l.program == ended {
		add(byRuntime, "kubelet starts the container again", (*life).startAgain)
	}
	fault(byNode, "the node loses its power", func(l *life) { l.dirty = true; l.putBack(l.keep().withoutPower()) })
	if l.faults > 0 {
		all[len(all)-1].kills = true
	}
	if l.away {
		add(byWorld, "the bucket answers again", func(l *life) { l.away = false })
	} else {
		fault(byWorld, "the bucket does not answer", func(l *life) { l.away = true })
	}
	c := l.hasCheckpoint()
	if c && l.deleted == 0 {
		fault(byPerson, "a person deletes the Checkpoint", (*life).deleteCheckpoint)
	}
	all = append(all, move{who: byAgent, what: "the agent looks", long: true, do: (*life).look})
	if c {
		all = append(all, move{who: byManager, what: "the manager looks at the Checkpoint", long: true, do: (*life).reconcileCheckpoint},
			move{who: byRetention, what: "the manager looks at what is to stay", do: (*life).reconcileRetention})
	}
	if l.going && !l.gone {
		all = append(all, move{who: byManager, what: "the manager looks at the pod", long: true, do: (*life).reconcilePod})
	}
	return all
}

func (l *life) hasCheckpoint() bool {
	for key := range l.server.objects {
		if strings.HasPrefix(key, "Checkpoint/") {
			return true
		}
	}
	return false
}

// must is for what the simulation itself does.
func (l *life) must(err error) {
	if err != nil {
		l.t.Helper()
		l.t.Fatal(err)
	}
}

func (l *life) changePod(change func(*corev1.Pod)) {
	pod, key := &corev1.Pod{}, keyOfObject("Pod", "default", "a")
	l.must(l.server.objects[key].into(pod))
	change(pod)
	tree, err := treeOf(pod)
	l.must(err)
	l.must(l.server.put(key, l.server.objects[key], tree, nil))
}

func (l *life) deletePod() {
	l.going = true
	l.changePod(func(p *corev1.Pod) {
		now := metav1.NewTime(l.now())
		p.DeletionTimestamp, p.Finalizers = &now, []string{"kubelet"} // which ends it
	})
}

func (l *life) removePod() { l.changePod(func(p *corev1.Pod) { p.Finalizers = nil }) }

func (l *life) deleteCheckpoint() {
	l.deleted++
	for _, c := range l.checkpoints() {
		l.must(l.user().Delete(l.ctx, c))
	}
}

// stepsOfRuntime are the next steps of the runtime (node/engine), each of which leaves behind what the real one does: its next write. Where there are
// two, either may be.
func (l *life) stepsOfRuntime() map[string]func(*life) {
	dir, record := l.lastFolder(l.onDisk)
	partial := strings.HasSuffix(dir, ".partial")
	if unsynced, of := l.unsynced(l.onDisk); !partial && unsynced != "" {
		dir, record = unsynced, of
	}
	switch {
	case l.runtime == "" && partial && l.asked, l.runtime == "" && dir != "" && l.asked:
		return map[string]func(*life){"the runtime begins to settle": func(l *life) { l.runtime, l.asked = "settles", false }}
	case l.runtime == "" && l.owed && l.program != ended && !partial:
		return map[string]func(*life){"the runtime begins to capture": func(l *life) { l.runtime = "captures" }}
	case l.runtime == "":
		return nil
	case !partial && l.runtime == "captures" && l.program != ended && l.owed:
		return map[string]func(*life){"the partial folder is made": func(l *life) { l.program = held; l.must(os.MkdirAll(l.nextFolder(), 0o700)) }}
	case partial && record == nil && l.runtime == "captures":
		return map[string]func(*life){"the record says dumping": func(l *life) { l.record(dir, capture.Dumping) }}
	case partial && record == nil:
		return map[string]func(*life){"what was cut off at its beginning is removed": func(l *life) { l.beginAgain(dir) }}
	case partial:
		return l.stepsInPartial(dir, record)
	case record != nil && record.State == capture.Complete && !capture.IsSynced(dir):
		if record.BootID != l.bootID() {
			return map[string]func(*life){"what is not on the disk is given up": func(l *life) { l.fill(dir, record) }}
		}
		return map[string]func(*life){"the disk has it": func(l *life) {
			l.must(os.WriteFile(filepath.Join(dir, capture.SyncedFile), nil, 0o600))
			l.rest()
		}}
	}
	return map[string]func(*life){"the runtime ends": (*life).rest}
}

func (l *life) stepsInPartial(dir string, record *capture.Capture) map[string]func(*life) {
	thisBoot := record.BootID == l.bootID()
	name := func(l *life) {
		final := strings.TrimSuffix(dir, ".partial")
		l.must(os.Rename(dir, final))
		if record.State == capture.Failed {
			l.program, l.owed, l.failed = ended, false, true // it got its signal
			l.rest()
			return
		}
		if thisBoot {
			l.final = isLast
		}
	}
	switch isKilled := isThere(filepath.Join(dir, "killed")); {
	case record.State == capture.Complete || record.State == capture.Failed:
		return map[string]func(*life){"the folder gets its name": name}
	case record.State == capture.Dumping && l.runtime == "captures":
		return map[string]func(*life){
			"everything is written": func(l *life) {
				images := filepath.Join(dir, "containers/app/criu")
				l.must(os.MkdirAll(images, 0o700))
				l.must(os.WriteFile(filepath.Join(images, "pages-1.img"), []byte(contentOf(l.lives)), 0o600))
				l.record(dir, capture.Dumped)
			},
			"the dump fails": func(l *life) { l.fill(dir, record) },
		}
	case record.State == capture.Dumping && l.program == held && l.tries == 0:
		return map[string]func(*life){"what was cut off is begun again": func(l *life) { l.tries++; l.beginAgain(dir) }}
	case record.State == capture.Dumped && thisBoot && !isKilled:
		return map[string]func(*life){"the processes are ended": func(l *life) {
			l.program, l.owed = ended, false
			l.must(os.WriteFile(filepath.Join(dir, "killed"), nil, 0o600))
		}}
	case record.State == capture.Dumped && thisBoot:
		return map[string]func(*life){"the record says complete": func(l *life) {
			l.must(os.Remove(filepath.Join(dir, "killed")))
			l.record(dir, capture.Complete)
		}}
	}
	return map[string]func(*life){"what was cut off is given up": func(l *life) { l.fill(dir, record) }}
}

// rest ends the runtime, unless there is something that it owes.
func (l *life) rest() {
	l.runtime, l.dirty = "", true
	if unsynced, _ := l.unsynced(l.readDisk()); unsynced != "" {
		l.runtime = "settles"
	}
}

// beginAgain removes a folder, and captures anew if there is still something to capture.
func (l *life) beginAgain(dir string) {
	l.must(os.RemoveAll(dir))
	l.runtime = ""
	if l.owed && l.program != ended {
		l.runtime = "captures"
	}
}

func (l *life) bootID() string { return fmt.Sprintf("boot-%d", l.boots) }

// contentOf is the memory of the program in one of its lives.
func contentOf(life int) string { return fmt.Sprintf("memory of life %d", life) }

// unsynced is a finished folder of which it is not known that the disk has it.
func (l *life) unsynced(disk map[string]string) (dir string, record *capture.Capture) {
	for n := 1; n <= mostFolders; n++ {
		name := fmt.Sprintf("/%d/", n)
		_, synced := disk[name+capture.SyncedFile]
		_, uploaded := disk[name+capture.UploadedFile]
		if record := recordIn(disk, name); record != nil && record.State == capture.Complete && !synced && !uploaded {
			return filepath.Join(l.dir(), name), record
		}
	}
	return "", nil
}

// mostFolders is more than there can be.
const mostFolders = 4

// recordIn is the record of a folder as far as there is one.
func recordIn(disk map[string]string, folder string) *capture.Capture {
	if data := disk[folder+capture.FileName]; data != "" {
		if record, err := capture.Parse([]byte(data)); err == nil {
			return record
		}
	}
	return nil
}

// lastFolder is the newest folder of the pod, and its record as far as there is one.
func (l *life) lastFolder(disk map[string]string) (dir string, record *capture.Capture) {
	for n := mostFolders; n > 0; n-- {
		for _, name := range []string{fmt.Sprintf("/%d/", n), fmt.Sprintf("/%d.partial/", n)} {
			if _, is := disk[name]; is {
				return filepath.Join(l.dir(), name), recordIn(disk, name)
			}
		}
	}
	return "", nil
}

func (l *life) nextFolder() string {
	last, _ := l.lastFolder(l.readDisk())
	n := 1
	if last != "" {
		n = number(strings.TrimSuffix(filepath.Base(last), ".partial")) + 1
	}
	return filepath.Join(l.dir(), fmt.Sprintf("%d.partial", n))
}

// record writes what capture.json has in a state.
func (l *life) record(dir string, state capture.State) {
	r := &capture.Capture{
		BootID: l.bootID(), State: state, Pod: capture.Pod{Namespace: "default", Name: "a", UID: capturedUID},
		Sequence: number(strings.TrimSuffix(filepath.Base(dir), ".partial")), Started: testNow.Add(time.Duration(10*l.lives)*time.Second - time.Minute),
		Trigger: capture.Trigger{Signal: "SIGTERM", Evidence: capture.OnlyContainer},
	}
	if old, err := capture.Read(dir); err == nil {
		r.Started = old.Started
	}
	if state != capture.Dumping {
		r.Containers, r.SizeBytes, r.Timings.Frozen = []capture.Container{{Name: "app", Image: "app:1"}}, 1<<20, time.Second
	}
	l.write(dir, r)
}

func (l *life) write(dir string, r *capture.Capture) {
	r.SchemaVersion = capture.SchemaVersion
	l.must(capture.NoteJSON(filepath.Join(dir, capture.FileName), r))
}

// fill makes a folder that of a failed capture.
func (l *life) fill(dir string, r *capture.Capture) {
	r.State, r.Failure = capture.Failed, &capture.Failure{Reason: capture.ReasonDumpFailed, Message: refusal}
	if r.BootID != l.bootID() {
		r.Failure = &capture.Failure{Reason: capture.ReasonInterrupted, Message: "the node went down before the state was on its disk"}
	}
	r.Containers, r.SizeBytes = nil, 0
	l.write(dir, r)
	l.must(os.RemoveAll(filepath.Join(dir, "containers")))
	if !strings.HasSuffix(dir, ".partial") {
		l.failed = true
		l.rest()
	}
}

// startAgain is what the runtime does when kubelet makes a container anew in a pod that stays: what was captured of it is not wanted.
func (l *life) startAgain() {
	for _, name := range namesIn(l.dir()) {
		dir := filepath.Join(l.dir(), name)
		if record, err := capture.Read(dir); number(strings.TrimSuffix(name, ".partial")) > 0 && err == nil && record.State != capture.Failed {
			l.must(os.WriteFile(filepath.Join(dir, capture.DiscardedFile), []byte("the pod went on\n"), 0o600))
		}
	}
	l.program, l.owed, l.final, l.failed = runs, false, "", false
	l.lives++
}

// withoutPower is the situation after the node has gone down: nothing runs there any more, and what is not known to be on the disk is not.
func (s *situation) withoutPower() *situation {
	return s.with(func(s *situation) {
		s.boots++
		s.runtime, s.asked, s.owed, s.program, s.memory = "", false, false, ended, map[string]publication{}
		s.disk = maps.Clone(s.disk)
		for name := range s.disk {
			folder, file, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
			has := func(file string) bool { _, has := s.disk["/"+folder+"/"+file]; return has }
			if has(capture.SyncedFile) {
				continue
			}
			if file == memoFile || file == "containers/app/criu/pages-1.img" {
				s.disk[name] = ""
			}
			if s.final == isLast && file == "" && number(folder) > 0 && !has(capture.UploadedFile) && !has(capture.DiscardedFile) {
				s.final = mayBeLast
			}
		}
	})
}

func (l *life) checkpoints() (all []client.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.server.objects {
		if strings.HasPrefix(key, "Checkpoint/") {
			o := &metav1.PartialObjectMetadata{}
			l.must(json.Unmarshal([]byte(l.server.objects[key].data), o))
			all = append(all, checkpointNamed(o.Namespace, o.Name))
		}
	}
	return all
}

func (l *life) reconcileCheckpoint() {
	c := l.user()
	r := &checkpoint.Reconciler{
		Client: c, Live: c, Recorder: events.NewFakeRecorder(100), Now: l.now, Options: checkpoint.Options{Namespace: "operator", Open: l.open},
	}
	for _, o := range l.checkpoints() {
		_, err := r.Reconcile(l.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
		l.said(err)
	}
}

func (l *life) reconcileRetention() {
	r := &retention.Reconciler{Client: l.user(), Recorder: events.NewFakeRecorder(100), Now: l.now}
	request := ctrl.Request{}
	request.Namespace = "default"
	_, err := r.Reconcile(l.ctx, request)
	l.said(err)
}

func (l *life) reconcilePod() {
	c := l.user()
	r := &podcontroller.Reconciler{Client: c, Live: c, Events: events.NewFakeRecorder(100), Now: l.now, Operator: "operator"}
	_, err := r.Reconcile(l.ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "default", Name: "a"}})
	l.said(err)
}

// said is for errors of the manager, which is called again after each.
func (l *life) said(err error) {
	if err != nil && errors.Is(err, os.ErrInvalid) {
		l.t.Error(err)
	}
}
