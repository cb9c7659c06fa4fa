package agent

import (
	"strings"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/criu"
)

// maxErrors bounds CRIU's error lines in a condition, in bytes.
const maxErrors = 2 << 10

// explainCapture says why a capture failed, and what a person can do about it.
func explainCapture(f *capture.Failure) string {
	return explain(criu.Dump, f.Message, f.Errors)
}

// explainRestore says why a restore failed, and what a person can do about it; behind that, on lines of their own, all that CRIU complained of.
// There is no Checkpoint whose status could hold the end of its log: the one that was claimed is whole.
func explainRestore(r *capture.Result) string {
	text := explain(criu.Restore, r.Message, r.Errors)
	if len(r.Errors) < 2 { // the first is in the message
		return text
	}
	lines := strings.Join(r.Errors, "\n")
	if len(lines) > maxErrors {
		lines = strings.ToValidUTF8(lines[:maxErrors], "")
	}
	return text + "\nCRIU:\n" + lines
}

func explain(phase criu.Phase, message string, errors []string) string {
	advice := criu.Advise(phase, append(errors[:len(errors):len(errors)], message)...)
	if advice == "" {
		return message
	}
	return strings.TrimRight(message, ". \n") + ". " + advice
}
