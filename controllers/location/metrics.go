package location

import (
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	isAvailable = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_location_available", Help: "1 while a storage location can be used, as its condition Available says, else 0.",
	}, []string{"location"})
	collected = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_data_collected_total", Help: "Checkpoints whose data was left behind in a bucket, and has been deleted since.",
	})
	leftovers = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_leftovers", Help: "Checkpoints that have gone, and whose data is still to be deleted from the bucket of a storage location.",
	}, []string{"location"})
)

func init() { metrics.Registry.MustRegister(isAvailable, collected, leftovers) }

// measure tells by a metric what the condition Available of a location says.
func measure(location string, available metav1.Condition) {
	value := 0.0
	if available.Status == metav1.ConditionTrue {
		value = 1
	}
	isAvailable.WithLabelValues(location).Set(value)
}
