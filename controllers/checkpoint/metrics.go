package checkpoint

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	finished = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_checkpoints_total", Help: "Checkpoints by the state in which they ended: Completed, Failed or Discarded.",
	}, []string{"state"})
	leftBehind = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_data_left_behind_total", Help: "Checkpoints that went although their data could not be deleted from the bucket.",
	})
)

func init() { metrics.Registry.MustRegister(finished, leftBehind) }
