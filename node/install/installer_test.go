package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// fakeRuntime is a containerd 2 whose files lie in a folder: it reads its configuration when it is restarted.
type fakeRuntime struct {
	p        platform
	dir      string
	dump     map[string]any
	served   []string
	restarts int
	pods     []string
	refuses  error
	lacks    uint64            // capabilities
	programs map[string]string // what they say, by their command lines; with "!" before it they fail
}

func (f *fakeRuntime) name() string { return "fake" }
func (f *fakeRuntime) root() string { return f.dir }

func (f *fakeRuntime) handlers(_ context.Context, home string) ([]handler, error) {
	return deriveHandlers(f.dump, home)
}

func (f *fakeRuntime) targets(_ context.Context, c configuration, handlers []handler) ([]target, error) {
	text, err := c.without(f.p.main)
	if err != nil {
		return nil, err
	}
	return register(layout{path: f.p.main, text: text, dump: f.dump}, handlers)
}

func (f *fakeRuntime) wouldServe(context.Context, []handler) error { return f.refuses }
func (f *fakeRuntime) serves(context.Context) ([]string, error)    { return f.served, nil }
func (f *fakeRuntime) sandboxes(context.Context) ([]string, error) { return slices.Clone(f.pods), nil }
func (f *fakeRuntime) dropIn() string {
	return filepath.Join(f.dir, "etc/containerd/conf.d", dropInName)
}
func (f *fakeRuntime) find(context.Context) (containerRuntime, error) { return f, nil }
func (f *fakeRuntime) home(more ...string) string {
	return filepath.Join(append([]string{f.dir, f.p.home}, more...)...)
}
func (f *fakeRuntime) node() capture.Node { return capture.Node{Root: f.dir} }

func (f *fakeRuntime) version(context.Context) (string, error) { return "fake 2.0", nil }
func (f *fakeRuntime) capabilities() (uint64, error)           { return ^f.lacks, nil }

func (f *fakeRuntime) says(_ context.Context, program string, words ...string) (string, error) {
	says, known := f.programs[strings.Join(append([]string{program}, words...), " ")]
	if !known {
		return "", os.ErrNotExist
	}
	if text, fails := strings.CutPrefix(says, "!"); fails {
		return text, errors.New("exit status 1")
	}
	return says, nil
}

func (f *fakeRuntime) restart(context.Context) error {
	f.restarts++
	f.served = []string{"runc"}
	for _, path := range []string{"conf.d/" + dropInName, "config.toml"} {
		data, err := os.ReadFile(filepath.Join(f.dir, "etc/containerd", path))
		for _, name := range []string{"transparent-checkpoint", "transparent-checkpoint-nvidia"} {
			if err == nil && strings.Contains(string(data), ".runtimes."+name+"]") {
				f.served = append(f.served, name)
			}
		}
	}
	return nil
}

// newInstaller returns one for a node of testdata, its container runtime, and what was told.
func newInstaller(t *testing.T, name string, objects ...client.Object) (*Installer, *fakeRuntime, *events.FakeRecorder) {
	t.Helper()
	f := &fakeRuntime{p: platform{name: name}, served: []string{"runc"}}
	root, l := f.p.node(t)
	f.dir, f.dump = root, l.dump
	recorder := events.NewFakeRecorder(20)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"theirs": "stays"}}}
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(append(objects, node)...).Build()
	return &Installer{
		NodeName: "n", Client: c, Everywhere: c, Recorder: recorder, From: imageOf(t, "1"), find: f.find, inUse: func(string) bool { return false },
	}, f, recorder
}

func labelsOf(t *testing.T, i *Installer) map[string]string {
	t.Helper()
	node := &corev1.Node{}
	if err := i.Client.Get(t.Context(), client.ObjectKey{Name: "n"}, node); err != nil {
		t.Fatal(err)
	}
	delete(node.Labels, "theirs")
	return node.Labels
}

func told(recorder *events.FakeRecorder) (all []string) {
	for len(recorder.Events) > 0 {
		all = append(all, <-recorder.Events)
	}
	return all
}

func TestANodeIsInstalledOnceAndLookedAfter(t *testing.T) {
	i, f, recorder := newInstaller(t, "nvidia")
	if !i.once(t.Context()) {
		t.Fatal("it did not succeed", told(recorder))
	}
	ready := map[string]string{keys.NodeReady: keys.True, keys.NodeReady + "-nvidia": keys.True}
	if diff := cmp.Diff(ready, labelsOf(t, i)); diff != "" || f.restarts != 1 {
		t.Errorf("after %d restarts the labels are (-want +got)\n%s", f.restarts, diff)
	}
	config, err := capture.ReadRuntimeConfig(f.home())
	if err != nil || config.Runtime != "runc" || config.Runtimes["nvidia"] != "/usr/bin/nvidia-container-runtime" ||
		config.CRIUDirectory != "/opt/checkpoint/criu" {
		t.Errorf("the runtime works with %+v, %v", config, err)
	}
	if !i.once(t.Context()) || f.restarts != 1 || len(told(recorder)) > 0 {
		t.Errorf("the second time it is restarted, or something is told")
	}
	for what, change := range map[string]struct {
		path     string
		restarts int
	}{"a program": {f.home("bin/checkpoint-runtime"), 0}, "the drop-in": {f.dropIn(), 1}} {
		before := f.restarts
		write(t, change.path, "changed")
		if !i.once(t.Context()) || f.restarts-before != change.restarts {
			t.Errorf("%s was changed: %d restarts", what, f.restarts-before)
		}
		if all := told(recorder); len(all) != 1 || !strings.Contains(all[0], "InstallRepaired") || !strings.Contains(all[0], filepath.Base(change.path)) {
			t.Errorf("%s was changed, and it tells %v", what, all)
		}
	}
}

func TestAConfigurationThatWouldNotServeIsTakenBack(t *testing.T) {
	i, f, recorder := newInstaller(t, "containerd-v3-no-imports")
	before := written(t, f.dir, "/opt/checkpoint")
	f.refuses = errors.New("it would have lost something")
	if i.once(t.Context()) {
		t.Error("it succeeded")
	}
	if all := told(recorder); len(all) != 1 || !strings.Contains(all[0], "InstallFailed") {
		t.Errorf("it tells %v", all)
	}
	if diff := cmp.Diff(before, written(t, f.dir, "/opt/checkpoint")); diff != "" || f.restarts != 0 {
		t.Errorf("after %d restarts (-before +after)\n%s", f.restarts, diff)
	}
	if got := labelsOf(t, i); len(got) > 0 {
		t.Errorf("the node has the labels %v", got)
	}
}

func TestARestartThatWasMissedIsMadeUpFor(t *testing.T) {
	i, f, _ := newInstaller(t, "containerd-v3-imports")
	handlers, err := f.handlers(t.Context(), f.p.home)
	if err != nil {
		t.Fatal(err)
	}
	c := configuration{root: f.dir, home: f.home()}
	targets, err := f.targets(t.Context(), c, handlers)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.write(targets); err != nil { // and the agent dies
		t.Fatal(err)
	}
	f.served = []string{"runc", "transparent-checkpoint"} // of an older configuration
	if !i.once(t.Context()) || f.restarts != 1 {
		t.Errorf("%d restarts", f.restarts)
	}
}

func TestRemoval(t *testing.T) {
	capturedDir := "var/lib/checkpoint/captures/uid/1"
	for what, test := range map[string]struct {
		platform string
		pods     []string
		state    bool
		left     []string
		restarts int
	}{
		"of a drop-in":                    {platform: "containerd-v3-imports", restarts: 1},
		"of a change":                     {platform: "containerd-v3-no-imports", restarts: 1},
		"of a part":                       {platform: "containerd-1.7", restarts: 1},
		"with a state that is not stored": {platform: "containerd-v3-imports", state: true, restarts: 1, left: []string{"/" + capturedDir + "/capture.json"}},
	} {
		t.Run(what, func(t *testing.T) {
			i, f, _ := newInstaller(t, test.platform)
			before := written(t, f.dir, "/opt/checkpoint")
			if !i.once(t.Context()) {
				t.Fatal("it did not succeed")
			}
			write(t, filepath.Join(f.dir, "run/checkpoint/agent.lock"), "")
			write(t, filepath.Join(f.dir, "var/lib/checkpoint/captures/sent/1/"+capture.UploadedFile), "")
			if test.state {
				write(t, filepath.Join(f.dir, capturedDir, "capture.json"), `{"schemaVersion":1,"state":"complete"}`)
				before["/"+capturedDir+"/capture.json"] = `{"schemaVersion":1,"state":"complete"}`
				before["/var/lib/checkpoint/captures/sent/1/"+capture.UploadedFile] = ""
			}
			f.restarts = 0
			if err := i.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, written(t, f.dir, "/nowhere")); diff != "" {
				t.Errorf("(-before +after)\n%s", diff)
			}
			if got := labelsOf(t, i); len(got) > 0 || f.restarts != test.restarts || slices.Contains(f.served, keys.RuntimeClass) {
				t.Errorf("the node has the labels %v and the handlers %v after %d restarts", got, f.served, f.restarts)
			}
			if err := i.Remove(t.Context()); err != nil || f.restarts != test.restarts {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

func TestRemovalWhilePodsRun(t *testing.T) {
	i, f, _ := newInstaller(t, "containerd-v3-imports")
	if !i.once(t.Context()) {
		t.Fatal("it did not succeed")
	}
	before := written(t, f.dir, "/nowhere")
	f.pods = []string{"a", "b"}
	if err := i.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/opt/checkpoint/retired", "/run/checkpoint/retired/a", "/run/checkpoint/retired/b"} {
		before[path] = ""
	}
	if diff := cmp.Diff(before, written(t, f.dir, "/nowhere")); diff != "" || !f.node().IsRetired() || f.restarts != 1 {
		t.Errorf("after %d restarts (-want +got)\n%s", f.restarts, diff)
	}
	if diff := cmp.Diff(map[string]string{keys.NodeReady: keys.True}, labelsOf(t, i)); diff != "" {
		t.Errorf("the labels by which pods are there (-want +got)\n%s", diff)
	}
	if !i.once(t.Context()) || f.node().IsRetired() || f.node().HasSandboxes() || f.restarts != 1 {
		t.Errorf("after it was installed again it is retired: %t, %d restarts", f.node().IsRetired(), f.restarts)
	}
}

func TestAnAgentIsOver(t *testing.T) {
	const namespace = "agents"
	own := func(edit func(*appsv1.DaemonSet, *corev1.Namespace)) []client.Object {
		set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "set", UID: "1", Finalizers: []string{"orphan"}}}
		space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Finalizers: []string{"kubernetes"}}}
		edit(set, space)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "set", UID: "1", Controller: new(true)},
		}}}
		found := []client.Object{pod}
		if set.Name != "" {
			found = append(found, set)
		}
		if space.Name != "" {
			found = append(found, space)
		}
		return found
	}
	now := metav1.Now()
	for what, test := range map[string]struct {
		edit func(*appsv1.DaemonSet, *corev1.Namespace)
		err  error
		want bool
	}{
		"in a rollout":               {edit: func(*appsv1.DaemonSet, *corev1.Namespace) {}},
		"the DaemonSet is gone":      {edit: func(d *appsv1.DaemonSet, _ *corev1.Namespace) { d.Name = "" }, want: true},
		"the DaemonSet is to go":     {edit: func(d *appsv1.DaemonSet, _ *corev1.Namespace) { d.DeletionTimestamp = &now }, want: true},
		"the Namespace is to go":     {edit: func(_ *appsv1.DaemonSet, n *corev1.Namespace) { n.DeletionTimestamp = &now }, want: true},
		"the ServiceAccount is gone": {edit: func(*appsv1.DaemonSet, *corev1.Namespace) {}, err: apierrors.NewUnauthorized("gone"), want: true},
		"the Role is gone": {edit: func(*appsv1.DaemonSet, *corev1.Namespace) {},
			err: apierrors.NewForbidden(schema.GroupResource{Resource: "daemonsets"}, "set", nil), want: true},
		"nobody answers": {edit: func(*appsv1.DaemonSet, *corev1.Namespace) {}, err: errors.New("no route to host")},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			i, _, _ := newInstaller(t, "containerd-v3-imports", own(test.edit)...)
			i.Pod = client.ObjectKey{Namespace: namespace, Name: "pod"}
			i.learnDaemonSet(t.Context())
			if test.err != nil {
				i.Everywhere = interceptor.NewClient(i.Client.(client.WithWatch), interceptor.Funcs{
					Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
						return test.err
					},
				})
			}
			if got := i.IsOver(t.Context()); got != test.want {
				t.Errorf("it is over: %t", got)
			}
		})
	}
}

// TestAContainerRuntimeIsNotRestartedAgainAndAgain, whatever is wrong.
func TestAContainerRuntimeIsNotRestartedAgainAndAgain(t *testing.T) {
	i := &Installer{}
	if err := i.mayRestart(); err != nil {
		t.Fatal(err)
	}
	i.restarts, i.restartedAt = 1, time.Now()
	if err := i.mayRestart(); err == nil || !strings.Contains(err.Error(), "1 times by now, and that did not help; it is tried again at ") {
		t.Errorf("it says %v", err)
	}
	i.restartedAt = time.Now().Add(-time.Minute - time.Second)
	if err := i.mayRestart(); err != nil {
		t.Errorf("a minute later it says %v", err)
	}
	var waits []time.Duration
	for n := range 9 {
		waits = append(waits, restartAfter(n))
	}
	const m = time.Minute
	want := []time.Duration{0, m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, time.Hour, time.Hour}
	if diff := cmp.Diff(want, waits); diff != "" {
		t.Errorf("it waits (-want +got)\n%s", diff)
	}
}
