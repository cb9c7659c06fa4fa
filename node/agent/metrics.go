package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// What of captures is told.
var (
	captures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_captures_total", Help: "Captures of this node by outcome: Captured, Discarded, or the reason why not.",
	}, []string{"outcome"})
	frozenSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "checkpoint_frozen_seconds",
		Help:    "For how long pods stood still for a capture that succeeded, by what came next: the end of the pod (termination), or its going on (live).",
		Buckets: prometheus.ExponentialBuckets(0.1, 2, 12),
	}, []string{"capture"})
	captureSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "checkpoint_capture_seconds", Help: "How long captures took that succeeded, from the stop signal or the wish until all was written on the node.",
		Buckets: prometheus.ExponentialBuckets(0.1, 2, 12),
	}, []string{"capture"})
	captureBytes = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "checkpoint_capture_bytes", Help: "What captures take on the node, before compression: memory, files, shared memory.",
		Buckets: prometheus.ExponentialBuckets(1<<20, 4, 10),
	})
	hooks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_hooks_total",
		Help: "Hooks that were run in containers of this node, by phase (preCheckpoint, postCheckpoint, postRestore) and outcome (succeeded, failed).",
	}, []string{"phase", "outcome"})
	publishFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_publish_failures_total",
		Help: "Attempts to bring a Checkpoint up to date with its capture that failed, as when the API server does not answer; each is repeated.",
	})
)

// What of uploads, and of storage volumes in their place.
var (
	uploadedBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_uploaded_bytes_total", Help: "Bytes that were sent to the bucket: after compression, and without what it had already.",
	})
	uploadedLogicalBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_uploaded_logical_bytes_total", Help: "What the captures that were uploaded take on the node, before compression.",
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
)

// What of restores.
var (
	restores = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_restores_total",
		Help: "Pods of this node that were to go on from a state, by what came of it: RestoredFromCheckpoint; RestoredFromPrevious, an older one; " +
			"RestoreFailed, so that the pod starts cold; RestoreRefused, so that it does not start.",
	}, []string{"outcome"})
	coldStarts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "checkpoint_cold_starts_total", Help: "New labelled pods of this node that started cold, by the reason of their condition memverge.ai/Restored.",
	}, []string{"reason"})
	restoreSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "checkpoint_restore_seconds", Help: "How long the restore of a pod took on the node, of its slowest container, when its state was there.",
		Buckets: prometheus.ExponentialBuckets(0.1, 2, 11),
	})
	decisionSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "checkpoint_decision_seconds",
		Help: "How long new labelled pods waited, from when they were bound to this node until they could go on, or start cold: for a capture, an upload " +
			"or a download.",
		Buckets: prometheus.ExponentialBuckets(0.25, 2, 12),
	})
	fetchedBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_fetched_bytes_total", Help: "What was brought from buckets for pods of this node, in bytes of the state before compression.",
	})
	fetchSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "checkpoint_fetch_seconds", Help: "How long it took to bring a state from a bucket.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 14),
	})
	fetchFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_fetch_failures_total", Help: "Attempts to bring a state from a bucket that failed.",
	})
)

// What of the node. The queues are measured by measureQueues.
var (
	queueLength = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_queue_length",
		Help: "What is under way on this node: captures that are being written (capture), those of which no Checkpoint tells yet (publish), those that are " +
			"in no bucket yet (upload), and new pods of which it is not decided what they go on from (restore).",
	}, []string{"queue"})
	queueOldest = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_queue_oldest_timestamp_seconds",
		Help: "When the oldest capture, or pod, of each queue began, in seconds since 1970; an empty queue has none.",
	}, []string{"queue"})
	diskBytes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_disk_bytes",
		Help: "What is kept on the node's disk: captures that wait for their upload (waiting), those that the bucket has as well (cached), " +
			"what was fetched for pods (fetched).",
	}, []string{"what"})
	diskBudget = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "checkpoint_disk_budget_bytes", Help: "What may be kept on the node's disk before captures that the bucket has are removed.",
	})
	diskSize = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "checkpoint_disk_size_bytes", Help: "The size of the disk that captures are written to, whoever uses it.",
	})
	diskFree = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "checkpoint_disk_free_bytes", Help: "What is free of the disk that captures are written to.",
	})
	evictions = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_disk_evictions_total", Help: "Captures that were removed from the node early, as the disk budget was used up; the bucket has them.",
	})
	probeFindings = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_probe_findings", Help: "Containers of this node in which something was found that cannot be dumped, by reason.",
	}, []string{"reason"})
	probeSeconds = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "checkpoint_probe_seconds_total", Help: "Seconds that were spent looking for what cannot be dumped.",
	})
	shutdownSeconds = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "checkpoint_shutdown_grace_seconds",
		Help: "What kubelet gives pods without a priority (usual), and then the agent (agent), when this node shuts down; without a value where it is not known.",
	}, []string{"pods"})
)

func init() {
	metrics.Registry.MustRegister(captures, frozenSeconds, captureSeconds, captureBytes, hooks, publishFailures,
		uploadedBytes, uploadedLogicalBytes, uploadSeconds, uploadFailures, keptBytes, notKept,
		restores, coldStarts, restoreSeconds, decisionSeconds, fetchedBytes, fetchSeconds, fetchFailures,
		queueLength, queueOldest, diskBytes, diskBudget, diskSize, diskFree, evictions, probeFindings, probeSeconds, shutdownSeconds)
	// Those by which somebody is warned begin with 0, or Prometheus would not see the first of them.
	for _, outcome := range append(capture.Reasons(), "Captured") {
		captures.WithLabelValues(string(outcome))
	}
	for _, outcome := range []string{keys.RestoredFromCheckpoint, keys.RestoredFromPrevious, keys.ColdRestoreFailed, keys.RestoreRefused} {
		restores.WithLabelValues(outcome)
	}
	for _, phase := range []capture.HookPhase{capture.PreCheckpoint, capture.PostCheckpoint, capture.PostRestore} {
		hooks.WithLabelValues(string(phase), string(capture.HookSucceeded))
		hooks.WithLabelValues(string(phase), string(capture.HookFailed))
	}
	for _, kind := range []string{ofTermination, ofLive} {
		frozenSeconds.WithLabelValues(kind)
		captureSeconds.WithLabelValues(kind)
	}
}

// The kinds of captures: the pod ends, or goes on.
const (
	ofTermination = "termination"
	ofLive        = "live"
)

func (a *Agent) countCapture(outcome string) { captures.WithLabelValues(outcome).Inc() }

// countCaptured counts a capture that succeeded.
func (a *Agent) countCaptured(record *capture.Capture) {
	kind := ofLive
	if record.Trigger.IsTermination() {
		kind = ofTermination
	}
	a.countCapture("Captured")
	frozenSeconds.WithLabelValues(kind).Observe(record.Timings.Frozen.Seconds())
	captureSeconds.WithLabelValues(kind).Observe(record.Timings.Total.Seconds())
	captureBytes.Observe(float64(record.SizeBytes))
}

// countUpload counts an upload: what was sent, and what of it the state takes on the node.
func countUpload(sent, logical int64, took time.Duration) {
	uploadedBytes.Add(float64(sent))
	uploadedLogicalBytes.Add(float64(logical))
	uploadSeconds.Observe(took.Seconds())
}

// countRestore counts what became of a new pod. One for which there was a state and that starts cold all the same counts as both.
func countRestore(d *capture.Decision, o outcome, results []*capture.Result) {
	if o.status == corev1.ConditionTrue {
		restores.WithLabelValues(o.reason).Inc()
		slowest := time.Duration(0)
		for _, r := range results {
			slowest = max(slowest, r.Total)
		}
		restoreSeconds.Observe(slowest.Seconds())
		return
	}
	if o.reason == keys.RestoreRefused {
		countRefused()
		return
	}
	if o.reason != keys.ColdRestarted && (d.Action == capture.Restore || d.Checkpoint != "") {
		restores.WithLabelValues(keys.ColdRestoreFailed).Inc()
	}
	coldStarts.WithLabelValues(o.reason).Inc()
}

// countRefused counts a pod that does not start, as it was not restored.
func countRefused() { restores.WithLabelValues(keys.RestoreRefused).Inc() }
