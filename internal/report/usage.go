package report

import (
	"fmt"
	"io"
	"time"

	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// totals are what a table of usage ends with.
type totals struct {
	checkpoints, nameless int
	logical, stored       int64
	shared, unnamed       int64
}

func (t *totals) add(f *inspect.FolderUsage) {
	for i := range f.Checkpoints {
		t.checkpoints++
		t.logical += f.Checkpoints[i].Logical
		if f.Checkpoints[i].Name == "" {
			t.nameless++
		}
	}
	t.stored, t.shared, t.unnamed = t.stored+f.Bytes, t.shared+f.Shared, t.unnamed+f.Unnamed
}

// WriteUsage prints for a person what is in the buckets: a line for each revision of a workload, and wide one for each Checkpoint as well.
func WriteUsage(out io.Writer, u *inspect.Usage, now time.Time, wide bool) error {
	d := &description{out: out}
	for i := range u.Locations {
		l := &u.Locations[i]
		if i > 0 {
			d.say("")
		}
		place := "bucket " + l.Bucket
		if l.Prefix != "" {
			place += ", below " + l.Prefix
		}
		d.say("Location %s (%s):", l.Name, place)
		if l.Problem != "" {
			d.say("%s", wrapped("IT COULD NOT BE LOOKED THROUGH: "+l.Problem, "  "))
		}
		d.usage(l, now, wide)
	}
	if len(u.Locations) == 0 {
		d.say("There is no storage location.")
	}
	return d.err
}

// usage prints what is in one location.
func (d *description) usage(l *inspect.LocationUsage, now time.Time, wide bool) {
	if len(l.Folders) == 0 && l.Logs == 0 {
		if l.Problem == "" {
			d.say("  It holds nothing.")
		}
		return
	}
	heading := []string{"NAMESPACE", "WORKLOAD", "CHECKPOINTS", "LOGICAL", "STORED", "SHARED", "UPLOADING", "NOT NAMED"}
	rows, sum := [][]string{heading}, totals{}
	for i := range l.Folders {
		f := &l.Folders[i]
		one := totals{}
		one.add(f)
		sum.add(f)
		workload := f.Workload
		if workload == "" {
			workload = "unknown (" + f.Lineage + ")"
		}
		rows = append(rows, []string{
			f.Namespace, workload, fmt.Sprint(one.checkpoints), Bytes(one.logical), Bytes(f.Bytes), Bytes(f.Shared), Bytes(f.Uploading), Bytes(f.Unnamed),
		})
		if wide {
			rows = append(rows, checkpointRows(f, now)...)
		}
	}
	d.table(rows)
	ratio := ""
	if sum.stored > 0 && sum.logical > 0 {
		ratio = fmt.Sprintf(", %.1f times as much as they take", float64(sum.logical)/float64(sum.stored))
	}
	d.say("Checkpoints: %d of %s%s. In the bucket: %s, of which several share %s.",
		sum.checkpoints, Bytes(sum.logical), ratio, Bytes(sum.stored), Bytes(sum.shared))
	if l.Logs > 0 {
		d.say("Logs of pods that ask for them take %s; nothing deletes those (diagnosis/).", Bytes(l.Logs))
	}
	if sum.nameless > 0 {
		d.say("%s", wrapped(fmt.Sprintf("States without a Checkpoint in this cluster: %d. Nothing deletes them here: they are another cluster's, or see "+
			"docs/operations.md#what-is-deleted-when.", sum.nameless), ""))
	}
	if sum.unnamed > 0 {
		d.say("%s", wrapped(fmt.Sprintf("Not named by any Checkpoint or upload: %s. The next deletion of a Checkpoint of that workload removes it.",
			Bytes(sum.unnamed)), ""))
	}
}

// checkpointRows has a row for each state in a folder, the newest first.
func checkpointRows(f *inspect.FolderUsage, now time.Time) (rows [][]string) {
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		name := c.Name
		if name == "" {
			name = "no Checkpoint (" + c.StorageName + ")"
		}
		if c.Problem != "" {
			name += " UNREADABLE"
		}
		rows = append(rows, []string{"", "  " + name, age(now, c.Stored) + " old", Bytes(c.Logical), Bytes(c.Own + c.Shared), Bytes(c.Shared), "", ""})
	}
	return rows
}
