// Command fidelity finds out which programs survive, on a local cluster: `make fidelity`.
//
// Each Program is started in a labelled pod, given some state, and then deleted and made again three times: on the same node, on the other one,
// and once more on the first. After each restore the program itself is asked whether it is still what it was. That a pod is Running proves
// nothing; neither does the condition Restored alone.
//
// A row of the result is a program, one of these steps, what came of it, and how long the program stood still and took to be back. The rows
// are printed as a table, written to build/fidelity.jsonl as one JSON object each, and are the part "Programs" of docs/compatibility.md.
//
// The programs are listed in programs.go and the files beside it; program.go says what one consists of. `make test` runs those that are Quick.
package main
