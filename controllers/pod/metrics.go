package pod

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

var unprotectedPods = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "checkpoint_unprotected_pods_total", Help: "Labelled pods that will not be captured, by the reason of their condition memverge.ai/Checkpointable.",
}, []string{"reason"})

func init() {
	metrics.Registry.MustRegister(unprotectedPods)
	unprotectedPods.WithLabelValues(keys.UnprotectedNotAdmitted) // by which somebody is warned: the first one has to be an increase
}
