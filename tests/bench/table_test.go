package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestResults(t *testing.T) {
	t.Parallel()
	ours := samples{
		captureFrozen: {3 * time.Second, time.Second, 2 * time.Second}, restoreTotal: {time.Second, 2 * time.Second}, deleteToDurable: {time.Second},
		passthrough: {7 * time.Millisecond},
	}
	reference := samples{captureFrozen: {2 * time.Second}, restoreTotal: {time.Second}, passthrough: {1500 * time.Microsecond}}
	results := join(ours, reference)
	var table, lines strings.Builder
	if err := writeTable(&table, results); err != nil {
		t.Fatal(err)
	}
	if err := writeLines(&lines, results); err != nil {
		t.Fatal(err)
	}
	wantTable := `NAME                 UNIT  OURS   REFERENCE  RATIO  BAR     
capture/frozen       s     2.000  2.000      1.000  ≤ 1.15  met
restore/total        s     1.500  1.000      1.500  ≤ 1.25  MISSED
runtime/passthrough  ms    7.000  1.500      4.667  + 5 ms  MISSED
`
	wantLines := `{"name":"capture/frozen","unit":"s","ours":2,"reference":2,"ratio":1}
{"name":"restore/total","unit":"s","ours":1.5,"reference":1,"ratio":1.5}
{"name":"runtime/passthrough","unit":"ms","ours":7,"reference":1.5,"ratio":4.667}
`
	if diff := cmp.Diff(wantTable, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantLines, lines.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if got, want := missed(results), "restore/total, runtime/passthrough"; got != want {
		t.Errorf("missed are %q, want %q", got, want)
	}
}
