// Package docs checks that what the documentation says of the tree is so.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/tests/docs/page"
)

const top = "../.."

var (
	inBackquotes = regexp.MustCompile("`([^`\n]+)`")
	makeTarget   = regexp.MustCompile(`\bmake ([a-z][a-z/-]+)`)
)

func TestArchitectureNamesOnlyWhatThereIs(t *testing.T) {
	for _, match := range inBackquotes.FindAllStringSubmatch(read(t, "docs/architecture.md"), -1) {
		path := match[1]
		room, _, isPath := strings.Cut(path, "/")
		if !isPath || room == "bin" || strings.ContainsAny(path, " …*") {
			continue
		}
		if _, err := os.Stat(filepath.Join(top, path)); err != nil {
			t.Errorf("docs/architecture.md names %s, which does not exist", path)
		}
	}
}

func TestTheDocumentationNamesTargetsOfTheMakefile(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, page := range pages(t) {
		for _, match := range makeTarget.FindAllStringSubmatch(code(read(t, page)), -1) {
			if !strings.Contains(makefile, "\n"+match[1]+":") {
				t.Errorf("%s names `make %s`, which the Makefile lacks", page, match[1])
			}
		}
	}
}

// Links lead to files of the repository, and to headings that the page there has. Others' pages are not asked for.
func TestLinksLeadSomewhere(t *testing.T) {
	known := map[string]*page.Page{}
	for _, p := range all(t) {
		known[p.Path] = p
	}
	for _, p := range known {
		for _, link := range p.Links {
			path, anchor, _ := strings.Cut(link.To, "#")
			if strings.Contains(path, ":") {
				continue
			}
			target := p.Path
			if path != "" {
				target = filepath.Join(filepath.Dir(p.Path), path)
			}
			if _, err := os.Stat(filepath.Join(top, target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", p.At(link.Line), link.To)
			} else if other := known[target]; anchor != "" && (other == nil || !other.HasAnchor(anchor)) {
				t.Errorf("%s links to %s; that page has no such heading", p.At(link.Line), link.To)
			}
		}
	}
}

// A page that no other leads to is not found by who does not know of it.
func TestEveryPageIsFoundFromTheReadme(t *testing.T) {
	known, reached := map[string]*page.Page{}, map[string]bool{}
	for _, p := range all(t) {
		known[p.Path] = p
	}
	for next := []string{"README.md"}; len(next) > 0; next = next[1:] {
		p := known[next[0]]
		if p == nil || reached[p.Path] {
			continue
		}
		reached[p.Path] = true
		for _, link := range p.Links {
			path, _, _ := strings.Cut(link.To, "#")
			next = append(next, filepath.Join(filepath.Dir(p.Path), path))
		}
	}
	for path := range known {
		if !reached[path] {
			t.Errorf("no link leads from README.md to %s", path)
		}
	}
}

var testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+)`")

func TestTheDocumentationNamesTestsThatThereAre(t *testing.T) {
	tests := allTests(t)
	for _, page := range pages(t) {
		for _, match := range testName.FindAllStringSubmatch(read(t, page), -1) {
			if !strings.Contains(tests, "func "+match[1]+"(") {
				t.Errorf("%s names %s, which does not exist", page, match[1])
			}
		}
	}
}

// allTests is the text of all files with tests.
func allTests(t *testing.T) string {
	t.Helper()
	var tests strings.Builder
	err := filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		tests.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests.String()
}

func TestTheMakefileStaysShort(t *testing.T) {
	if lines := strings.Count(read(t, "Makefile"), "\n"); lines > 200 {
		t.Errorf("the Makefile has %d lines; more than 200 hide what a newcomer looks for", lines)
	}
}

// code returns what of a page is code: fenced blocks and words in backquotes, without the comments of a shell.
func code(page string) string {
	var kept []string
	fenced := false
	for line := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced:
			line, _, _ = strings.Cut(line, " #")
			kept = append(kept, line)
		default:
			for _, match := range inBackquotes.FindAllStringSubmatch(line, -1) {
				kept = append(kept, match[1])
			}
		}
	}
	return strings.Join(kept, "\n")
}

func pages(t *testing.T) []string {
	t.Helper()
	found, err := page.Paths(top)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func all(t *testing.T) []*page.Page {
	t.Helper()
	read, err := page.All(top)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
