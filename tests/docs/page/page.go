// Package page reads a page of the documentation: its headings, its links and its blocks of code. Tests find out with it whether what a page says is so.
//
// The words behind the language of a block (its info string) are not shown to who reads the page, and say what the block is:
//
//	```sh            commands that a test runs as they stand, in their order: only docs/getting-started.md has such
//	```sh example    commands for the reader's own cluster; they are looked at, and not run
//	```yaml          whole objects, which an API server would take
//	```yaml of=Pod   a part of an object of that kind, without apiVersion and kind if it likes
//	```yaml example  a file of something else
//	```              a picture, or what a command prints, perhaps behind a line with a prompt ($) and that command
//
// It imports nothing of the operator. Start reading at Read.
package page

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// Page is a file in Markdown.
type Page struct {
	Path    string // relative to the repository
	Text    string
	Links   []Link
	Blocks  []Block
	anchors map[string]bool
}

// Link leads somewhere.
type Link struct {
	Line int // from 1
	To   string
}

// Block is a fenced block of code.
type Block struct {
	Line     int    // of its first line, from 1
	Language string // the first word of its info string; empty if there is none
	Note     string // what comes behind that
	Text     string
}

// Paths returns those of all pages below docs, and of the README, relative to the repository at root.
func Paths(root string) ([]string, error) {
	paths := []string{"README.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".md") {
			return err
		}
		relative, err := filepath.Rel(root, path)
		paths = append(paths, relative)
		return err
	})
	return paths, err
}

// All reads all pages of the repository at root.
func All(root string) ([]*Page, error) {
	paths, err := Paths(root)
	if err != nil {
		return nil, err
	}
	var pages []*Page
	for _, path := range paths {
		p, err := Read(root, path)
		if err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	return pages, nil
}

// Read reads the page of that path in the repository at root.
func Read(root, path string) (*Page, error) {
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads a page from its text.
func Parse(path string, data []byte) (*Page, error) {
	p := &Page{Path: path, Text: string(data), anchors: map[string]bool{}}
	parser := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser()
	err := ast.Walk(parser.Parse(text.NewReader(data)), func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			p.note(node, data)
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

func (p *Page) note(node ast.Node, data []byte) {
	switch node := node.(type) {
	case *ast.Heading:
		p.addAnchor(anchor(words(node, data)))
	case *ast.Link:
		p.Links = append(p.Links, Link{Line: lineOf(node, data), To: string(node.Destination)})
	case *ast.FencedCodeBlock:
		b := Block{Line: 1, Text: string(node.Lines().Value(data))}
		if node.Info != nil {
			b.Language, b.Note, _ = strings.Cut(string(node.Info.Value(data)), " ")
			b.Line = 2 + bytes.Count(data[:node.Info.Segment.Start], []byte("\n"))
		} else if node.Lines().Len() > 0 {
			b.Line = 1 + bytes.Count(data[:node.Lines().At(0).Start], []byte("\n"))
		}
		p.Blocks = append(p.Blocks, b)
	case *ast.HTMLBlock, *ast.RawHTML:
		for _, match := range namedByHand.FindAllSubmatch(raw(node, data), -1) {
			p.anchors[string(match[1])] = true
		}
	}
}

var namedByHand = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)

// HasAnchor tells whether a link to the page can end in #name: whether a heading has that name, or something else on it.
func (p *Page) HasAnchor(name string) bool { return p.anchors[name] }

// At names a line of the page.
func (p *Page) At(line int) string { return fmt.Sprintf("%s:%d", p.Path, line) }

// addAnchor notes the name of a heading; of several with one name the later ones get a number.
func (p *Page) addAnchor(name string) {
	unique := name
	for n := 1; p.anchors[unique]; n++ {
		unique = fmt.Sprintf("%s-%d", name, n)
	}
	p.anchors[unique] = true
}

// anchor is the name by which links find a heading, as GitHub makes it.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

// words are the text below a node, without its markup.
func words(node ast.Node, data []byte) string {
	var b strings.Builder
	for child := node.FirstChild(); child != nil; child = child.NextSibling() {
		if leaf, is := child.(*ast.Text); is {
			b.Write(leaf.Value(data))
			continue
		}
		b.WriteString(words(child, data))
	}
	return b.String()
}

// lineOf is the line on which the block begins that a node is in.
func lineOf(node ast.Node, data []byte) int {
	for ; node != nil; node = node.Parent() {
		if node.Type() == ast.TypeBlock && node.Lines() != nil && node.Lines().Len() > 0 {
			return 1 + bytes.Count(data[:node.Lines().At(0).Start], []byte("\n"))
		}
	}
	return 1
}

// raw is what a node of HTML says.
func raw(node ast.Node, data []byte) []byte {
	switch node := node.(type) {
	case *ast.HTMLBlock:
		return node.Lines().Value(data)
	case *ast.RawHTML:
		return node.Segments.Value(data)
	}
	return nil
}
