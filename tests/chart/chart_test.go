package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const (
	manifests = "../../manifests"
	chart     = manifests + "/chart"
)

// helmProgram is the one that HELM names, or that go.mod does.
var helmProgram = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("HELM"); path != "" {
		return path, nil
	}
	path, err := exec.Command("go", "tool", "-n", "helm").Output()
	return strings.TrimSpace(string(path)), err
})

// helm runs Helm and returns what it says, and what it complains of.
func helm(t *testing.T, words ...string) (said, complaint string, err error) {
	t.Helper()
	program, err := helmProgram()
	if err != nil {
		t.Fatalf("build helm: %v", err)
	}
	command := exec.Command(program, words...)
	var out, complaints bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaints
	home := t.TempDir()
	command.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	err = command.Run()
	return out.String(), complaints.String(), err
}

// template renders the chart with values, in YAML, and further words of the command line.
func template(t *testing.T, values string, words ...string) (text string, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	words = append([]string{"template", "checkpoints", chart, "--namespace", "checkpoint-system", "--kube-version", "1.37.0", "--values", file}, words...)
	text, complaint, err := helm(t, words...)
	if err != nil {
		return text, fmt.Errorf("%w: %s", err, complaint)
	}
	return text, nil
}

// fields are the fields of objects, by the kind and name of the object and the path of the field.
type fields map[string]string

// fieldsOf returns the fields of the objects of a text in YAML.
func fieldsOf(t *testing.T, text string) fields {
	t.Helper()
	all := fields{}
	for _, document := range regexp.MustCompile(`(?m)^---$`).Split(text, -1) {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if object == nil {
			continue
		}
		metadata, _ := object["metadata"].(map[string]any)
		id := fmt.Sprintf("%v/%v", object["kind"], metadata["name"])
		if namespace, found := metadata["namespace"]; found {
			id = fmt.Sprintf("%v/%v/%v", object["kind"], namespace, metadata["name"])
		}
		if _, twice := all[id+" kind"]; twice {
			t.Fatalf("there are two of %s", id)
		}
		all.add(id, object)
	}
	return all
}

func (f fields) add(path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, below := range value {
			f.add(path+" "+key, below)
		}
		if len(value) > 0 {
			return
		}
	case []any:
		for i, below := range value {
			item := fmt.Sprint(i)
			if named, _ := below.(map[string]any); named["name"] != nil {
				item = fmt.Sprint(named["name"])
			}
			if _, twice := f[path+" "+item+" name"]; twice { // as of a volume that is mounted twice
				item = fmt.Sprint(i)
			}
			f.add(path+" "+item, below)
		}
		if len(value) > 0 {
			return
		}
	}
	text, _ := json.Marshal(value)
	f[path] = string(text)
}

// changes are the fields that differ, with what they have then; "" is nothing.
func changes(from, to fields) fields {
	changed := fields{}
	for path, value := range to {
		if from[path] != value {
			changed[path] = value
		}
	}
	for path := range from {
		if _, stays := to[path]; !stays {
			changed[path] = ""
		}
	}
	return changed
}

// whole makes of the fields of each object of which all are new, or all are gone, one entry.
func whole(changed, from, to fields) fields {
	shorter := fields{}
	for path, value := range changed {
		id, _, _ := strings.Cut(path, " ")
		_, was := from[id+" kind"]
		_, is := to[id+" kind"]
		switch {
		case was && is:
			shorter[path] = value
		case is:
			shorter[id] = "new"
		default:
			shorter[id] = "gone"
		}
	}
	return shorter
}

// Both ways install the same. The list of what may differ is in this test.
func TestTheChartIsWhatKustomizeMakes(t *testing.T) {
	objects, err := render(manifests)
	if err != nil {
		t.Fatal(err)
	}
	var kustomized strings.Builder
	want := fields{
		"Namespace/checkpoint-system":                          "gone", // which Helm needs before it installs anything
		"ConfigMap/checkpoint-system/checkpoint-operator data": "{}",   // so that Helm removes its own keys alone
	}
	for _, o := range objects {
		text, err := o.node.String()
		if err != nil {
			t.Fatal(err)
		}
		kustomized.WriteString("---\n" + text)
		id, kind := o.id, o.node.GetKind()
		if namespace := o.node.GetNamespace(); namespace != "" {
			id = kind + "/" + namespace + "/" + o.node.GetName()
		}
		if id == "Namespace/checkpoint-system" {
			continue
		}
		want[id+" metadata labels app.kubernetes.io/instance"] = `"checkpoints"`
		want[id+" metadata labels app.kubernetes.io/managed-by"] = `"Helm"`
		want[id+" metadata labels app.kubernetes.io/version"] = `"dev"`
		want[id+" metadata labels helm.sh/chart"] = `"transparent-checkpoint-0.1.0-dev"`
		annotations := " metadata annotations helm.sh/"
		switch {
		case kind == "CustomResourceDefinition" || kind == "RuntimeClass":
			want[id+annotations+"resource-policy"] = `"keep"`
		case o.from == "uninstall/job.yaml":
			want[id+annotations+"hook-weight"] = `"1"`
			want[id+" spec template spec containers uninstall args 2"] = `"--keep-objects"` // those Helm deletes
			want[id+" spec template spec containers uninstall args 3"] = `"--keep-crds"`    // which kubectl apply -k has no value for
			fallthrough
		case o.from == "uninstall/rbac.yaml":
			want[id+annotations+"hook"] = `"pre-delete"`
			want[id+annotations+"hook-delete-policy"] = `"before-hook-creation,hook-succeeded"`
		}
	}
	rendered, err := template(t, "")
	if err != nil {
		t.Fatal(err)
	}
	byKustomize, byHelm := fieldsOf(t, kustomized.String()), fieldsOf(t, rendered)
	if diff := cmp.Diff(want, whole(changes(byKustomize, byHelm), byKustomize, byHelm)); diff != "" {
		t.Errorf("what differs between kustomize and the chart (-allowed +is):\n%s", diff)
	}
}

func TestTheChartIsWhatTheManifestsMake(t *testing.T) {
	want, err := templatesOf(manifests)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	files, err := filepath.Glob(chart + "/templates/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file)] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests/chart/templates is not what make manifests makes of it (-want +got):\n%s", diff)
	}
}

func TestRenderingTwiceIsTheSame(t *testing.T) {
	values := "agent: {podLabels: {b: two, a: one, c: three}}\noperator: {namespaces: [b, a], paused: true}\ncommonLabels: {d: d, c: c, a: a}\n"
	first, err := template(t, values)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if again, err := template(t, values); err != nil || again != first {
			t.Fatalf("another rendering differs (%v):\n%s", err, cmp.Diff(first, again))
		}
	}
}

func TestHelmFindsNothingToComplainOf(t *testing.T) {
	said, complaint, err := helm(t, "lint", "--strict", "--kube-version", "1.37.0", chart)
	if err != nil || strings.Contains(said+complaint, "[WARNING]") {
		t.Errorf("helm lint: %v\n%s%s", err, said, complaint)
	}
}

func TestTheReadmeHasAllValues(t *testing.T) {
	readme := filepath.Join(t.TempDir(), "README.md")
	is, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(readme, is, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeTable(readme, chart+"/values.yaml"); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(readme)
	if diff := cmp.Diff(string(want), string(is)); err != nil || diff != "" {
		t.Errorf("the table of values is not what make manifests makes of values.yaml: %v\n%s", err, diff)
	}
}

// An upgrade takes out nothing that the manager has written, as the templates say nothing of it.
func TestTheChartSaysNothingOfWhatTheManagerWrites(t *testing.T) {
	rendered, err := template(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for path, value := range fieldsOf(t, rendered) {
		id, field, _ := strings.Cut(path, " ")
		isData := value != "{}" && (strings.HasPrefix(field, "data") || strings.HasPrefix(field, "stringData"))
		if isData && (strings.HasPrefix(id, "Secret/") || strings.HasPrefix(id, "ConfigMap/")) || strings.HasSuffix(field, " caBundle") {
			t.Errorf("the chart says something of %s", path)
		}
	}
}

func TestWhatLooksLikeATemplateStaysWhatItIs(t *testing.T) {
	tests := map[string]struct {
		line, want string
		put        put
	}{
		"braces are escaped":          {line: "say: '{{ this }}'", want: "say: '{{ \"{{\" }} this }}'\n"},
		"an expression is not":        {line: "say: mark000mark", put: value(".Values.x"), want: "say: {{ .Values.x }}\n"},
		"braces beside an expression": {line: "say: '{{ mark000mark'", put: value(".Values.x"), want: "say: '{{ \"{{\" }} {{ .Values.x }}'\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := parse(t, tt.line)
			if tt.put != nil {
				o.mark(tt.put)
			}
			if got, err := o.text(); err != nil || got != "---\n"+tt.want {
				t.Errorf("it is %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

func TestFoldedTextIsWrapped(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("some words  and 'more  of them' ", 40))
	text := "a:\n- b: >-\n    " + long + "\n  c: d\n"
	wrapped := wrapFolded(text)
	for line := range strings.Lines(wrapped) {
		if len(line) > wide+1 {
			t.Errorf("a line has %d characters: %s", len(line), line)
		}
	}
	var was, is any
	if err := yaml.Unmarshal([]byte(text), &was); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(wrapped), &is); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("what it says has changed (-was +is):\n%s", diff)
	}
}
