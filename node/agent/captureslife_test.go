package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage"
)

// life is one node, one API server and one bucket, of which a whole situation can be kept and put back.
type life struct {
	t      *testing.T
	ctx    context.Context // whose logger says nothing
	scheme *runtime.Scheme
	root   string
	lock   *os.File
	onDisk map[string]string // as the folder of captures was seen last
	dirty  bool              // it may be another since
	files  map[string]file
	boot   int // as it is written down

	mu     sync.Mutex // held for each access to what follows
	server *server
	bucket bucketOf
	circumstances
	memory map[string]publication // of the agent, by folders

	// between is called before and after each write of the process that is looked at; no other is then.
	between func()
	// after is called after each write of whoever comes between.
	after  func()
	turn   sync.Mutex
	nested bool
	// deletes says that the process that is looked at may be deleting in the bucket: of one process there is only one such deletion at a time.
	deletes bool

	contents map[[sha256.Size]byte]string // what was read from a bucket
}

// The states of the pod's program.
const (
	runs  = "runs"
	held  = "held" // by the freezer
	ended = "ended"
)

// circumstances are what is durable besides files, objects and the bucket, and what holds as long as nothing is killed.
type circumstances struct {
	going   bool // the pod is deleted
	noticed bool // and kubelet has noticed it
	gone    bool
	program string
	owed    bool   // a stop signal came, and was not delivered
	runtime string // what a runtime does that works on the captures: it captures, or settles; empty is that there is none
	asked   bool   // the agent has asked for one that settles
	stopped int    // how often a container was stopped alone
	tries   int    // captures that were begun again
	boots   int    // how often the node has gone down
	away    bool   // the bucket does not answer
	clock   int    // into hours
	faults  int    // that may still come

	// What is true, however it is said. lives is how often the program was started again, and final whether there is a capture of the last one.
	lives   int
	final   string
	failed  bool // what would be the last one has
	deleted int  // by a person, how often
}

// What is known of a capture of the program's last life: that it is complete; that it was not on the disk when the power went, and may be in the bucket.
const (
	isLast    = "last"
	mayBeLast = "maybe"
)

// hours are what the clock may show: the beginning; when an upload that was under way must have ended; when the copy of an uploaded state is of no more
// use on the node; when a state is too old; and when one that has expired goes.
var hours = []time.Duration{0, 16 * time.Second, 11 * time.Minute, 8 * 24 * time.Hour, 8*24*time.Hour + 2*time.Minute}

// bucketOf is what is in a bucket.
type bucketOf map[string][]byte

// situation is all of it. It is never changed.
type situation struct {
	circumstances
	server server
	bucket bucketOf
	disk   map[string]string
	memory map[string]publication
	hash   [sha256.Size]byte
	// shared is that of what a manager sees, and near that of what the agent does.
	shared, near [sha256.Size]byte
	// of is its Checkpoint, and look what it looks like, as soon as somebody has asked.
	of      *v1alpha1.Checkpoint
	look    *sight
	history string // how it came about, for a person
}

const capturedUID = "a-uid"

func newLife(t *testing.T) *life {
	t.Helper()
	root, err := os.MkdirTemp("/dev/shm", "captures") //nolint:usetesting // many thousand files are written: into memory
	if err != nil {
		root = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	l := &life{
		t: t, files: map[string]file{}, dirty: true, onDisk: map[string]string{}, contents: map[[sha256.Size]byte]string{},
		ctx: ctrl.LoggerInto(t.Context(), logr.Discard()), root: root, scheme: runtime.NewScheme(), server: &server{objects: map[string]kept{}},
		bucket: map[string][]byte{}, boot: -1,
	}
	if err := errors.Join(corev1.AddToScheme(l.scheme), v1alpha1.AddToScheme(l.scheme)); err != nil {
		t.Fatal(err)
	}
	l.program, l.memory = runs, map[string]publication{}
	pod := newPod("a", func(p *corev1.Pod) {
		p.OwnerReferences = nil
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	})
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-1"}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	location := &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	location.Spec.Role, location.Spec.Credentials.SecretName = v1alpha1.RoleDefault, "bucket"
	for _, o := range []client.Object{pod, node, location, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: "bucket"}}} {
		if err := l.server.create(o); err != nil {
			t.Fatal(err)
		}
	}
	l.dir() // and the lock
	if err := l.agent().takeNote(pod); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *life) now() time.Time { return testNow.Add(hours[l.clock]) }

func (l *life) dir() string {
	dir := capture.Node{Root: l.root}.Captures(capturedUID)
	if l.lock == nil {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			l.lock, err = os.Create(filepath.Join(dir, "lock"))
		}
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { _ = l.lock.Close() })
	}
	return dir
}

// cross does a write of a process. Another process may be at work before and after it.
func (l *life) cross(do func() error) error {
	write := func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		return do()
	}
	if l.nested || l.between == nil { // by whoever came between
		err := write()
		if l.nested {
			l.after()
		}
		return err
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	l.between()
	err := write()
	l.between()
	return err
}

func (l *life) user() *user {
	return &user{life: l, around: func(do func() error) error {
		l.deletes = l.deletes && l.nested
		return l.cross(do)
	}}
}

// agent is the agent of the node, with what it remembers.
func (l *life) agent() *Agent {
	c := l.user()
	a := &Agent{
		Node: capture.Node{Root: l.root}, NodeName: "worker-1", Namespace: "operator", Client: c, Everywhere: c, Recorder: events.NewFakeRecorder(100),
		Open: l.open, Now: l.now, stores: map[string]storage.Store{}, noted: map[types.UID]int{}, work: map[string]*publication{}, ahead: map[string]*ahead{},
		fetches: make(chan struct{}, fetchesAtOnce), nearlyFull: func(string) bool { return false },
		Settle: func(context.Context, string) error { l.asked = true; return nil },
	}
	dirs, err := filepath.Glob(filepath.Join(l.dir(), "[0-9]*"))
	l.must(err)
	for _, dir := range dirs {
		p := l.memory[dir]
		p.unlocked = l.now().Add(-settleAfter) // so long it has waited
		a.work[dir] = &p
	}
	return a
}

func (l *life) open(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
	return &shelf{life: l}, nil
}

// shelf is a process's access to the bucket.
type shelf struct {
	storage.Store // of which an image needs the rest alone
	life          *life
}

func (s *shelf) away() error {
	if s.life.away {
		return storage.ErrUnavailable
	}
	return nil
}

func (s *shelf) Put(_ context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	r, err := body.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.life.cross(func() error {
		if err := s.away(); err != nil {
			return err
		}
		if _, there := s.life.bucket[key]; there && opts.IfAbsent {
			return storage.ErrExist
		}
		s.life.bucket[key] = data
		return nil
	})
}

func (s *shelf) Delete(_ context.Context, key string) error {
	if !s.life.nested && path.Base(path.Dir(key)) == "manifests" {
		s.life.deletes = true
	}
	s.life.mu.Lock()
	_, there := s.life.bucket[key]
	away := s.away()
	s.life.mu.Unlock()
	if !there || away != nil {
		return away
	}
	return s.life.cross(func() error {
		if err := s.away(); err != nil {
			return err
		}
		delete(s.life.bucket, key)
		return nil
	})
}

// read returns what reads one state of the bucket.
func (s *shelf) read() *memory {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	return &memory{objects: maps.Clone(s.life.bucket), broken: s.away()}
}

func (s *shelf) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	return s.read().Get(ctx, key, r)
}

func (s *shelf) Stat(ctx context.Context, key string) (storage.Info, error) {
	return s.read().Stat(ctx, key)
}

func (s *shelf) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return s.read().List(ctx, prefix, after)
}

// look has the agent look at all folders once, and lets it do what that begins.
func (l *life) look() {
	cryptotest.SetGlobalRandom(l.t, 1) // what is the same is to look the same
	a := l.agent()
	for _, dir := range a.inOrder(slices.Collect(maps.Keys(a.work))) {
		places := newSlots(1)
		if strings.HasSuffix(dir, ".partial") {
			places = newSlots(0) // nothing is sent ahead
		}
		a.look(l.ctx, dir, places)
		for b := (&bench{Agent: a}); b.isBusy(dir); {
			time.Sleep(20 * time.Microsecond)
		}
	}
	l.memory = map[string]publication{}
	for dir, p := range a.work {
		if isThere(dir) {
			l.memory[dir] = publication{seen: p.seen, goesOn: p.goesOn, told: p.told}
		}
	}
}

// file is a file of which the content is known as long as it is the same.
type file struct {
	node    uint64
	size    int64
	changed unix.Timespec
	data    string
}

// readDisk reads what is in the folder of captures.
func (l *life) readDisk() map[string]string {
	if !l.dirty {
		return l.onDisk
	}
	disk := map[string]string{}
	l.readFolder(l.dir(), "/", disk)
	return disk
}

func (l *life) readFolder(dir, name string, into map[string]string) {
	entries, err := os.ReadDir(dir + name)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	l.must(err)
	for _, entry := range entries {
		inner := name + entry.Name()
		switch {
		case inner == "/lock":
		case entry.IsDir() && entry.Name() == "containers" && l.hadFolder(inner+"/", into): // which is written once, and removed as a whole
		case entry.IsDir():
			into[inner+"/"] = ""
			l.readFolder(dir, inner+"/", into)
		default:
			var now unix.Stat_t
			if unix.Lstat(dir+inner, &now) != nil {
				continue
			}
			f := l.files[inner]
			if f.node != now.Ino || f.size != now.Size || f.changed != now.Mtim {
				data, err := os.ReadFile(dir + inner)
				if err != nil {
					continue
				}
				f = file{now.Ino, now.Size, now.Mtim, string(data)}
				l.files[inner] = f
			}
			into[inner] = f.data
		}
	}
}

// hadFolder adds what was in a folder, if it was there.
func (l *life) hadFolder(name string, into map[string]string) bool {
	if _, had := l.onDisk[name]; !had {
		return false
	}
	for inner, data := range l.onDisk {
		if strings.HasPrefix(inner, name) {
			into[inner] = data
		}
	}
	return true
}

// keep returns the situation as it is.
func (l *life) keep() *situation {
	disk := l.readDisk()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onDisk = disk
	s := &situation{circumstances: l.circumstances, bucket: maps.Clone(l.bucket), disk: disk, memory: maps.Clone(l.memory)}
	s.server = server{objects: maps.Clone(l.server.objects), writes: l.server.writes, made: l.server.made}
	s.sum()
	return s
}

// putBack makes a situation the one that is there.
func (l *life) putBack(s *situation) {
	dir := l.dir()
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(l.onDisk))) {
		if data, is := s.disk[name]; !is || data != l.onDisk[name] && !strings.HasSuffix(name, "/") {
			_ = os.Remove(dir + name) // what cannot be removed is found when it differs
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.disk)) {
		data, was := l.onDisk[name]
		var err error
		switch {
		case was && data == s.disk[name]:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(dir+name, 0o700)
		default:
			err = os.WriteFile(dir+name, []byte(s.disk[name]), 0o600)
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
	l.onDisk = s.disk
	l.circumstances, l.bucket, l.memory = s.circumstances, maps.Clone(s.bucket), maps.Clone(s.memory)
	l.server = &server{objects: maps.Clone(s.server.objects), writes: s.server.writes, made: s.server.made}
	how := unix.LOCK_UN
	if l.runtime != "" {
		how = unix.LOCK_EX
	}
	if err := unix.Flock(int(l.lock.Fd()), how); err != nil {
		l.t.Fatal(err)
	}
	l.writeBoot()
}

func (l *life) writeBoot() {
	if l.boot == l.boots {
		return
	}
	l.boot = l.boots
	file := filepath.Join(l.root, "proc/sys/kernel/random/boot_id")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(fmt.Sprintf("boot-%d", l.boots)), 0o600)); err != nil {
		l.t.Fatal(err)
	}
}

// sum makes the hashes, which are the same for situations that differ by nothing that matters: by versions, by sentences, and by when a file
// was written.
func (s *situation) sum() {
	hash, manifest := sha256.New(), ""
	say := func(words ...string) {
		for _, word := range words {
			_, _ = fmt.Fprintf(hash, "%d ", len(word))
			_, _ = io.WriteString(hash, word) // it never fails
		}
	}
	_, _ = fmt.Fprint(hash, s.clock, s.away, s.server.made)
	for _, key := range slices.Sorted(maps.Keys(s.bucket)) {
		if path.Base(path.Dir(key)) == "manifests" { // which has the times of files
			manifest = fmt.Sprintf("%x", sha256.Sum256(s.bucket[key]))
			say(key)
			continue
		}
		say(key, string(s.bucket[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(s.server.objects)) {
		o := s.server.objects[key]
		say(key, withoutDigests(withoutSentences(o.data), manifest))
		for _, by := range slices.Sorted(maps.Keys(o.owners)) {
			say(by)
			say(slices.Sorted(maps.Keys(o.owners[by]))...)
		}
	}
	s.shared = [sha256.Size]byte(hash.Sum(nil))
	for _, name := range slices.Sorted(maps.Keys(s.disk)) {
		say(name)
		if strings.HasSuffix(name, ".journal") {
			for line := range strings.Lines(s.disk[name]) {
				_, line, _ = strings.Cut(line, " ") // behind its checksum
				say(withoutDigests(line, manifest))
			}
			continue
		}
		say(s.disk[name])
	}
	for _, dir := range slices.Sorted(maps.Keys(s.memory)) {
		if strings.HasSuffix(dir, ".partial") { // else nothing of it matters, as there is always a place for an upload
			_, _ = fmt.Fprint(hash, filepath.Base(dir), s.memory[dir].seen)
		}
	}
	_, _ = fmt.Fprint(hash, s.runtime != "", s.asked, s.boots)
	s.near = [sha256.Size]byte(hash.Sum(nil))
	_, _ = fmt.Fprintf(hash, "%+v", s.circumstances)
	s.hash = [sha256.Size]byte(hash.Sum(nil))
}

// withoutSentences leaves out what conditions say for a person.
func withoutSentences(text string) string {
	parts := strings.Split(text, `"message":"`)
	for i := 1; i < len(parts); i++ {
		_, parts[i], _ = strings.Cut(parts[i], `","reason"`)
	}
	return strings.Join(parts, "")
}

// withoutDigests replaces digests of manifests by whether they are that of the manifest that is there.
func withoutDigests(text, manifest string) string {
	const digits = 2 * sha256.Size
	parts := strings.Split(text, "sha256:")
	for i := 1; i < len(parts); i++ {
		if len(parts[i]) >= digits {
			parts[i] = fmt.Sprint(parts[i][:digits] == manifest) + parts[i][digits:]
		}
	}
	return strings.Join(parts, "")
}

// checkpoint is the Checkpoint of the pod's last state, or nil.
func (s *situation) checkpoint() *v1alpha1.Checkpoint {
	if s.of != nil {
		return s.of
	}
	for key, o := range s.server.objects {
		if strings.HasPrefix(key, "Checkpoint/") {
			s.of = &v1alpha1.Checkpoint{}
			if json.Unmarshal([]byte(o.data), s.of) == nil {
				return s.of
			}
		}
	}
	return nil
}
