package location

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/transparent-checkpoint/operator/storage"
)

var (
	requestSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "checkpoint_store_request_seconds",
		Help:    "How long calls to the bucket of a storage location took, each attempt for itself, by method; those that failed as well.",
		Buckets: prometheus.ExponentialBuckets(0.005, 4, 8),
	}, []string{"location", "method"})
	requestErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_store_errors_total",
		Help: "Calls to the bucket of a storage location that failed, each attempt for itself, by method and reason: Unavailable, which is tried again, " +
			"AccessDenied, NoBucket, NoSpace, WrongRegion, ClockSkew, Encryption, Corrupt, Invalid or Other.",
	}, []string{"location", "method", "reason"})
)

func init() { metrics.Registry.MustRegister(requestSeconds, requestErrors) }

// reasons are those of errors, as the metric names them. That an object is not there, or is, is an answer.
var reasons = []struct {
	err    error
	reason string
}{
	{storage.ErrNotExist, ""}, {storage.ErrExist, ""}, {context.Canceled, ""},
	{storage.ErrNoBucket, "NoBucket"}, {storage.ErrAccessDenied, "AccessDenied"}, {storage.ErrWrongRegion, "WrongRegion"}, {storage.ErrClockSkew, "ClockSkew"},
	{storage.ErrNoSpace, "NoSpace"}, {storage.ErrEncryption, "Encryption"}, {storage.ErrCorrupt, "Corrupt"}, {storage.ErrInvalid, "Invalid"},
	{storage.ErrUnavailable, "Unavailable"}, {context.DeadlineExceeded, "Unavailable"},
}

// reasonOf is the reason of an error; empty where nothing is wrong with the store.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return "Other"
}

// count returns what counts the calls to a location.
func count(location string) func(string, time.Duration, error) {
	return func(method string, took time.Duration, err error) {
		requestSeconds.WithLabelValues(location, method).Observe(took.Seconds())
		if reason := reasonOf(err); reason != "" {
			requestErrors.WithLabelValues(location, method, reason).Inc()
		}
	}
}
