package agent

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestARefusalIsExplained(t *testing.T) {
	const size, failed = "Error (criu/files-reg.c:2175): File usr/bin/app has bad size 12 (expect 13)", "Error (criu/cr-restore.c:2320): Restoring FAILED."
	const advice = "A file that the program had open or mapped is not the one it was: the image was rebuilt under the same tag, or the content of a volume " +
		"changed. Name images by their digest or by tags that are never reused, and leave the files of volumes as they were."
	for name, test := range map[string]struct {
		result capture.Result
		want   string
	}{
		"the advice stands behind CRIU's line, and all of CRIU's lines behind that": {
			capture.Result{Message: size, Errors: []string{size, failed}}, size + ". " + advice + "\nCRIU:\n" + size + "\n" + failed,
		},
		"a single line is not repeated":        {capture.Result{Message: size, Errors: []string{size}}, size + ". " + advice},
		"what nobody has met is left as it is": {capture.Result{Message: "new.", Errors: []string{"new."}}, "new."},
		"so is what is not CRIU's":             {capture.Result{Message: "the capture is failed; it may be complete"}, "the capture is failed; it may be complete"},
		"that there is no CRIU is explained": {
			capture.Result{Message: `runc restore: exec: "criu": executable file not found in $PATH`},
			`runc restore: exec: "criu": executable file not found in $PATH. The node has no CRIU that the runtime can use. ` +
				"Look at the log of the checkpoint-agent on that node, which installs it below /opt/checkpoint.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, explainRestore(&test.result)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	long := capture.Result{Message: "x", Errors: []string{"x", strings.Repeat("é", maxErrors)}}
	if got := explainRestore(&long); len(got) > maxErrors+20 {
		t.Errorf("it has %d bytes", len(got))
	}
}
