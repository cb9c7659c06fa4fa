// Command signals writes what a person may come upon of the operator, and no API type lists: reasons of conditions, events, metrics and keys. All of it is
// read from the source, so that the page says what the code does. `make generate` appends it to docs/reference.md.
package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rooms are the folders in which all of it is.
var rooms = []string{"apis/checkpoint/v1alpha1", "internal", "admission", "controllers", "node", "cmd"}

// source is the parsed code, without its tests.
type source struct {
	files []file
	// constants are those of strings, by FOLDER.NAME; the folder's last part stands for it.
	constants map[string]string
	// values are the same by their names alone, but for those that mean different things in different folders.
	values map[string]string
}

type file struct {
	path string
	*ast.File
}

func main() {
	log.SetFlags(0)
	s, err := read(rooms)
	if err != nil {
		log.Fatal(err)
	}
	if err := s.write(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func read(rooms []string) (*source, error) {
	s, set := &source{constants: map[string]string{}, values: map[string]string{}}, token.NewFileSet()
	for _, room := range rooms {
		err := filepath.WalkDir(room, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(entry.Name(), "zz_") {
				return err
			}
			parsed, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err == nil {
				s.files = append(s.files, file{path, parsed})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s.files, func(x, y file) int { return strings.Compare(x.path, y.path) })
	for _, f := range s.files {
		for group := range groups(f) {
			for _, c := range constantsOf(group) {
				s.constants[filepath.Base(filepath.Dir(f.path))+"."+c.name] = c.value
				if value, is := s.values[c.name]; is && value != c.value {
					s.values[c.name] = c.name
				} else {
					s.values[c.name] = c.value
				}
			}
		}
	}
	return s, nil
}

// constant is one of a string, with what its comment says.
type constant struct{ name, value, comment string }

// groups yields the declarations of constants in a file.
func groups(f file) func(func(*ast.GenDecl) bool) {
	return func(yield func(*ast.GenDecl) bool) {
		for _, d := range f.Decls {
			if group, is := d.(*ast.GenDecl); is && group.Tok == token.CONST && !yield(group) {
				return
			}
		}
	}
}

func constantsOf(group *ast.GenDecl) (all []constant) {
	for _, spec := range group.Specs {
		v, is := spec.(*ast.ValueSpec)
		if !is || len(v.Names) != 1 || len(v.Values) != 1 {
			continue
		}
		text, is := literal(v.Values[0])
		if !is {
			continue
		}
		doc := v.Doc
		if doc == nil && !group.Lparen.IsValid() {
			doc = group.Doc
		}
		if doc == nil {
			doc = v.Comment
		}
		all = append(all, constant{v.Names[0].Name, text, sentence(doc.Text())})
	}
	return all
}

func literal(e ast.Expr) (string, bool) {
	l, is := e.(*ast.BasicLit)
	if !is || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}

// sentence makes one line of a comment.
func sentence(text string) string { return strings.Join(strings.Fields(text), " ") }

func (s *source) write(out *os.File) error {
	var b strings.Builder
	s.reasons(&b)
	s.events(&b)
	s.metrics(&b)
	s.keys(&b)
	_, err := out.WriteString(b.String())
	return err
}

// reasons writes the groups of constants that say so of themselves.
func (s *source) reasons(b *strings.Builder) {
	b.WriteString("\n# Conditions and their reasons\n\n" +
		"Those of a pod are `memverge.ai/Restored` and `memverge.ai/Checkpointable`; `kubectl describe pod` shows both.\n")
	for _, f := range s.files {
		for group := range groups(f) {
			doc := sentence(group.Doc.Text())
			if !strings.Contains(doc, "onditions of a") && !strings.HasPrefix(doc, "The types of a") && !strings.HasPrefix(doc, "The reasons ") {
				continue
			}
			fmt.Fprintf(b, "\n%s\n\n| it says | that is |\n| --- | --- |\n", s.inWords(doc))
			before := ""
			for _, c := range constantsOf(group) {
				before = cmp.Or(s.cell(c), before) // those without a comment of their own share that of the one before
				fmt.Fprintf(b, "| `%s` | %s |\n", c.value, before)
			}
		}
	}
}

// ofNames is how the comment of a constant begins: with its name, or with several.
var ofNames = regexp.MustCompile(`^([A-Z]\w+)((, | and )[A-Z]\w+)*(: | is )`)

// cell makes the comment of a constant fit a table: without its name, which a user does not see.
func (s *source) cell(c constant) string {
	return escape(s.inWords(ofNames.ReplaceAllString(c.comment, "")))
}

func escape(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// name is what may be that of a constant, with or without its package.
var name = regexp.MustCompile(`\b([a-z]+\.)?[A-Z][a-z]+[A-Z]\w+\b`)

// inWords puts their values in the place of the names of constants.
func (s *source) inWords(text string) string {
	return name.ReplaceAllStringFunc(text, func(found string) string {
		if value, is := s.values[found[strings.LastIndex(found, ".")+1:]]; is {
			return "`" + value + "`"
		}
		return found
	})
}

// events writes those whose reason stands in the code; others have that of a condition.
func (s *source) events(b *strings.Builder) {
	b.WriteString("\n# Events\n\n" +
		"Besides these there are events with the reasons of conditions, when those change: of a pod, a Checkpoint, a policy or a location.\n\n" +
		"| event | kind | by | what it says |\n| --- | --- | --- | --- |\n")
	rows, names := map[string]bool{}, map[string]bool{}
	for _, f := range s.files {
		ast.Inspect(f.File, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			method, is := call.Fun.(*ast.SelectorExpr)
			if !is {
				return true
			}
			var kind, reason, text int
			switch {
			case method.Sel.Name == "Eventf" && len(call.Args) >= 6:
				kind, reason, text = 2, 3, 5
			case method.Sel.Name == "event" && len(call.Args) == 5:
				kind, reason, text = 2, 3, 4
			default:
				return true
			}
			name, known := s.text(f, call.Args[reason])
			if !known {
				return true
			}
			rows[fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, kindOf(call.Args[kind]), by(f), escape(s.said(f, call.Args[text:]...)))] = true
			names[name] = true
			return true
		})
	}
	for _, f := range s.files { // those that the code chooses among say in their comments what they are
		for group := range groups(f) {
			if !strings.HasPrefix(sentence(group.Doc.Text()), "The reasons of events ") {
				continue
			}
			for _, c := range constantsOf(group) {
				if !names[c.value] {
					rows[fmt.Sprintf("| `%s` | either | %s | %s |\n", c.value, by(f), s.cell(c))] = true
				}
			}
		}
	}
	for _, row := range sorted(rows) {
		b.WriteString(row)
	}
}

func sorted(rows map[string]bool) (all []string) {
	for row := range rows {
		all = append(all, row)
	}
	slices.Sort(all)
	return all
}

// text is the string that an expression stands for, if it is a literal or a constant.
func (s *source) text(f file, e ast.Expr) (string, bool) {
	if text, is := literal(e); is {
		return text, true
	}
	if sum, is := e.(*ast.BinaryExpr); is && sum.Op == token.ADD {
		left, known := s.text(f, sum.X)
		right, alsoKnown := s.text(f, sum.Y)
		return left + right, known && alsoKnown
	}
	name := ""
	switch e := e.(type) {
	case *ast.Ident:
		name = filepath.Base(filepath.Dir(f.path)) + "." + e.Name
	case *ast.SelectorExpr:
		if room, is := e.X.(*ast.Ident); is {
			name = room.Name + "." + e.Sel.Name
		}
	}
	text, is := s.constants[name]
	return text, is
}

func kindOf(e ast.Expr) string {
	if selector, is := e.(*ast.SelectorExpr); is {
		return strings.TrimPrefix(selector.Sel.Name, "EventType")
	}
	return "either"
}

// by says who tells what stands in a file.
func by(f file) string {
	switch {
	case strings.HasPrefix(f.path, "node/"):
		return "agent"
	case strings.HasPrefix(f.path, "cmd/internal/"):
		return "both"
	}
	return "manager"
}

// said is what an event says, as far as it stands in the code, in the first of its arguments that has words: its parts that are not known are dots.
func (s *source) said(f file, arguments ...ast.Expr) string {
	var found string
	for _, e := range arguments {
		ast.Inspect(e, func(n ast.Node) bool {
			if x, is := n.(ast.Expr); is && found == "" {
				if text, is := s.text(f, x); is && strings.Contains(text, " ") {
					found = text
				}
			}
			return found == ""
		})
	}
	if strings.HasSuffix(found, ": ") {
		found += "…"
	}
	for _, verb := range []string{"%s", "%d", "%v", "%q", "%w"} {
		found = strings.ReplaceAll(found, verb, "…")
	}
	return found
}

// metrics writes what Prometheus is told.
func (s *source) metrics(b *strings.Builder) {
	b.WriteString("\n# Metrics\n\nOf the manager and of the agent of each node, besides those of controller-runtime and Go.\n\n" +
		"| metric | kind | of | labels | what it says |\n| --- | --- | --- | --- | --- |\n")
	rows := map[string]bool{}
	for _, f := range s.files {
		ast.Inspect(f.File, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is || len(call.Args) == 0 {
				return true
			}
			options, is := call.Args[0].(*ast.CompositeLit)
			if !is {
				return true
			}
			kind, is := options.Type.(*ast.SelectorExpr)
			if !is || !strings.HasSuffix(kind.Sel.Name, "Opts") {
				return true
			}
			said := map[string]string{}
			for _, element := range options.Elts {
				if pair, is := element.(*ast.KeyValueExpr); is {
					said[fmt.Sprint(pair.Key)], _ = s.text(f, pair.Value)
				}
			}
			var labels []string
			if len(call.Args) > 1 {
				if list, is := call.Args[1].(*ast.CompositeLit); is {
					for _, e := range list.Elts {
						label, _ := s.text(f, e)
						labels = append(labels, "`"+label+"`")
					}
				}
			}
			if said["Name"] != "" {
				rows[fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", said["Name"], strings.ToLower(strings.TrimSuffix(kind.Sel.Name, "Opts")),
					by(f), strings.Join(labels, ", "), escape(said["Help"]))] = true
			}
			return true
		})
	}
	for _, row := range sorted(rows) {
		b.WriteString(row)
	}
}

// keys writes labels, annotations and variables. Those for users have a page of their own.
func (s *source) keys(b *strings.Builder) {
	b.WriteString("\n# Keys\n\n" +
		"Labels, annotations, conditions and variables. How those are used that a user sets is in [keys.md](keys.md); the others are the operator's own.\n\n" +
		"| key | what it is |\n| --- | --- |\n")
	rows := map[string]bool{}
	for _, f := range s.files {
		if filepath.Dir(f.path) != "internal/keys" {
			continue
		}
		for group := range groups(f) {
			before := s.inWords(sentence(group.Doc.Text()))
			for _, c := range constantsOf(group) {
				before = cmp.Or(s.cell(c), before)
				if strings.Contains(c.value, "memverge.ai/") || strings.HasPrefix(c.value, "MMC_") {
					rows[fmt.Sprintf("| `%s` | %s |\n", c.value, before)] = true
				}
			}
		}
	}
	for _, row := range sorted(rows) {
		b.WriteString(row)
	}
}
