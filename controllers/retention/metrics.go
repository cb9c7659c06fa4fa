package retention

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

var (
	expired = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_expired_total",
		Help: "Checkpoints that have expired, by reason: TTL, KeepLast, MaxSize, Quota, Consumed, OwnerCompleted or RolledOut; " +
			"NoState for those that never had one and were removed.",
	}, []string{"reason"})
	storedBytes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_stored_bytes",
		Help: "What the Checkpoints of a namespace take in buckets as its quota counts it: before compression, and each for itself.",
	}, []string{"namespace"})
	waitingForRoom = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_quota_waiting", Help: "Checkpoints of a namespace that stay on their nodes as its quota is used up.",
	}, []string{"namespace"})
)

func init() { metrics.Registry.MustRegister(expired, storedBytes, waitingForRoom) }

// measure tells by metrics what a namespace stores. One without Checkpoints has none.
func measure(namespace string, checkpoints []v1alpha1.Checkpoint) {
	if len(checkpoints) == 0 {
		storedBytes.DeleteLabelValues(namespace)
		waitingForRoom.DeleteLabelValues(namespace)
		return
	}
	waiting := 0
	for i := range checkpoints {
		if waitsForRoom(&checkpoints[i]) {
			waiting++
		}
	}
	storedBytes.WithLabelValues(namespace).Set(float64(operator.Stored(checkpoints)))
	waitingForRoom.WithLabelValues(namespace).Set(float64(waiting))
}
