package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Between these lines of a README is the table of values.
const (
	tableBegins = "<!-- values: written by make manifests from values.yaml -->\n"
	tableEnds   = "<!-- end of values -->\n"
)

// writeTable writes the table of the values into a README.
func writeTable(readme, values string) error {
	rows, err := rowsOf(values)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(text, []byte(tableBegins))
	_, after, ends := bytes.Cut(rest, []byte(tableEnds))
	if !begins || !ends {
		return fmt.Errorf("%s lacks one of the lines between which the table of values stands", readme)
	}
	var table strings.Builder
	table.WriteString("| value | default | what it is |\n|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", r.path, r.value, r.comment)
	}
	whole := string(before) + tableBegins + table.String() + tableEnds + string(after)
	return os.WriteFile(readme, []byte(whole), 0o644)
}

// row is a value that a user may set.
type row struct {
	// path is its name, as agent.diskBudget; value its default, in one line; comment what stands above it in values.yaml.
	path, value, comment string
}

// rowsOf returns the values of a values.yaml in its order. A map whose keys have comments is a group of values, any other is one.
func rowsOf(path string) ([]row, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values, err := yaml.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rowsBelow("", values.YNode())
}

func rowsBelow(prefix string, node *yaml.Node) ([]row, error) {
	var rows []row
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		path := prefix + key.Value
		if isGroup(value) {
			below, err := rowsBelow(path+".", value)
			if err != nil {
				return nil, err
			}
			rows = append(rows, below...)
			continue
		}
		line, err := inOneLine(value)
		if err != nil {
			return nil, err
		}
		comment := plain(key.HeadComment)
		if comment == "" {
			return nil, fmt.Errorf("the value %s has no comment", path)
		}
		rows = append(rows, row{path: path, value: line, comment: comment})
	}
	return rows, nil
}

// isGroup tells whether a value is a map whose keys, or those below them, are explained.
func isGroup(value *yaml.Node) bool {
	if value.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i < len(value.Content); i += 2 {
		if value.Content[i].HeadComment != "" || isGroup(value.Content[i+1]) {
			return true
		}
	}
	return false
}

// plain is a comment without its signs, in one line.
func plain(comment string) string {
	var words []string
	for line := range strings.Lines(comment) {
		words = append(words, strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "#"))...)
	}
	return strings.ReplaceAll(strings.Join(words, " "), "|", `\|`)
}

// inOneLine is a value in YAML's flow style.
func inOneLine(value *yaml.Node) (string, error) {
	copied := yaml.CopyYNode(value)
	copied.HeadComment, copied.Style = "", copied.Style|yaml.FlowStyle
	if copied.Kind == yaml.ScalarNode {
		copied.Style = value.Style
	}
	text, err := yaml.String(copied, yaml.Flow)
	return strings.Join(strings.Fields(text), " "), err
}
