package docs

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the fields that are new into the list")

const list = "testdata/fields.txt"

// TestNoFieldIsTakenAway keeps the rule by which manager, agents and objects of neighbouring versions get along: within a version of the API, fields are
// added, and never removed or given another type. The list has all that there ever were.
func TestNoFieldIsTakenAway(t *testing.T) {
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		listed[strings.TrimSpace(line)] = true
	}
	now := fields(t)
	for line := range listed {
		if !now[line] {
			t.Errorf("there was a field %q, and users have objects with it", line)
		}
	}
	maps.DeleteFunc(now, func(line string, _ bool) bool { return listed[line] })
	added := slices.Sorted(maps.Keys(now))
	if *update && len(added) > 0 {
		maps.Copy(listed, now)
		if err := os.WriteFile(list, []byte(strings.Join(slices.Sorted(maps.Keys(listed)), "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if len(added) > 0 {
		t.Errorf("these fields are new, and from now on they stay: go test ./tests/docs -run TestNoFieldIsTakenAway -update\n%s", strings.Join(added, "\n"))
	}
}

// fields are all of the CustomResourceDefinitions, as KIND.path type.
func fields(t *testing.T) map[string]bool {
	t.Helper()
	paths, err := filepath.Glob("../../manifests/crd/bases/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	found := map[string]bool{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, crd); err != nil {
			t.Fatal(err)
		}
		for _, version := range crd.Spec.Versions {
			note(found, crd.Spec.Names.Kind+"/"+version.Name, version.Schema.OpenAPIV3Schema)
		}
	}
	return found
}

func note(found map[string]bool, path string, schema *apiextensionsv1.JSONSchemaProps) {
	kind := schema.Type
	if schema.XIntOrString {
		kind = "int-or-string"
	}
	found[path+" "+kind] = true
	for name := range schema.Properties {
		property := schema.Properties[name]
		note(found, path+"."+name, &property)
	}
	if schema.Items != nil {
		note(found, path+"[]", schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		note(found, path+"{}", schema.AdditionalProperties.Schema)
	}
}
