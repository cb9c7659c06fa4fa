package checkpoint

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

var (
	finished = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_checkpoints_total", Help: "Checkpoints by the state in which they ended: Completed, Failed or Discarded.",
	}, []string{"state"})
	leftBehind = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_data_left_behind_total", Help: "Checkpoints that went although their data could not be deleted from the bucket.",
	})
	objects = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_objects", Help: "Checkpoints that there are, by namespace and state: the reason of their condition Ready, or Deleting.",
	}, []string{"namespace", "state"})
	stalledObjects = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_stalled_objects", Help: "Checkpoints that wait for a person, by namespace and the reason of their condition Stalled.",
	}, []string{"namespace", "reason"})
)

func init() {
	metrics.Registry.MustRegister(finished, leftBehind, objects, stalledObjects)
	for _, state := range []string{v1alpha1.StateCompleted, v1alpha1.StateFailed, v1alpha1.StateDiscarded} {
		finished.WithLabelValues(state)
	}
}

// deleting is the state of a Checkpoint that waits for its data to be deleted.
const deleting = "Deleting"

// tally counts the Checkpoints that there are by what they say of themselves. Each is told of whenever it has changed.
type tally struct {
	mu      sync.Mutex
	says    map[types.NamespacedName]saying
	numbers map[series]int
}

// series is one of a gauge.
type series struct {
	gauge            *prometheus.GaugeVec
	namespace, value string
}

// saying is what one of them says; stalled is empty for one that needs nobody.
type saying struct{ state, stalled string }

// set takes note of a Checkpoint.
func (t *tally) set(c *v1alpha1.Checkpoint) {
	now := saying{state: v1alpha1.StatePending}
	if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady); ready != nil {
		now.state = ready.Reason
	}
	if s := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointStalled); s != nil && s.Status == metav1.ConditionTrue {
		now.stalled = s.Reason
	}
	if !c.DeletionTimestamp.IsZero() {
		now = saying{state: deleting}
	}
	t.change(types.NamespacedName{Namespace: c.Namespace, Name: c.Name}, now)
}

// drop forgets one that is gone.
func (t *tally) drop(name types.NamespacedName) { t.change(name, saying{}) }

// change puts what a Checkpoint says in the place of what it said; nothing for one that is gone.
func (t *tally) change(name types.NamespacedName, now saying) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.says == nil {
		t.says, t.numbers = map[types.NamespacedName]saying{}, map[series]int{}
	}
	before := t.says[name]
	if before == now {
		return
	}
	t.says[name] = now
	if now == (saying{}) {
		delete(t.says, name)
	}
	t.add(series{objects, name.Namespace, before.state}, -1)
	t.add(series{stalledObjects, name.Namespace, before.stalled}, -1)
	t.add(series{objects, name.Namespace, now.state}, 1)
	t.add(series{stalledObjects, name.Namespace, now.stalled}, 1)
}

// add changes how many say so; a series of which there is none any more goes.
func (t *tally) add(s series, number int) {
	if s.value == "" {
		return
	}
	t.numbers[s] += number
	if t.numbers[s] == 0 {
		delete(t.numbers, s)
		s.gauge.DeleteLabelValues(s.namespace, s.value)
		return
	}
	s.gauge.WithLabelValues(s.namespace, s.value).Set(float64(t.numbers[s]))
}
