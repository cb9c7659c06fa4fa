package docs

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// run is the page whose commands tests/lifecycle runs.
const run = "docs/getting-started.md"

// designs tell of their time, and of what was not done.
const designs = "docs/designs/"

// notes are what may stand behind the language of a block; package page says what each means. One of objects may say of which kind its part is.
var notes = map[string]map[string]bool{
	"sh":   {"example": true},
	"yaml": {"": true, "example": true},
	"json": {"": true},
	"go":   {"example": true},
	"":     {"": true},
}

// Each block is run by a test, or looked at by one of the tests here, or said to be an example.
func TestEachBlockSaysWhatItIs(t *testing.T) {
	for _, p := range all(t) {
		for _, b := range p.Blocks {
			where := p.At(b.Line)
			switch {
			case p.Path == run && b.Language == "sh":
				if b.Note != "" {
					t.Errorf("%s: blocks of this page are run as they stand", where)
				}
			case b.Language == "sh" && b.Note == "":
				t.Errorf("%s: nobody runs these commands; mark them as `sh example`, see tests/docs/page", where)
			case b.Language == "yaml" && strings.HasPrefix(b.Note, "of="):
			case !notes[b.Language][b.Note]:
				t.Errorf("%s: a block %q %q is none that tests/docs/page knows", where, b.Language, b.Note)
			case b.Language == "" && looksLikeACommand.MatchString(b.Text):
				t.Errorf("%s: these are commands; mark them as `sh example`", where)
			case b.Language == "json" && !json.Valid([]byte(b.Text)):
				t.Errorf("%s: this is no JSON", where)
			}
		}
	}
}

var looksLikeACommand = regexp.MustCompile(`(?m)^\s*(kubectl |make |helm |go |crane |bin/localcluster [a-z]+\s*(#|$))`)

var (
	named   = regexp.MustCompile(`\b(?:checkpoint\.)?memverge\.ai/[A-Za-z0-9-]*[A-Za-z0-9]`)
	version = "checkpoint.memverge.ai/v1alpha1"
)

// Whatever key or condition a page names is one that the code knows.
func TestKeysInThePagesAreKnown(t *testing.T) {
	known := map[string]bool{version: true}
	for _, room := range []string{"internal/keys", "apis/checkpoint/v1alpha1"} {
		files, err := filepath.Glob(filepath.Join(top, room, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, path := range files {
			for _, value := range literals(t, path) {
				known[value] = true
			}
		}
	}
	for _, p := range all(t) {
		if strings.HasPrefix(p.Path, designs) {
			continue
		}
		for number, line := range strings.Split(p.Text, "\n") {
			for _, name := range named.FindAllString(line, -1) {
				if !known[name] && !known[strings.ToLower(name)] && !strings.Contains(line, name+"…") && !strings.Contains(line, name+"*") {
					t.Errorf("%s names %s, which neither internal/keys nor the API has", p.At(number+1), name)
				}
			}
		}
	}
}

// literals are the strings in a file of Go.
func literals(t *testing.T, path string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		if literal, is := node.(*ast.BasicLit); is && literal.Kind == token.STRING {
			if value, err := strconv.Unquote(literal.Value); err == nil {
				values = append(values, value)
			}
		}
		return true
	})
	return values
}

// inTheTree are the folders of the repository: a word that begins with one is a path.
var inTheTree = regexp.MustCompile(`^(?:admission|apis|cmd|controllers|docs|generated|internal|manifests|node|storage|tests)(?:/[\w./-]+)?$`)

// What looks like a path of the tree is there, in words and in blocks.
func TestPathsInThePagesAreThere(t *testing.T) {
	for _, p := range all(t) {
		if strings.HasPrefix(p.Path, designs) {
			continue
		}
		for _, word := range strings.FieldsFunc(code(p.Text), func(r rune) bool { return strings.ContainsRune(" \n\"'`()[]{},;:|=", r) }) {
			word = strings.TrimSuffix(strings.TrimPrefix(word, "./"), "/")
			if !strings.Contains(word, "/") || !inTheTree.MatchString(word) || strings.Contains(word, "...") {
				continue
			}
			if _, err := os.Stat(filepath.Join(top, strings.TrimSuffix(word, "."))); err != nil {
				t.Errorf("%s names %s, which does not exist", p.Path, word)
			}
		}
	}
}
