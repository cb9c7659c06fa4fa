package integration

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	crclient "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/node/agent"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/storage/image"
	"github.com/transparent-checkpoint/operator/tests/builder"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// attempts counts requests to claim a Checkpoint, and those that were refused.
type attempts struct{ all, refused atomic.Int64 }

func (a *attempts) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		answer, err := next.RoundTrip(r)
		if strings.Contains(r.URL.RawQuery, "checkpoint-agent-claim-") {
			if a.all.Add(1); err == nil && answer.StatusCode >= http.StatusBadRequest {
				a.refused.Add(1)
			}
		}
		return answer, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newAgent makes the agent of a node that is but a folder, and the manager that runs it.
func newAgent(t *testing.T, ns, node string, store storage.Store, count *attempts) (*agent.Agent, ctrl.Manager) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	own := rest.CopyConfig(shared.Config)
	own.QPS = -1 // as in the agent itself
	own.Impersonate = impersonated(theAgent, node)
	own.Wrap(count.wrap)
	mgr, err := ctrl.NewManager(own, ctrl.Options{
		Scheme: scheme, Logger: zap.New(zap.WriteTo(io.Discard)), Metrics: server.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{ns: {}},
			ByObject:          map[crclient.Object]cache.ByObject{&corev1.Pod{}: {Field: fields.OneTermEqualSelector("spec.nodeName", node)}},
		},
		Client: crclient.Options{Cache: &crclient.CacheOptions{DisableFor: []crclient.Object{
			&v1alpha1.Checkpoint{}, &v1alpha1.RestorePolicy{}, &v1alpha1.CheckpointStorageLocation{}, &corev1.Secret{}, &corev1.Node{},
		}}},
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent.Agent{
		Node: capture.Node{Root: t.TempDir()}, NodeName: node, Namespace: ns, Client: mgr.GetClient(), Everywhere: mgr.GetAPIReader(),
		Recorder: mgr.GetEventRecorder("checkpoint-agent"), Settle: func(context.Context, string) error { return nil }, Now: time.Now,
		Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return store, nil
		},
	}
	if err := a.Setup(mgr); err != nil {
		t.Fatal(err)
	}
	return a, mgr
}

// oneImage is a store in which every Checkpoint has the same state.
type oneImage struct{ storage.Store }

const imageFolder, imageName = "checkpoints/ns/one", "one"

// inImage is the key of that state for one of a Checkpoint's.
func inImage(key string) string {
	parts := strings.SplitN(key, "/", 5) // checkpoints, namespace, lineage, kind and name
	if parts[3] == "manifests" {
		parts[4] = imageName
	}
	return path.Join(imageFolder, parts[3], parts[4])
}

func (o oneImage) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	return o.Store.Get(ctx, inImage(key), r)
}

func (o oneImage) Stat(ctx context.Context, key string) (storage.Info, error) {
	return o.Store.Stat(ctx, inImage(key))
}

// newImage returns that store and the digest of the manifest in it.
func newImage(t *testing.T) (storage.Store, string) {
	t.Helper()
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	record := &capture.Capture{State: capture.Complete, Containers: []capture.Container{{Name: "app", Image: "app:1"}}}
	if err := record.Write(dir); err != nil {
		t.Fatal(err)
	}
	summary, err := (&image.Folder{Store: store, Name: imageFolder}).Upload(t.Context(), imageName, dir, image.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return oneImage{store}, summary.ManifestDigest
}

// sideBySide does work so many times, several at once, and ends the test if one fails.
func sideBySide(t *testing.T, many int, work func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	errs, next := make([]error, many), atomic.Int64{}
	for range 16 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(many); i = next.Add(1) - 1 {
				errs[i] = work(int(i))
			}
		})
	}
	all.Wait()
	if err := cmp.Or(errs...); err != nil {
		t.Fatal(err)
	}
}

// quick is a client without a limit of its own.
func quick(t *testing.T) (*rest.Config, *versioned.Clientset) {
	t.Helper()
	own := rest.CopyConfig(shared.Config)
	own.QPS = -1
	c, err := versioned.NewForConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	return own, c
}

// generated is a pod of that owner, as if the API server had made up its name.
func generated(ns, name, node string, controller metav1.Object) *corev1.Pod {
	pod := builder.MakePod(ns, name).Admitted().Node(node).ControlledBy("v1", "ConfigMap", controller).Obj()
	pod.GenerateName = "x-"
	return pod
}

// finished makes the Checkpoint of a pod that there may never have been, uploaded.
func finished(t *testing.T, c *versioned.Clientset, pod *corev1.Pod, location, manifest string, age time.Duration) error {
	made, source := lineage.TerminationCheckpoint(pod)
	made.Finalizers = nil
	all := c.CheckpointV1alpha1().Checkpoints(pod.Namespace)
	made, err := all.Create(t.Context(), made, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	cut := metav1.NewTime(time.Now().Add(-age))
	done := func(kind string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted, LastTransitionTime: cut}
	}
	made.Status = v1alpha1.CheckpointStatus{
		Source: &source, CaptureTime: &cut, LocationName: location, ManifestDigest: manifest,
		Conditions: []metav1.Condition{done(v1alpha1.CheckpointCaptured), done(v1alpha1.CheckpointUploaded), done(v1alpha1.CheckpointReady)},
	}
	_, err = all.UpdateStatus(t.Context(), made, metav1.UpdateOptions{})
	return err
}

// Two hundred new pods on five nodes find two hundred Checkpoints of their owner, all at once: each gets one, and none is left or served twice.
func TestManyReplacementsClaimOneCheckpointEach(t *testing.T) {
	const many, nodes = 200, 5
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	newCredentials(t, ns)
	location, controller := newLocationNamed(t, ns), owner(t, ns, "web")
	store, manifest := newImage(t)
	own, checkpoints := quick(t)
	pods, err := crclient.New(own, crclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, nodes)
	for i := range names {
		names[i] = newNode(t)
	}
	sideBySide(t, many, func(i int) error {
		former := generated(ns, fmt.Sprintf("old-%03d", i), names[i%nodes], controller)
		former.UID = types.UID(fmt.Sprintf("%08d-51a8-4a0d-8a52-53b8e1d6e9f0", i))
		return finished(t, checkpoints, former, location, manifest, time.Duration(i)*time.Second)
	})
	sideBySide(t, many, func(i int) error {
		return pods.Create(t.Context(), generated(ns, fmt.Sprintf("new-%03d", i), names[i%nodes], controller))
	})
	t.Cleanup(func() { deletePods(t, ns) })

	count, agents := &attempts{}, make([]*agent.Agent, nodes)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(stop)
	began := time.Now()
	for i := range agents {
		a, mgr := newAgent(t, ns, names[i], store, count)
		agents[i] = a
		running.Go(func() {
			if err := mgr.Start(ctx); err != nil {
				t.Errorf("the agent of %s ended: %v", a.NodeName, err)
			}
		})
	}
	made := &corev1.PodList{}
	if err := pods.List(t.Context(), made, crclient.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	lab.Eventually(t, 3*time.Minute, "all are decided", func() error {
		got = map[string]string{}
		for i := range made.Items {
			for _, a := range agents {
				if d, err := a.Node.Decision(string(made.Items[i].UID)); err == nil {
					got[string(made.Items[i].UID)] = string(d.Action) + " " + d.Checkpoint + d.Reason + d.Message
				}
			}
		}
		if len(got) < many {
			return fmt.Errorf("%d of %d are", len(got), many)
		}
		return nil
	})
	t.Logf("%d pods on %d nodes have their Checkpoints after %s; %d claims were tried, %d were refused",
		many, nodes, time.Since(began).Round(10*time.Millisecond), count.all.Load(), count.refused.Load())
	checkOneToOne(t, ns, many, got)
}

// checkOneToOne compares what the agents decided with what the API server granted.
func checkOneToOne(t *testing.T, ns string, many int, decided map[string]string) {
	t.Helper()
	all, err := client.CheckpointV1alpha1().Checkpoints(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	holders := map[types.UID]string{}
	for _, c := range all.Items {
		claim := c.Status.Claim
		if claim == nil {
			t.Errorf("Checkpoint %s is left", c.Name)
			continue
		}
		if other := holders[claim.PodUID]; other != "" {
			t.Errorf("pod %s has %s and %s", claim.PodName, other, c.Name)
		}
		holders[claim.PodUID] = c.Name
		if want := "restore " + c.Name; decided[string(claim.PodUID)] != want {
			t.Errorf("pod %s has %s, and is decided: %s", claim.PodName, c.Name, decided[string(claim.PodUID)])
		}
	}
	if len(holders) != many {
		t.Errorf("%d pods of %d have one", len(holders), many)
	}
}

func deletePods(t *testing.T, ns string) {
	t.Helper()
	err := shared.Client.CoreV1().Pods(ns).DeleteCollection(context.Background(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{})
	if err != nil {
		t.Error(err)
	}
}

// What a look-up costs is printed, not checked: machines differ.
func TestALookUpBesideManyCheckpointsOfOthers(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	node, controller := newNode(t), owner(t, ns, "web")
	own, checkpoints := quick(t)
	plain, err := crclient.New(own, crclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := newAgent(t, ns, node, nil, &attempts{})
	scheme := plain.Scheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	a.Client = plain // the manager with its cache does not run
	t.Cleanup(func() { deletePods(t, ns) })
	others := 0
	for _, many := range []int{10, 5000} {
		sideBySide(t, many-others, func(i int) error {
			former := generated(ns, fmt.Sprintf("other-%05d", others+i), node, &metav1.ObjectMeta{Name: "web", UID: controller.UID})
			former.UID = types.UID(fmt.Sprintf("%08d-51a8-4a0d-8a52-53b8e1d6e9f0", others+i))
			made, _ := lineage.TerminationCheckpoint(former)
			made.Finalizers = nil
			made.Labels[keys.Lineage], made.Labels[keys.Workload] = fmt.Sprintf("l-%d", (others+i)/4), fmt.Sprintf("w-%d", (others+i)/4)
			_, err := checkpoints.CheckpointV1alpha1().Checkpoints(ns).Create(t.Context(), made, metav1.CreateOptions{})
			return err
		})
		others = many
		var took []time.Duration
		for i := range 21 {
			pod := generated(ns, fmt.Sprintf("new-%d-%d", many, i), node, controller)
			if err := plain.Create(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := a.Reconcile(t.Context(), ctrl.Request{NamespacedName: crclient.ObjectKeyFromObject(pod)}); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
			if d, err := a.Node.Decision(string(pod.UID)); err != nil || d.Reason != keys.ColdNoCheckpoint {
				t.Fatalf("it is decided: %+v, %v", d, err)
			}
			deletePods(t, ns)
		}
		slices.Sort(took)
		t.Logf("beside %d Checkpoints of others an agent decides within %s (median of %d, at most %s)", many, took[len(took)/2], len(took), took[len(took)-1])
	}
}

// The API forgets a pod that is deleted by force at once; the manager remembers that its node may still capture it.
func TestAPodThatIsDeletedByForceGetsItsCheckpoint(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil)
	pod := start(t, builder.MakePod(ns, "victim").Admitted().Node(nowhere(ns)).Obj())
	awaitWatch(t, ns)
	if err := shared.Client.CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	name := v1alpha1.TerminationName(pod.Name, pod.UID)
	awaitState(t, ns, name, metav1.ConditionFalse, v1alpha1.StatePending)
	if s := read(t, ns, name).Status.Source; s == nil || s.PodUID != pod.UID || s.Node != nowhere(ns) {
		t.Errorf("its source is %+v", s)
	}
}

// awaitWatch waits until the manager's watch has surely brought what was made by now: it has seen one that was made later.
func awaitWatch(t *testing.T, ns string) {
	t.Helper()
	later := start(t, builder.MakePod(ns, "later").Labelled().Node(nowhere(ns)).Obj())
	awaitEvent(t, ns, "Pod", later.Name, keys.UnprotectedNotAdmitted)
}
