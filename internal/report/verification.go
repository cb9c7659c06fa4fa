package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// mostFiles is how many files, or Checkpoints, are named of one damage.
const mostFiles = 10

// WriteVerification prints for a person what came of reading a state.
func WriteVerification(out io.Writer, v *inspect.Verification) error {
	d := &description{out: out}
	if len(v.Damages) == 0 {
		d.say("Checkpoint %s is as it was written: %d files of %s, in %d packs of %s in location %s.",
			v.Checkpoint, v.Files, Bytes(v.Bytes), v.Packs, Bytes(v.Stored), v.Location)
		return d.err
	}
	d.say("Checkpoint %s is DAMAGED in location %s. No pod can be restored from it.\n", v.Checkpoint, v.Location)
	for _, damage := range v.Damages {
		where := "all of it"
		if damage.Length > 0 {
			where = fmt.Sprintf("%d bytes from byte %d on", damage.Length, damage.Offset)
		}
		d.say("  %s, %s", damage.Object, where)
		d.say("%s", wrapped(damage.Problem, "    "))
		d.some("    Files: ", damage.Files)
		d.some("    Also needed by: ", damage.SharedWith)
		d.say("")
	}
	d.some("  Not known, as their manifests cannot be read: ", v.Unread)
	d.say("%s", wrapped("What is named above is what the bucket no longer has. Put the objects back from a copy of the bucket, if there is one. Else "+
		"delete the Checkpoints that need them: a pod goes on from an older one then, if its RestorePolicy says fallback: Previous, or starts cold.", ""))
	return d.err
}

// some prints names, a few of them and how many more there are; without names nothing.
func (d *description) some(title string, names []string) {
	if len(names) == 0 {
		return
	}
	more := ""
	if left := len(names) - mostFiles; left > 0 {
		names, more = names[:mostFiles], fmt.Sprintf(" and %d more", left)
	}
	d.say("%s%s%s", title, strings.Join(names, ", "), more)
}
