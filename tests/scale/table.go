package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// row is what one step took. Times are in milliseconds.
type row struct {
	Pods        int `json:"pods"`
	Checkpoints int `json:"checkpoints"`
	// CreateP99 is what the creation of a pod took while many were made at once; AloneP50 and AloneP99 when nothing else went on.
	CreateP99 float64 `json:"createP99Milliseconds"`
	AloneP50  float64 `json:"aloneP50Milliseconds"`
	AloneP99  float64 `json:"aloneP99Milliseconds"`
	// WebhookP99 is what the manager needed of that, at most; Admissions is how many there were.
	WebhookP99 float64 `json:"webhookP99Milliseconds"`
	Admissions float64 `json:"admissions"`
	// RequestsPerPod are those of the managers to the API server, for each pod of the step and its Checkpoints.
	RequestsPerPod      float64 `json:"requestsPerPod"`
	ReconcilesPerSecond float64 `json:"reconcilesPerSecond"`
	// ManagerMiB is what the larger of the managers has in memory.
	ManagerMiB float64 `json:"managerMiB"`
	took       time.Duration
}

func write(rows []row, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var lines []byte
	for _, r := range rows {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	return os.WriteFile(path, lines, 0o600)
}

func show(out io.Writer, rows []row) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "pods\tCheckpoints\tcreate p99, many\tcreate p50, alone\tp99, alone\twebhook p99\trequests/pod\treconciles/s\tmanager\t")
	for _, r := range rows {
		fmt.Fprintf(table, "%d\t%d\t%.0f ms\t%.1f ms\t%.1f ms\t≤ %.1f ms\t%.1f\t%.0f\t%.0f MiB\t\n", r.Pods, r.Checkpoints, r.CreateP99, r.AloneP50, r.AloneP99,
			r.WebhookP99, r.RequestsPerPod, r.ReconcilesPerSecond, r.ManagerMiB)
	}
	_ = table.Flush()
}
