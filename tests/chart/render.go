package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// object is one that kustomize has rendered.
type object struct {
	// id is its kind and name, as Deployment/checkpoint-manager.
	id string
	// from is the file it comes from, below manifests/.
	from string
	node *yaml.RNode
	// marks are what stands in it for expressions; condition is one on which all of it depends, if not empty.
	marks     []mark
	condition string
}

// overlay has kustomize say where each object comes from.
const overlay = `
resources: [../default, ../uninstall]
buildMetadata: [originAnnotations]
`

// originAnnotation is where it says that.
const originAnnotation = "config.kubernetes.io/origin"

// render returns the objects of manifests/default and manifests/uninstall, in the order of kustomize, with the comments of their files.
func render(manifests string) ([]*object, error) {
	files, err := inMemory(manifests)
	if err != nil {
		return nil, err
	}
	if err := files.WriteFile("/manifests/overlay/kustomization.yaml", []byte(overlay)); err != nil {
		return nil, err
	}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/manifests/overlay")
	if err != nil {
		return nil, err
	}
	var objects []*object
	for _, resource := range rendered.Resources() {
		o := &object{id: resource.GetKind() + "/" + resource.GetName(), node: &resource.RNode}
		origin, err := resource.GetOrigin()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.id, err)
		}
		o.from = strings.TrimPrefix(origin.Path, "../")
		if err := o.node.PipeE(yaml.ClearAnnotation(originAnnotation)); err != nil {
			return nil, err
		}
		if err := yaml.ClearEmptyAnnotations(o.node); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// is tells whether a pattern is for the object: its id, its kind and /*, or the folder that it comes from and /*.
func (o *object) is(pattern string) bool {
	all, isAll := strings.CutSuffix(pattern, "/*")
	return pattern == o.id || isAll && (all == o.node.GetKind() || all == filepath.Dir(o.from))
}

// inMemory is a file system that has a folder as /manifests, but for the chart in it.
func inMemory(manifests string) (filesys.FileSystem, error) {
	files := filesys.MakeFsInMemory()
	return files, filepath.WalkDir(manifests, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(manifests, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if relative == "chart" {
				return fs.SkipDir
			}
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return files.WriteFile(filepath.Join("/manifests", relative), text)
	})
}
