package integration

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// startManager runs all controllers in this process, on one namespace, which is the operator's own at the same time, until the test ends. Their buckets are
// store.
func startManager(t *testing.T, ns string, store storage.Store) {
	t.Helper()
	startManagerOf(t, ns, ns, store)
}

// startManagerOf does the same where the operator is elsewhere.
func startManagerOf(t *testing.T, ns, operator string, store storage.Store) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	manager, err := ctrl.NewManager(managing(), ctrl.Options{
		Scheme: scheme, Logger: zap.New(zap.WriteTo(t.Output())), Metrics: server.Options{BindAddress: "0"},
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{ns: {}}},
		Controller: config.Controller{SkipNameValidation: new(true)}, // each test has a manager of its own
	})
	if err != nil {
		t.Fatal(err)
	}
	err = controllers.SetUp(manager, controllers.Options{
		Namespace: operator,
		Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return store, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended: %v", err)
		}
	})
	awaitServiceAccount(t, ns)
}

// awaitServiceAccount waits for what every pod of a namespace needs, and a controller makes.
func awaitServiceAccount(t *testing.T, ns string) {
	t.Helper()
	lab.Eventually(t, time.Minute, "the namespace has its service account", func() error {
		_, err := shared.Client.CoreV1().ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
}

// owner makes an object that can be the controller of pods, and that no controller of Kubernetes cares about.
func owner(t *testing.T, ns, name string) *corev1.ConfigMap {
	t.Helper()
	made, err := shared.Client.CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// nowhere names a node that is not there, another one in each namespace: once a pod has named it for a while, the collector of garbage deletes
// at once every pod that does.
func nowhere(ns string) string { return "nowhere-" + ns }

// start makes a pod, and says of it what a kubelet would say when it runs.
func start(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	pods := shared.Client.CoreV1().Pods(pod.Namespace)
	made, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status.Phase = corev1.PodRunning
	for _, c := range made.Spec.Containers {
		made.Status.ContainerStatuses = append(made.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, ContainerID: "containerd://1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		})
	}
	if made, err = pods.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // no kubelet ends it
		_ = pods.Delete(context.Background(), made.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	})
	return made
}
