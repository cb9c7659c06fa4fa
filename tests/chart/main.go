package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	manifests := flag.String("manifests", "../../manifests", "the folder that has the folders default and chart")
	flag.Parse()
	if err := run(*manifests); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run writes what of the chart is made of something else.
func run(manifests string) error {
	templates, err := templatesOf(manifests)
	if err != nil {
		return err
	}
	chart := filepath.Join(manifests, "chart")
	if err := writeTemplates(filepath.Join(chart, "templates"), templates); err != nil {
		return err
	}
	return writeTable(filepath.Join(chart, "README.md"), filepath.Join(chart, "values.yaml"))
}

// templatesOf returns the text of each template by its path below templates/.
func templatesOf(manifests string) (map[string]string, error) {
	objects, err := render(manifests)
	if err != nil {
		return nil, err
	}
	objects, err = applyEdits(objects)
	if err != nil {
		return nil, err
	}
	return compose(objects)
}

// writeTemplates puts the templates into folders of dir, and removes folders of which there is none any more. Files of dir itself stay.
func writeTemplates(dir string, templates map[string]string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	for path, text := range templates {
		path = filepath.Join(dir, path)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	return err
}
