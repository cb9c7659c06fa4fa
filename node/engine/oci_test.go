package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestTheFirstErrorOfALogCounts(t *testing.T) {
	const harmless = "(00.1) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n"
	failed := errors.New("exit status 1")
	for what, test := range map[string]struct{ log, want string }{
		"two errors":               {"(00.1) 42\n(00.2) Error (files.c:1): Can't dump it\n(00.3) Error (x.c:2): FAILED.\n", "Error (files.c:1): Can't dump it"},
		"one that it does without": {harmless + "(00.2) Error (a:1): b\n", "Error (a:1): b"},
		"none":                     {log: "(00.1) fine\n", want: "exit status 1"},
	} {
		path := filepath.Join(t.TempDir(), "dump.log")
		if err := os.WriteFile(path, []byte(test.log), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := withCRIU(failed, path); got.Error() != test.want || !errors.Is(got, failed) {
			t.Errorf("%s: %q, want %q", what, got, test.want)
		}
	}
	if got := withCRIU(failed, filepath.Join(t.TempDir(), "missing")); !errors.Is(got, failed) || len(criuLines(got)) > 0 {
		t.Errorf("no log: %q", got)
	}
}

func TestACallInWhichCRIUDiedAtOnceIsMadeAgain(t *testing.T) {
	died := fmt.Errorf("runc restore: exit status 1: CRIU version check failed: read criu-xprt-cln: connection reset by peer")
	other := errors.New("runc restore: exit status 1: criu failed")
	ended, end := context.WithCancel(t.Context())
	end()
	for what, test := range map[string]struct {
		ctx   context.Context
		fails []error
		calls int
		want  error
	}{
		"not at all":          {t.Context(), nil, 1, nil},
		"once":                {t.Context(), []error{died}, 2, nil},
		"beside an older log": {t.Context(), []error{&CRIUError{[]string{"Error (x): y"}, died}}, 2, nil},
		"again and again":     {t.Context(), slices.Repeat([]error{died}, criuTries+1), criuTries, died},
		"then another way":    {t.Context(), []error{died, other}, 2, other},
		"in another way":      {t.Context(), []error{&CRIUError{[]string{"Error (x): y"}, other}}, 1, other},
		"too late":            {ended, []error{died}, 1, died},
	} {
		calls := 0
		err := untilCRIUBegins(test.ctx, time.Millisecond, func() error {
			calls++
			if calls > len(test.fails) {
				return nil
			}
			return test.fails[calls-1]
		})
		if calls != test.calls || !errors.Is(err, test.want) {
			t.Errorf("%s: %d calls, want %d; %v, want %v", what, calls, test.calls, err, test.want)
		}
	}
}

func TestACallThatComplainsOfTheSameAgainSaysItOnce(t *testing.T) {
	full := "Failed to write to log, no space left on device\n"
	err := OCI{Path: "/bin/runc"}.complain(errors.New("exit status 1"), "/missing", "checkpoint", full+full+"\ncriu failed: type DUMP errno 0\n"+full)
	const want = "runc checkpoint: exit status 1: Failed to write to log, no space left on device\ncriu failed: type DUMP errno 0"
	if err.Error() != want {
		t.Errorf("it says %q", err)
	}
}

func TestTheLastComplaintCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.json")
	log := `{"level":"warning","msg":"w"}` + "\n" + `{"level":"error","msg":"first"}` + "\n" + `{"level":"error","msg":"last"}` + "\nnot JSON\n"
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lastComplaint(path); got != "last" {
		t.Errorf("it is %q", got)
	}
}
