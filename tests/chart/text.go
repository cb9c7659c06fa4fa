package main

import (
	"fmt"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// mark is a word in a rendered object for which there will be an expression.
type mark struct {
	word string
	put  put
}

// put writes a line that has a mark with the expression in its place. column is where the line begins: at a key, or at the dash of an item.
type put func(line, word string, column int) string

// value puts an expression into its line, as the whole of a field or as part of it.
func value(expression string) put {
	return func(line, word string, _ int) string { return strings.ReplaceAll(line, word, "{{ "+expression+" }}") }
}

// block puts a structure of the values below its key.
func block(expression string) put {
	return func(line, word string, column int) string {
		return strings.Replace(line, word, fmt.Sprintf("{{- toYaml %s | nindent %d }}", expression, column+2), 1)
	}
}

// blockIfAny does the same, and leaves out the key where the structure is empty.
func blockIfAny(expression string) put {
	return func(line, word string, column int) string {
		return ifAny(expression, block(".")(line, word, column), column)
	}
}

// valueIfAny puts text after its key, and leaves out the key where the text is empty.
func valueIfAny(expression string) put {
	return func(line, word string, column int) string {
		return ifAny(expression, value(". | quote")(line, word, column), column)
	}
}

// entries puts the entries of a map or the items of a list, if there are any, among those that are there.
func entries(expression string) put {
	return func(_, _ string, column int) string {
		return ifAny(expression, fmt.Sprintf("%s{{- toYaml . | nindent %d }}", blanks(column), column), column)
	}
}

// lines puts what a named template says in the place of the line.
func lines(template string) put {
	return func(_, _ string, column int) string {
		return fmt.Sprintf("%s{{- include %q . | nindent %d }}", blanks(column), template, column)
	}
}

func ifAny(expression, line string, column int) string {
	return fmt.Sprintf("%s{{- with %s }}\n%s\n%s{{- end }}", blanks(column), expression, line, blanks(column))
}

func blanks(column int) string { return strings.Repeat(" ", column) }

// compose returns the text of each template by its path.
func compose(objects []*object) (map[string]string, error) {
	templates := map[string]string{}
	for _, o := range objects {
		text, err := o.text()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.id, err)
		}
		path := strings.Replace(o.from, "/bases/", "/", 1)
		if templates[path] == "" {
			templates[path] = fmt.Sprintf("{{- /* Made by make manifests of manifests/%s. */ -}}\n", o.from)
		}
		templates[path] += text
	}
	return templates, nil
}

// text is the object as a document of a template.
func (o *object) text() (string, error) {
	rendered, err := o.node.String()
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for line := range strings.Lines(wrapFolded(rendered)) {
		line = strings.TrimSuffix(line, "\n")
		column := columnOf(line)
		// what is of Helm's language and stands in a manifest is meant as it stands
		line = strings.ReplaceAll(line, "{{", `{{ "{{" }}`)
		for _, m := range o.marks {
			if strings.Contains(line, m.word) {
				line = m.put(line, m.word, column)
			}
		}
		text.WriteString(line + "\n")
	}
	if o.condition == "" {
		return "---\n" + text.String(), nil
	}
	return fmt.Sprintf("{{- if %s }}\n---\n%s{{- end }}\n", o.condition, text.String()), nil
}

// mark returns a scalar for which there will be what put writes.
func (o *object) mark(p put) *yaml.Node {
	word := fmt.Sprintf("mark%03dmark", len(o.marks))
	o.marks = append(o.marks, mark{word: word, put: p})
	return &yaml.Node{Kind: yaml.ScalarNode, Value: word}
}

// wide is where lines of folded text are wrapped, as in the manifests.
const wide = 150

// wrapFolded breaks the lines of folded text, of which kustomize makes one each. In folded text a line break is a blank, if no more than one is there.
func wrapFolded(text string) string {
	var wrapped strings.Builder
	folded := -1 // the column of the key whose text is folded
	for line := range strings.Lines(text) {
		if folded >= 0 && strings.TrimSpace(line) != "" && columnOf(line) <= folded {
			folded = -1
		}
		column := columnOf(line)
		for folded >= 0 && len(line) > wide {
			end := breakOf(line, column)
			if end < 0 {
				break
			}
			wrapped.WriteString(line[:end] + "\n")
			line = blanks(column) + line[end+1:]
		}
		wrapped.WriteString(line)
		if strings.HasSuffix(line, ": >-\n") {
			folded = column
		}
	}
	return wrapped.String()
}

// breakOf returns the last blank of a line before wide that is alone, or -1.
func breakOf(line string, column int) int {
	for i := wide; i > column; i-- {
		if line[i] == ' ' && line[i-1] != ' ' && line[i+1] != ' ' {
			return i
		}
	}
	return -1
}

func columnOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
