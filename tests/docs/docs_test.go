// Package docs checks that what the documentation says of the tree is so.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const top = "../.."

var (
	inBackquotes = regexp.MustCompile("`([^`\n]+)`")
	makeTarget   = regexp.MustCompile(`\bmake ([a-z][a-z-]+)`)
	markdownLink = regexp.MustCompile(`\]\(([^)#:]+)\)`)
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

func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		for _, match := range markdownLink.FindAllStringSubmatch(inBackquotes.ReplaceAllString(read(t, page), ""), -1) {
			if _, err := os.Stat(filepath.Join(top, filepath.Dir(page), match[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, match[1])
			}
		}
	}
}

var testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+)`")

func TestTheDocumentationNamesTestsThatThereAre(t *testing.T) {
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
	for _, page := range pages(t) {
		for _, match := range testName.FindAllStringSubmatch(read(t, page), -1) {
			if !strings.Contains(tests.String(), "func "+match[1]+"(") {
				t.Errorf("%s names %s, which does not exist", page, match[1])
			}
		}
	}
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
	found := []string{"README.md"}
	err := filepath.WalkDir(filepath.Join(top, "docs"), func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			relative, err := filepath.Rel(top, path)
			found = append(found, relative)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
