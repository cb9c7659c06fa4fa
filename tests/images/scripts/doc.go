// Package scripts holds scripts that stand for what users run: shells, interpreters, databases with their clients. A pod gets them as a
// ConfigMap. Each answers GET /check on port 8080: 200 when it is what it was and goes on, 500 with what is broken otherwise. A check may be
// made any number of times, and leaves the program with something in flight for the capture that may follow.
package scripts

import "embed"

// Files are the scripts, by their names.
//
//go:embed *.py *.sh *.java *.js *.rb *.pl
var Files embed.FS
