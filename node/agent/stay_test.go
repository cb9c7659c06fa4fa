package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage"
)

// own is the pod of an agent.
func own(b *bench, changes ...func(*corev1.Pod)) {
	b.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "agents", Name: "agent", Finalizers: []string{"a/b"}}}
	for _, change := range changes {
		change(pod)
	}
	if err := b.Client.Create(b.t.Context(), pod); err != nil {
		b.t.Fatal(err)
	}
	b.Pod, b.Now = client.ObjectKeyFromObject(pod), time.Now
}

// ends tells whether an agent that is to end does so within a moment.
func ends(ctx context.Context, within time.Duration) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(within):
		return false
	}
}

// staysUntilSent asks the agent to end while a state is not in the bucket.
func (b *bench) staysUntilSent(pod *corev1.Pod) {
	b.t.Helper()
	dir := b.captured(pod, "1", capture.Complete)
	asked, ask := context.WithCancel(b.t.Context())
	ctx := b.Stay(asked)
	ask()
	if ends(ctx, stayQuiet+2*stayInterval) {
		b.t.Fatal("the agent ended before the state was in the bucket")
	}
	b.look(dir)
	if !ends(ctx, 10*time.Second) {
		b.t.Errorf("the agent does not end; %d states are not sent", b.unsent())
	}
}

func TestAnAgentStaysWhileItsPodIsNotDeletedAndAStateIsNotSent(t *testing.T) {
	t.Parallel()
	pod := newPod("a", evicted)
	b := newBench(t, pod)
	own(b)
	b.staysUntilSent(pod)
}

func TestTheLastAgentStaysThoughItsPodIsDeleted(t *testing.T) {
	t.Parallel()
	pod := newPod("a", evicted)
	b := newBench(t, pod)
	own(b, func(p *corev1.Pod) { p.Finalizers = nil })
	if err := b.Client.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.Pod.Namespace, Name: b.Pod.Name}}); err != nil {
		t.Fatal(err)
	}
	b.IsOver = func(context.Context) bool { return true }
	b.staysUntilSent(pod)
}

func TestTheLastAgentDoesNotStayForEver(t *testing.T) {
	t.Parallel()
	pod := newPod("a", evicted)
	b := newBench(t, pod)
	now := time.Now()
	b.Now = func() time.Time {
		now = now.Add(10 * time.Second)
		return now
	}
	b.IsOver = func(context.Context) bool { return true }
	b.captured(pod, "1", capture.Complete)
	asked, ask := context.WithCancel(t.Context())
	ctx := b.Stay(asked)
	ask()
	if !ends(ctx, 20*time.Second) {
		t.Error("the agent does not end")
	}
}

func TestAnAgentWhosePodIsDeletedEndsAtOnce(t *testing.T) {
	t.Parallel()
	pod := newPod("a", evicted)
	b := newBench(t, pod)
	own(b)
	if err := b.Client.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.Pod.Namespace, Name: b.Pod.Name}}); err != nil {
		t.Fatal(err)
	}
	b.captured(pod, "1", capture.Complete)
	asked, ask := context.WithCancel(t.Context())
	ctx := b.Stay(asked)
	if ends(ctx, 10*time.Millisecond) {
		t.Fatal("the agent ended before it was asked to")
	}
	ask()
	if !ends(ctx, time.Second) {
		t.Error("the agent does not end")
	}
}

func TestWhatAnAgentStaysFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(b *bench, pod *corev1.Pod)
		want    int
	}{
		"nothing":         {func(*bench, *corev1.Pod) {}, 0},
		"a whole capture": {func(b *bench, pod *corev1.Pod) { b.captured(pod, "1", capture.Complete) }, 1},
		"one that is written, of a pod of which there is one": {func(b *bench, pod *corev1.Pod) {
			b.captured(pod, "1", capture.Complete)
			b.captured(pod, "2.partial", capture.Complete)
		}, 1},
		"a stop signal that nobody has answered yet": {func(b *bench, pod *corev1.Pod) {
			b.put(map[string]string{"run/checkpoint/signals/" + string(pod.UID) + "/c": ""})
		}, 1},
		"one that failed": {func(b *bench, pod *corev1.Pod) { b.captured(pod, "1", capture.Failed) }, 0},
		"one of a pod that goes on": {func(b *bench, pod *corev1.Pod) {
			b.periodic(b.captured(pod, "1", capture.Complete))
		}, 0},
		"one that is not wanted": {func(b *bench, pod *corev1.Pod) {
			b.write(filepath.Join(b.captured(pod, "1", capture.Complete), capture.DiscardedFile), "why")
		}, 0},
		"one that is in the bucket": {func(b *bench, pod *corev1.Pod) { b.look(b.captured(pod, "1", capture.Complete)) }, 0},
		"a bucket that does not answer": {func(b *bench, pod *corev1.Pod) {
			b.store.broken = os.ErrDeadlineExceeded
			b.look(b.captured(pod, "1", capture.Complete))
		}, 1},
		"a bucket that refuses": {func(b *bench, pod *corev1.Pod) {
			b.store.broken = storage.ErrAccessDenied
			b.look(b.captured(pod, "1", capture.Complete))
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := newPod("a", evicted)
			b := newBench(t, pod)
			test.prepare(b, pod)
			if got := b.unsent(); got != test.want {
				t.Errorf("it stays for %d, want %d", got, test.want)
			}
		})
	}
}

func TestAnAgentThatIsNoPodDoesNotStay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if !b.isReplaced(t.Context()) {
		t.Error("it stays")
	}
	b.Pod = client.ObjectKey{Namespace: "checkpoint-agents", Name: "gone"}
	if !b.isReplaced(t.Context()) {
		t.Error("it stays though its pod is gone")
	}
	b.Everywhere = deaf{b.Client}
	if b.isReplaced(t.Context()) {
		t.Error("it ends though nobody knows")
	}
}

// deaf is an API server that does not answer.
type deaf struct{ client.Reader }

func (deaf) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return context.DeadlineExceeded
}
