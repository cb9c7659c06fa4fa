package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestACallOfWhatIsVulnerableFails(t *testing.T) {
	database, err := filepath.Abs("testdata/database")
	if err != nil {
		t.Fatal(err)
	}
	if err := reach(t.Context(), "file://"+database); err != nil {
		t.Fatal(err)
	}
	t.Chdir("testdata/caller")
	for folder, isCaller := range map[string]bool{"./calls": true, "./spares": false} {
		if err := check(t.Context(), []string{"-db", "file://" + database, folder}); (err != nil) != isCaller {
			t.Errorf("%s: the error is %v", folder, err)
		}
	}
}

func TestADatabaseThatIsNotThereIsNotReached(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for what, test := range map[string]struct{ database, want string }{
		"a server without one": {server.URL, "404"},
		"a folder without one": {"file://" + t.TempDir(), "no such file"},
		"no server":            {"http://127.0.0.1:1", "connect"},
	} {
		if err := reach(t.Context(), test.database); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, without %q", what, err, test.want)
		}
	}
}
