package criu

import (
	"bufio"
	"io"
	"strings"
)

// The files that CRIU logs to, in the folder that the OCI runtime gave it.
const (
	DumpLog    = "dump.log"
	RestoreLog = "restore.log"
)

// maxLine bounds a line of a log, in bytes: CRIU's own are shorter.
const maxLine = 64 << 10

// ErrorLines returns the lines of a log that are errors, without their time stamps: "Error (criu/files-ext.c:98): Can't dump …". The first is
// the one that counts; most of the others are its consequences. There are most of them at most, the first and the last among them.
func ErrorLines(log io.Reader, most int) []string {
	var found []string
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		_, text, isError := strings.Cut(lines.Text(), "Error (")
		if !isError || isHarmless(text) {
			continue
		}
		if line := "Error (" + strings.TrimSpace(text); len(found) < most {
			found = append(found, line)
		} else if most > 1 {
			found[most-1] = line
		}
	}
	return found
}

// isHarmless tells whether CRIU goes on after an error.
func isHarmless(text string) bool {
	return strings.Contains(text, "Can't setup RLIMIT_NOFILE for self")
}
