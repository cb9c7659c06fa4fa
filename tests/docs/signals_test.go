package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var metricName = regexp.MustCompile(`"(checkpoint_[a-z_]+)"`)

// The reference is written from the source; that nothing of it escapes the writer is seen by looking for names in another way.
func TestTheReferenceNamesEveryMetric(t *testing.T) {
	page := read(t, "docs/reference.md")
	names := 0
	for _, room := range []string{"controllers", "node", "internal", "admission", "cmd"} {
		err := filepath.WalkDir(filepath.Join(top, room), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			for _, match := range metricName.FindAllStringSubmatch(string(data), -1) {
				names++
				if !strings.Contains(page, "| `"+match[1]+"` |") {
					t.Errorf("docs/reference.md lacks the metric %s of %s (make generate)", match[1], path)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if names < 15 {
		t.Errorf("%d metrics were found", names)
	}
}
