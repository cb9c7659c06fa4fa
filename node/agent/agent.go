package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/storage"
)

// Agent serves one node.
type Agent struct {
	Node capture.Node
	// NodeName and Namespace are the node's name and the manager's namespace, which has the Secrets.
	NodeName, Namespace string
	// Pod is the agent's own pod; empty where it is none.
	Pod client.ObjectKey
	// Client reads the pods of this node, CheckpointPolicies, Namespaces and the operator's ConfigMap from a cache, and all else from the API server.
	Client client.Client
	// Everywhere reads pods of all nodes, from the API server.
	Everywhere client.Reader
	Recorder   events.EventRecorder
	// Open returns the store of a location with the data of its Secrets, see internal/secrets.
	Open func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error)
	// UploadsAtOnce is how many states are uploaded at once, 1 or more. Those of pods that are gone do not count the others.
	UploadsAtOnce int
	// DiskBudget bounds what is kept on the node's disk of what the bucket has.
	DiskBudget DiskBudget
	// Settle has the runtime finish a capture that was cut off.
	Settle func(ctx context.Context, podUID string) error
	// CaptureLive has the runtime capture a pod that goes on, and waits for it.
	CaptureLive func(ctx context.Context, podUID string, asks capture.Asks) error
	// IsOver tells whether no other agent follows on this one, whose pod is deleted; nil for never.
	IsOver func(context.Context) bool
	Now    func() time.Time

	began  time.Time
	mu     sync.Mutex
	stores map[string]storage.Store
	// fetches has a place for each state that may be fetched at once.
	fetches chan struct{}
	work    map[string]*publication // by the folder of the capture
	ahead   map[string]*ahead       // by the final name of the folder
	asked   map[types.UID]*asking   // by the UID of the Checkpoint
	rate    float64                 // bytes a second, at which captures were written lately
	// withdrawals is how many go on.
	withdrawals int
	// noted is how many digests of images are in the note of a pod.
	noted map[types.UID]int
	// nearlyFull tells of the disk of a folder that nothing is kept there which the bucket has.
	nearlyFull func(dir string) bool
	prober     prober
	// said is what was last said well for the whole operator.
	said operator.Keeper
}

// How often the agent looks, and how much it does at once.
const (
	scanInterval      = 100 * time.Millisecond
	undecidedInterval = 250 * time.Millisecond
	podsAtOnce        = 64
	verdictsAtOnce    = 1024
	// All transfers together hold the memory of image.NewMemory.
	fetchesAtOnce = 2
	// Withdrawals hold none of it.
	withdrawalsAtOnce = 2
)

// DefaultUploadsAtOnce is one that sends, and one that reads and compresses meanwhile.
const DefaultUploadsAtOnce = 2

// Setup adds the agent's parts to a manager.
func (a *Agent) Setup(mgr ctrl.Manager) error {
	a.began, a.noted = a.Now(), map[types.UID]int{}
	a.ahead, a.asked = map[string]*ahead{}, map[types.UID]*asking{}
	a.stores, a.work, a.fetches = map[string]storage.Store{}, map[string]*publication{}, make(chan struct{}, fetchesAtOnce)
	a.nearlyFull = isNearlyFull
	a.prober.changed = make(chan event.GenericEvent, verdictsAtOnce)
	err := a.watchOperator(ctrl.NewControllerManagedBy(mgr).Named("pods").For(&corev1.Pod{})).
		Watches(&v1alpha1.CheckpointPolicy{}, handler.EnqueueRequestsFromMapFunc(a.podsOf), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Channel(a.prober.changed, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: podsAtOnce}).Complete(a)
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	if err := a.watchAsked(mgr); err != nil {
		return fmt.Errorf("watch Checkpoints of pods that go on: %w", err)
	}
	for _, part := range []func(context.Context) error{a.hold, a.publishAll, a.tidy, a.probeAll, a.tellMachine, a.tellGraceful} {
		if err := mgr.Add(manager.RunnableFunc(part)); err != nil {
			return err
		}
	}
	return nil
}

// every calls work at that interval until the context ends.
func every(ctx context.Context, interval time.Duration, work func()) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		work()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
