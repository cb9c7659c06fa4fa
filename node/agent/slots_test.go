package agent

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	const gone, goesOn = false, true
	for name, test := range map[string]struct {
		held []bool
		asks bool
		want bool
	}{
		"the first":                               {nil, gone, true},
		"the last":                                {[]bool{gone}, gone, true},
		"one too many":                            {[]bool{gone, gone}, gone, false},
		"those of pods that go on do not count":   {[]bool{goesOn, goesOn}, gone, true},
		"nor do they when there are others":       {[]bool{goesOn, goesOn, gone}, gone, true},
		"but only so many others":                 {[]bool{goesOn, goesOn, gone, gone}, gone, false},
		"the last of a pod that goes on":          {[]bool{gone}, goesOn, true},
		"one too many of pods that go on":         {[]bool{goesOn, goesOn}, goesOn, false},
		"for pods that go on, all others count":   {[]bool{gone, gone}, goesOn, false},
		"they count as well when there are mixed": {[]bool{gone, goesOn}, goesOn, false},
	} {
		t.Run(name, func(t *testing.T) {
			slots := newSlots(2)
			for _, kind := range test.held {
				if slots.take(kind) == nil {
					t.Fatalf("there is no place for %v", test.held)
				}
			}
			if got := slots.take(test.asks) != nil; got != test.want {
				t.Errorf("beside %v: it got a place: %t, want %t", test.held, got, test.want)
			}
		})
	}
}

// stuck is a store that keeps whoever puts something for a Checkpoint whose name has one of the words waiting.
type stuck struct {
	*memory
	goOn map[string]chan struct{} // by the word
}

func (s *stuck) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	for word, goOn := range s.goOn {
		if strings.Contains(key, word) {
			<-goOn
		}
	}
	return s.memory.Put(ctx, key, body, opts)
}

// periodic makes the folder of a capture one of a pod that goes on after it.
func (b *bench) periodic(dir string) string {
	b.t.Helper()
	record, err := capture.Read(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	record.Trigger = capture.Trigger{}
	if err := record.Write(dir); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// uploaded returns the conditions Uploaded of the Checkpoints of pods, in one word or their message.
func (b *bench) uploaded(pods ...*corev1.Pod) (all []string) {
	b.t.Helper()
	for _, pod := range pods {
		c := meta.FindStatusCondition(b.checkpoint(v1alpha1.TerminationName(pod.Name, pod.UID)).Status.Conditions, v1alpha1.CheckpointUploaded)
		switch {
		case c == nil:
			all = append(all, "")
		case c.Reason == v1alpha1.StatePending:
			all = append(all, c.Message)
		default:
			all = append(all, c.Reason)
		}
	}
	return all
}

// A namespace that has many states to send does not keep another's waiting for all of them.
func TestNamespacesTakeTurns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	folder := func(namespace, name string, age time.Duration, goesOn bool) string {
		pod := newPod(name, func(p *corev1.Pod) { p.Namespace = namespace })
		dir := b.captured(pod, "1", capture.Complete)
		record, err := capture.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		record.Started = testNow.Add(-age)
		if goesOn {
			record.Trigger = capture.Trigger{}
		}
		if err := record.Write(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	oldest, old, young := folder("many", "a", 5*time.Minute, false), folder("many", "b", 4*time.Minute, false), folder("many", "c", 3*time.Minute, false)
	live := folder("few", "d", time.Hour, true)
	single := folder("few", "e", time.Minute, false)
	sent := folder("few", "f", 2*time.Minute, false)
	b.write(filepath.Join(sent, capture.UploadedFile), "")
	order := func() []string { return b.inOrder([]string{young, live, single, old, sent, oldest}) }
	if diff := cmp.Diff([]string{oldest, sent, single, old, young, live}, order()); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
	b.work[oldest].busy = true
	if diff := cmp.Diff([]string{sent, single, oldest, old, young, live}, order()); diff != "" {
		t.Errorf("while one of many is on its way (-want +got):\n%s", diff)
	}
}

func TestTerminationsGoFirst(t *testing.T) {
	t.Parallel()
	periodic, termination, next := newPod("a-periodic", going), newPod("b-termination", going), newPod("c-termination", going)
	b := newBench(t)
	dirs := []string{b.periodic(b.captured(periodic, "1", capture.Complete)), b.captured(termination, "1", capture.Complete)}
	slots, first, second := newSlots(1), make(chan struct{}), make(chan struct{})
	store := &stuck{memory: b.store, goOn: map[string]chan struct{}{"b-termination": first, "a-periodic": second}}
	b.Open = func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
		return store, nil
	}
	round := func() {
		for _, dir := range b.inOrder(slices.Clone(dirs)) {
			b.Agent.look(t.Context(), dir, slots)
		}
	}
	round()
	close(first)
	b.awaitUploads(slots)
	if diff := cmp.Diff([]string{"it waits for its turn", v1alpha1.StateCompleted}, b.uploaded(periodic, termination)); diff != "" {
		t.Errorf("of a free place (-want +got):\n%s", diff)
	}
	round() // it begins, and takes a while
	dirs = append(dirs, b.captured(next, "1", capture.Complete))
	round()
	for end := time.Now().Add(time.Minute); b.uploaded(next)[0] != v1alpha1.StateCompleted; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it waits for the one of the pod that goes on")
		}
	}
	if diff := cmp.Diff([]string{v1alpha1.StateUploading}, b.uploaded(periodic)); diff != "" {
		t.Errorf("what was begun before (-want +got):\n%s", diff)
	}
	close(second)
	b.awaitUploads(slots)
	if diff := cmp.Diff([]string{v1alpha1.StateCompleted}, b.uploaded(periodic)); diff != "" {
		t.Errorf("in the end (-want +got):\n%s", diff)
	}
}
