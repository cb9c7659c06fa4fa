package v1alpha1

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxLogTail bounds status.logTail of a Checkpoint, in bytes.
const MaxLogTail = 4096

// ReadableSize is status.size of a Checkpoint of that many bytes: rounded up to the largest binary unit of which there are ten or more, so
// that the SIZE column shows 2356Mi, and not 2469606195.
func ReadableSize(bytes int64) *resource.Quantity {
	unit := int64(1)
	for (bytes-1)/(10*1024) >= unit {
		unit *= 1024
	}
	units := bytes / unit
	if bytes%unit > 0 {
		units++
	}
	return resource.NewQuantity(units*unit, resource.BinarySI)
}

// ReadableDuration is status.frozen of a Checkpoint for a program that stood still for that long: rounded to 1 ms, from 10 s on to 10 ms, and
// from 1 min on to 1 s, as 412ms, 13.37s or 2m4s.
func ReadableDuration(d time.Duration) *metav1.Duration {
	precision := time.Second
	switch {
	case d < 10*time.Second:
		precision = time.Millisecond
	case d < time.Minute:
		precision = 10 * time.Millisecond
	}
	return &metav1.Duration{Duration: d.Round(precision)}
}

// maxNote bounds the note of an event, in bytes; the API server refuses a longer one
// (https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1).
const maxNote = 1024

// EventNote is a message as an event can carry it, cut where there is no room for all of it. The condition with the same message has the rest.
func EventNote(message string) string {
	message = strings.ToValidUTF8(message, "")
	const dots = " …"
	if len(message) <= maxNote {
		return message
	}
	return strings.ToValidUTF8(message[:maxNote-len(dots)], "") + dots
}

// LogTail is status.logTail of a Checkpoint: the last lines of a log that fit, without what is not text.
func LogTail(log string) string {
	log = strings.TrimSpace(strings.ToValidUTF8(log, ""))
	if len(log) <= MaxLogTail {
		return log
	}
	tail := log[len(log)-MaxLogTail:]
	if _, whole, found := strings.Cut(tail, "\n"); found {
		return whole
	}
	return strings.ToValidUTF8(tail, "")
}
