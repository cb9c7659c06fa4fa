package agent

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
)

var testNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// newPod is a protected pod of a ReplicaSet, bound a second ago.
func newPod(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	yes, class := true, keys.RuntimeClass
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: uid(name + "-uid"), Annotations: map[string]string{keys.Effective: "{}"},
			Labels:          map[string]string{keys.CheckpointMode: keys.True, "pod-template-hash": "1"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "web-uid", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "worker-1", RuntimeClassName: &class},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testNow.Add(-time.Second))},
		}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func going(p *corev1.Pod) { now := metav1.NewTime(testNow); p.DeletionTimestamp = &now }

func evicted(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }

// bench is an agent with a node, an API server and a bucket of its own, and a clock that stands still.
type bench struct {
	*Agent
	t     *testing.T
	store *memory
	now   time.Time
}

// refusal is an error line of CRIU that the table of advice has.
const refusal = "Error (criu/proc_parse.c:502): Unknown shit 600 (anon_inode:[io_uring])"

func newBench(t *testing.T, objects ...client.Object) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	objects = append(objects, &v1alpha1.CheckpointStorageLocation{
		ObjectMeta: metav1.ObjectMeta{Name: "main"},
		Spec:       v1alpha1.CheckpointStorageLocationSpec{Role: v1alpha1.RoleDefault, Credentials: v1alpha1.LocationCredentials{SecretName: "bucket"}},
	}, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: "bucket"}})
	b := &bench{t: t, now: testNow, store: &memory{objects: map[string][]byte{}}}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Checkpoint{}, &corev1.Pod{}).
		WithInterceptorFuncs(interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if o.GetUID() == "" {
				o.SetUID(uid(o.GetName() + "-uid")) // as the API server does
			}
			return c.Create(ctx, o, opts...)
		}}).Build()
	b.Agent = &Agent{
		Node: capture.Node{Root: t.TempDir()}, NodeName: "worker-1", Namespace: "operator", Client: c, Everywhere: c, Recorder: events.NewFakeRecorder(100),
		Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return b.store, nil
		},
		Now: func() time.Time { return b.now }, stores: map[string]storage.Store{}, noted: map[types.UID]int{},
		work: map[string]*publication{}, ahead: map[string]*ahead{}, fetches: make(chan struct{}, fetchesAtOnce),
		nearlyFull: func(string) bool { return false },
		Settle:     func(context.Context, string) error { t.Error("the runtime was asked to settle"); return nil },
	}
	return b
}

// captured makes the folder of a capture of a pod, as the runtime leaves it.
func (b *bench) captured(pod *corev1.Pod, name string, state capture.State) (dir string) {
	b.t.Helper()
	boot, _ := b.Node.BootID() // where boots has said it
	record := &capture.Capture{
		BootID: boot, State: state, Pod: capture.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}, Sequence: 1,
		Started: testNow.Add(-time.Minute), Timings: capture.Timings{Frozen: time.Second},
	}
	dir = filepath.Join(b.Node.Captures(string(pod.UID)), name)
	if err := os.MkdirAll(filepath.Join(dir, "containers/app/criu"), 0o700); err != nil {
		b.t.Fatal(err)
	}
	switch state {
	case capture.Failed:
		record.Failure = &capture.Failure{Reason: capture.ReasonDumpFailed, Message: refusal, Errors: []string{refusal}, LogTail: "the end of the log"}
	case capture.Complete:
		record.Trigger.Signal = "SIGTERM" // in other states its memory would be sent ahead
		record.Containers, record.SizeBytes = []capture.Container{{Name: "app", Image: "app:1"}}, 1<<20
		b.write(filepath.Join(dir, "containers/app/criu/pages-1.img"), "memory")
		b.write(filepath.Join(dir, capture.SyncedFile), "")
	}
	if err := record.Write(dir); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// lock holds the lock of a pod's captures, as the runtime does while it works on one.
func (b *bench) lock(podUID string) {
	b.t.Helper()
	file, err := os.Create(filepath.Join(b.Node.Captures(podUID), "lock"))
	if err == nil {
		b.t.Cleanup(func() { _ = file.Close() })
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(path, text string) {
	b.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// look has the agent look at a folder once, and waits for the upload or the withdrawal that this may begin.
func (b *bench) look(dir string) {
	b.t.Helper()
	slots := newSlots(1)
	b.Agent.look(b.t.Context(), dir, slots)
	b.awaitUploads(slots)
	for b.isBusy(dir) {
		time.Sleep(time.Millisecond)
	}
}

func (b *bench) isBusy(dir string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.work[dir]
	return p != nil && p.busy
}

// awaitUploads waits until no upload goes on.
func (b *bench) awaitUploads(slots *slots) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		slots.mu.Lock()
		held := slots.held[false] + slots.held[true]
		slots.mu.Unlock()
		if held == 0 {
			return
		}
	}
	b.t.Fatal("the upload does not end")
}

func (b *bench) checkpoint(name string) *v1alpha1.Checkpoint {
	b.t.Helper()
	c := &v1alpha1.Checkpoint{}
	if err := b.Client.Get(b.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, c); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// checkpoints returns how many there are.
func (b *bench) checkpoints() int {
	b.t.Helper()
	list := &v1alpha1.CheckpointList{}
	if err := b.Client.List(b.t.Context(), list); err != nil {
		b.t.Fatal(err)
	}
	return len(list.Items)
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// memory is a store, of which only what an image needs is there.
type memory struct {
	storage.Store
	mu      sync.Mutex
	objects map[string][]byte
	broken  error // what all calls end with
	calls   int
	before  func(ctx context.Context, call, key string) // of Put and Delete
}

func (m *memory) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	if m.before != nil {
		m.before(ctx, "Put", key)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r, err := body.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if _, there := m.objects[key]; err == nil && there && opts.IfAbsent {
		return storage.ErrExist
	}
	if err == nil && m.broken == nil {
		m.objects[key] = data
	}
	return cmp.Or(err, m.broken)
}

func (m *memory) Get(_ context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, there := m.objects[key]
	if !there {
		return nil, cmp.Or(m.broken, storage.ErrNotExist)
	}
	data = data[r.Offset:]
	if r.Length > 0 {
		data = data[:min(r.Length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), m.broken
}

func (m *memory) Stat(_ context.Context, key string) (storage.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, there := m.objects[key]
	if !there {
		return storage.Info{}, cmp.Or(m.broken, storage.ErrNotExist)
	}
	return storage.Info{Key: key, Size: int64(len(data))}, m.broken
}

func (m *memory) List(_ context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	objects, broken := maps.Clone(m.objects), m.broken
	return func(yield func(storage.Info, error) bool) {
		if broken != nil {
			yield(storage.Info{}, broken)
			return
		}
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if strings.HasPrefix(key, prefix) && key > after && !yield(storage.Info{Key: key, Size: int64(len(objects[key]))}, nil) {
				return
			}
		}
	}
}

func (m *memory) Delete(ctx context.Context, key string) error {
	if m.before != nil {
		m.before(ctx, "Delete", key)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return m.broken
}

// keys returns what is in the store below a prefix.
func (m *memory) keys(prefix string) (found []string) {
	for info, err := range m.List(context.Background(), prefix, "") {
		if err == nil {
			found = append(found, info.Key)
		}
	}
	return found
}
