package docs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// An object in a page is one that the API server would take: no field that there is not, of our kinds no value that cannot be, and no key of a pod whose value
// means nothing. tests/integration asks the API server itself.
func TestObjectsInThePages(t *testing.T) {
	kinds := newKinds(t)
	whole := 0
	for _, p := range all(t) {
		for _, b := range p.Blocks {
			if b.Language != "yaml" || b.Note == "example" {
				continue
			}
			for _, text := range strings.Split(b.Text, "\n---\n") {
				if err := kinds.check([]byte(text), strings.TrimPrefix(b.Note, "of=")); err != nil {
					t.Errorf("%s: %v", p.At(b.Line), err)
				}
			}
			if b.Note == "" {
				whole++
			}
		}
	}
	if whole < 10 {
		t.Errorf("%d blocks with whole objects were found", whole)
	}
}

func TestWhatIsWrongWithAnObjectIsFound(t *testing.T) {
	kinds := newKinds(t)
	for name, test := range map[string]struct{ text, of, want string }{
		"a field that there is not":  {text: "spec: {fallbak: Fail}", of: "RestorePolicy", want: `unknown field "fallbak"`},
		"a value that cannot be":     {text: "spec: {fallback: Perhaps}", of: "RestorePolicy", want: "spec.fallback in body should be one of"},
		"a field of a pod":           {text: "spec: {container: []}", of: "Pod", want: `unknown field "container"`},
		"a label that means nothing": {text: "metadata: {labels: {memverge.ai/checkpoint-mode: 'yes'}}", of: "Pod", want: "memverge.ai/checkpoint-mode"},
		"one in a template": {
			text: "spec: {template: {metadata: {labels: {memverge.ai/checkpoint-volume-size: lots}}}}", of: "Job", want: "memverge.ai/checkpoint-volume-size",
		},
		"no kind at all": {text: "spec: {}", want: "no apiVersion"},
		"a part of nothing that is known": {
			text: "spec: {}", of: "Pot", want: "no kind Pot",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := kinds.check([]byte(test.text), test.of); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want one with %q", err, test.want)
			}
		})
	}
}

// kinds are those of Kubernetes and our own, these with their schemas.
type kinds struct {
	scheme  *runtime.Scheme
	schemas map[string]*spec.Schema // by the kind
}

func newKinds(t *testing.T) kinds {
	t.Helper()
	k := kinds{scheme: runtime.NewScheme(), schemas: map[string]*spec.Schema{}}
	utilruntime.Must(scheme.AddToScheme(k.scheme))
	utilruntime.Must(v1alpha1.AddToScheme(k.scheme))
	for _, crd := range definitions(t) {
		data, err := json.Marshal(crd.Spec.Versions[0].Schema.OpenAPIV3Schema)
		if err != nil {
			t.Fatal(err)
		}
		k.schemas[crd.Spec.Names.Kind] = &spec.Schema{}
		if err := json.Unmarshal(data, k.schemas[crd.Spec.Names.Kind]); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// check returns what is wrong with an object. of is the kind of a part; nothing says that the text is a whole.
func (k kinds) check(text []byte, of string) error {
	object, err := k.decode(text, of)
	if err != nil {
		return err
	}
	if err := k.values(text, object.GetObjectKind().GroupVersionKind().Kind, of != ""); err != nil {
		return err
	}
	template := templateOf(object)
	if template == nil {
		return nil
	}
	_, err = settings.Resolve(template, settings.Namespace{})
	return err
}

func (k kinds) decode(text []byte, of string) (runtime.Object, error) {
	head := metav1.TypeMeta{}
	if err := yaml.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	kind := head.GroupVersionKind()
	if of == "" && (kind.Version == "" || kind.Kind == "") {
		return nil, fmt.Errorf("it has no apiVersion or kind; mark a part of one as `yaml of=KIND`")
	}
	if of != "" {
		var err error
		if kind, err = k.kindNamed(cmp.Or(head.Kind, of)); err != nil {
			return nil, err
		}
	}
	object, err := k.scheme.New(kind)
	if err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalStrict(text, object); err != nil {
		return nil, err
	}
	object.GetObjectKind().SetGroupVersionKind(kind)
	return object, nil
}

// kindNamed finds the newest version of a kind by its name alone.
func (k kinds) kindNamed(name string) (schema.GroupVersionKind, error) {
	for _, version := range append(k.scheme.PrioritizedVersionsAllGroups(), v1alpha1.SchemeGroupVersion) {
		if kind := version.WithKind(name); k.scheme.Recognizes(kind) {
			return kind, nil
		}
	}
	return schema.GroupVersionKind{}, fmt.Errorf("there is no kind %s", name)
}

// values compares an object of ours with the schema of its kind. A part may lack what a whole must have.
func (k kinds) values(text []byte, kind string, part bool) error {
	known := k.schemas[kind]
	if known == nil {
		return nil
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		return err
	}
	var wrong []string
	for _, err := range validate.NewSchemaValidator(known, nil, "", strfmt.Default).Validate(values).Errors {
		if !part || !strings.Contains(err.Error(), "is required") {
			wrong = append(wrong, err.Error())
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return nil
}

// templateOf is the pod of an object, or that which it makes pods of; nil if it has nothing to do with pods.
func templateOf(object runtime.Object) *corev1.Pod {
	if pod, is := object.(*corev1.Pod); is {
		return pod
	}
	value := reflect.ValueOf(object).Elem().FieldByName("Spec")
	if value.IsValid() && value.FieldByName("JobTemplate").IsValid() { // of a CronJob
		value = value.FieldByName("JobTemplate").FieldByName("Spec")
	}
	if !value.IsValid() || !value.FieldByName("Template").IsValid() {
		return nil
	}
	template, is := value.FieldByName("Template").Interface().(corev1.PodTemplateSpec)
	if !is {
		return nil
	}
	return &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
}

// definitions are our CustomResourceDefinitions.
func definitions(t *testing.T) (all []*apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(top, "manifests/crd/bases/*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict([]byte(read(t, strings.TrimPrefix(path, top+"/"))), crd); err != nil {
			t.Fatal(err)
		}
		all = append(all, crd)
	}
	return all
}
