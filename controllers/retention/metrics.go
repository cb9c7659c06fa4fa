package retention

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var expired = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "checkpoint_expired_total",
	Help: "Checkpoints that have expired, by reason: TTL, KeepLast, Consumed, OwnerCompleted or RolledOut; NoState for those that never had one and were removed.",
}, []string{"reason"})

func init() { metrics.Registry.MustRegister(expired) }
