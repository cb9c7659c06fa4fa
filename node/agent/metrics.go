package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	captures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_captures_total", Help: "Captures of this node by outcome: Captured, or the reason why not.",
	}, []string{"outcome"})
	restores = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_restores_total", Help: "New labelled pods of this node by the reason of their condition memverge.ai/Restored.",
	}, []string{"reason"})
	hooks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_hooks_total",
		Help: "Hooks that were run in containers of this node, by phase (preCheckpoint, postCheckpoint, postRestore) and outcome (succeeded, failed).",
	}, []string{"phase", "outcome"})
	uploadedBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_uploaded_bytes_total", Help: "Bytes that were sent to the bucket.",
	})
	uploadSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "checkpoint_upload_seconds", Help: "How long an upload took.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 14),
	})
	uploadFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_upload_failures_total", Help: "Attempts to upload that failed; each is repeated.",
	})
	keptBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_volume_bytes_total", Help: "Bytes that were written into storage volumes of pods.",
	})
	notKept = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_volume_failures_total", Help: "Captures that could not be written into the storage volumes of their pods.",
	})
	probeFindings = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_probe_findings", Help: "Containers of this node in which something was found that cannot be dumped, by reason.",
	}, []string{"reason"})
	shutdownSeconds = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_shutdown_grace_seconds",
		Help: "What kubelet gives pods without a priority (usual), and then the agent (agent), when this node shuts down; without a value where it is not known.",
	}, []string{"pods"})
	diskBytes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_disk_bytes",
		Help: "What is kept on the node's disk: captures that wait for their upload (waiting), those that the bucket has as well (cached), " +
			"what was fetched for pods (fetched).",
	}, []string{"what"})
	diskBudget = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "checkpoint_disk_budget_bytes", Help: "What may be kept on the node's disk before captures that the bucket has are removed.",
	})
	evictions = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_disk_evictions_total", Help: "Captures that were removed from the node early, as the disk budget was used up; the bucket has them.",
	})
	probeSeconds = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_probe_seconds_total", Help: "Seconds that were spent looking for what cannot be dumped.",
	})
)

func init() {
	metrics.Registry.MustRegister(captures, restores, hooks, uploadedBytes, uploadSeconds, uploadFailures, keptBytes, notKept, shutdownSeconds,
		probeFindings, probeSeconds, diskBytes, diskBudget, evictions)
}

func (a *Agent) countCapture(outcome string) { captures.WithLabelValues(outcome).Inc() }
