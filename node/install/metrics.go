package install

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var isReady = prometheus.NewGauge(prometheus.GaugeOpts{
	Name: "checkpoint_node_ready",
	Help: "1 while the runtime is installed on this node and its container runtime serves it, so that labelled pods may come; else 0.",
})

func init() { metrics.Registry.MustRegister(isReady) }

// measure tells whether all is in its place.
func measure(ready bool) {
	isReady.Set(0)
	if ready {
		isReady.Set(1)
	}
}
