package criu

import (
	"regexp"
	"strings"
	"sync"
)

// Phase is what CRIU was doing.
type Phase string

// The phases. An entry without one holds for both.
const (
	Dump    Phase = "capture"
	Restore Phase = "restore"
)

// Entry is a refusal, what is behind it and what a person can do.
type Entry struct {
	Phase Phase
	// Says are pieces of the error lines, any of which tells it; "…" stands for whatever is in between.
	Says []string
	// Means is one sentence about the pod, Do what to do, as sentences.
	Means, Do string
}

// Advise explains the errors of one failure, the most telling first: what is behind it and what to do, in sentences that can stand behind
// CRIU's own. It is empty for what nobody has met yet.
func Advise(phase Phase, lines ...string) string {
	for _, line := range lines {
		for i, entry := range Table {
			if (entry.Phase == "" || entry.Phase == phase) && matchers()[i].MatchString(line) {
				return entry.Means + " " + entry.Do
			}
		}
	}
	return ""
}

// matchers are those of the entries of Table. They are made when the first failure is explained: the runtime, which starts with each verb, mostly has none.
var matchers = sync.OnceValue(func() []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, entry := range Table {
		var pieces []string
		for _, says := range entry.Says {
			pieces = append(pieces, strings.ReplaceAll(regexp.QuoteMeta(says), "…", ".*"))
		}
		all = append(all, regexp.MustCompile(strings.Join(pieces, "|")))
	}
	return all
})
