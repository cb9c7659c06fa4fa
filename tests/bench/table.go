package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// The names of the rows.
const (
	captureFrozen   = "capture/frozen"
	restoreTotal    = "restore/total"
	deleteToDurable = "delete-to-durable"
	fromBucket      = "restore/from-bucket"
	passthrough     = "runtime/passthrough"
	uploadNoise     = "store/upload-incompressible"
	uploadHalf      = "store/upload-half"
	fetchNoise      = "store/fetch"
	secondBytes     = "store/second-checkpoint-bytes"
	secondTime      = "store/second-checkpoint-time"
)

// mebibyte is the unit of rows whose samples are bytes.
const mebibyte time.Duration = 1 << 20

// row is what is measured, and what it has to come to.
type row struct {
	name string
	unit time.Duration
	// most is the largest ratio of ours to the reference that is good enough; 0 means that there is none.
	most float64
	// added is by how much ours may be slower, in the row's unit; 0 means that there is no such bound.
	added float64
}

func rows() []row {
	return []row{
		{name: captureFrozen, unit: time.Second, most: 1.15},
		{name: restoreTotal, unit: time.Second, most: 1.25},
		{name: deleteToDurable, unit: time.Second, most: 0.25},
		{name: fromBucket, unit: time.Second, most: 1.3},
		{name: passthrough, unit: time.Millisecond, added: 5},
		{name: uploadNoise, unit: time.Second, most: 1.15},
		{name: uploadHalf, unit: time.Second, most: 1},
		{name: fetchNoise, unit: time.Second, most: 1.15},
		{name: secondBytes, unit: mebibyte, most: 0.1},
		{name: secondTime, unit: time.Second, most: 0.35},
	}
}

// result is a line of the file, and of the table.
type result struct {
	Name      string  `json:"name"`
	Unit      string  `json:"unit"`
	Ours      float64 `json:"ours"`
	Reference float64 `json:"reference"`
	Ratio     float64 `json:"ratio"` // below 1, ours is faster

	bar  string
	good bool
}

// samples are measured times by the name of their row.
type samples map[string][]time.Duration

func (s samples) add(name string, sample time.Duration) { s[name] = append(s[name], sample) }

// join makes a result of each row that both sides have measured.
func join(ours, reference samples) []result {
	var results []result
	for _, r := range rows() {
		if len(ours[r.name]) == 0 || len(reference[r.name]) == 0 {
			continue
		}
		one := result{Name: r.name, Unit: unitName(r.unit), Ours: median(ours[r.name], r.unit), Reference: median(reference[r.name], r.unit), good: true}
		one.Ratio = round(one.Ours / one.Reference)
		if r.most > 0 {
			one.bar, one.good = fmt.Sprintf("≤ %.2f", r.most), one.Ratio <= r.most
		}
		if r.added > 0 {
			one.bar, one.good = fmt.Sprintf("+ %.0f %s", r.added, one.Unit), one.Ours-one.Reference <= r.added
		}
		results = append(results, one)
	}
	return results
}

func unitName(unit time.Duration) string {
	switch unit {
	case time.Millisecond:
		return "ms"
	case mebibyte:
		return "MiB"
	}
	return "s"
}

// median returns the middle one, or the mean of the two in the middle, in the given unit.
func median(all []time.Duration, unit time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(all))
	middle := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		middle = (middle + sorted[len(sorted)/2-1]) / 2
	}
	return round(float64(middle) / float64(unit))
}

// round keeps three digits behind the point.
func round(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }

func writeTable(w io.Writer, results []result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tUNIT\tOURS\tREFERENCE\tRATIO\tBAR\t")
	for _, r := range results {
		verdict := "met"
		if !r.good {
			verdict = "MISSED"
		}
		fmt.Fprintf(table, "%s\t%s\t%.3f\t%.3f\t%.3f\t%s\t%s\n", r.Name, r.Unit, r.Ours, r.Reference, r.Ratio, r.bar, verdict)
	}
	return table.Flush()
}

func writeLines(w io.Writer, results []result) error {
	encoder := json.NewEncoder(w)
	for _, r := range results {
		if err := encoder.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// missed names the rows that are not good enough.
func missed(results []result) string {
	var names []string
	for _, r := range results {
		if !r.good {
			names = append(names, r.Name)
		}
	}
	return strings.Join(names, ", ")
}
