package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// Row is what came of one step of a program.
type Row struct {
	Program string `json:"program"`
	About   string `json:"about"`
	Step    string `json:"step"`
	// Outcome is Continues, or what went wrong.
	Outcome string `json:"outcome"`
	// Expect is that of the program.
	Expect string `json:"expect,omitempty"`
	// FrozenMS is for how long the program stood still before its end, and RestoredMS how long its slowest container took to be restored, both in
	// milliseconds.
	FrozenMS   int64 `json:"frozenMs"`
	RestoredMS int64 `json:"restoredMs"`
}

// Good tells whether the outcome is the expected one.
func (r Row) Good() bool {
	if r.Expect == "" {
		return r.Outcome == Continues
	}
	return strings.Contains(r.Outcome, r.Expect)
}

// writeTable prints rows for a person.
func writeTable(w io.Writer, rows []Row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROGRAM\tSTEP\tOUTCOME\tFROZEN\tRESTORED\t")
	for _, r := range rows {
		verdict := ""
		if !r.Good() {
			verdict = "NOT AS EXPECTED"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d ms\t%d ms\t%s\n", r.Program, r.Step, r.Outcome, r.FrozenMS, r.RestoredMS, verdict)
	}
	return table.Flush()
}

// writeLines writes a JSON object for each row.
func writeLines(w io.Writer, rows []Row) error {
	encoder := json.NewEncoder(w)
	for _, r := range rows {
		if err := encoder.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// The lines of a document between which its table of programs stands.
const (
	tableBegin = "<!-- fidelity -->\n"
	tableEnd   = "<!-- /fidelity -->\n"
)

// document puts the table into the document at path.
func document(path string, rows []Row) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return fmt.Errorf("%s lacks the lines %q and %q, between which the table stands", path, strings.TrimSpace(tableBegin), strings.TrimSpace(tableEnd))
	}
	return os.WriteFile(path, []byte(before+tableBegin+markdown(rows)+tableEnd+after), 0o644)
}

// markdown is one line for each program: its outcome at each step, with its times where it continues.
func markdown(rows []Row) string {
	var out strings.Builder
	out.WriteString("| program | what has to come back |")
	for _, s := range steps() {
		out.WriteString(" " + s.name + " |")
	}
	out.WriteString("\n|---|---|" + strings.Repeat("---|", len(steps())) + "\n")
	for i, r := range rows {
		if i == 0 || rows[i-1].Program != r.Program {
			fmt.Fprintf(&out, "| `%s` | %s |", r.Program, cell(r.About))
		}
		said := cell(r.Outcome)
		if r.Outcome == Continues {
			said = fmt.Sprintf("%s, frozen %d ms, restored in %d ms", Continues, r.FrozenMS, r.RestoredMS)
		}
		out.WriteString(" " + said + " |")
		if i+1 == len(rows) || rows[i+1].Program != r.Program {
			out.WriteString("\n")
		}
	}
	return out.String()
}

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
