package settings

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestTheCheckpointThatAPodBeginsFrom(t *testing.T) {
	const (
		empty = ` is ""; it may be the name of a Checkpoint; to have pods start cold, write memverge.ai/restore-mode: "false" instead`
		may   = `; it may be the name of a Checkpoint of the pod's namespace: lower case letters, digits, hyphens and dots, 63 at most`
	)
	long := strings.Repeat("a", 64)
	for what, test := range map[string]struct {
		labels, annotations values
		namespace           Namespace
		want, err           string
		warnings            []string
	}{
		"none":                         {},
		"an annotation":                {annotations: values{keys.RestoreFrom: "web-7.a"}, want: "web-7.a"},
		"a label":                      {labels: values{keys.RestoreFrom: "web"}, want: "web"},
		"an annotation goes before":    {labels: values{keys.RestoreFrom: "web"}, annotations: values{keys.RestoreFrom: "db"}, want: "db"},
		"empty":                        {annotations: values{keys.RestoreFrom: ""}, err: "annotation memverge.ai/restore-from" + empty},
		"empty, as a label":            {labels: values{keys.RestoreFrom: ""}, err: "label memverge.ai/restore-from" + empty},
		"no name":                      {annotations: values{keys.RestoreFrom: "Web/1"}, err: `annotation memverge.ai/restore-from is "Web/1"` + may},
		"too long":                     {annotations: values{keys.RestoreFrom: long}, err: `annotation memverge.ai/restore-from is "` + long + `"` + may},
		"a Namespace's does not count": {namespace: Namespace{Name: "ns", Annotations: values{keys.RestoreFrom: "db"}}, warnings: of("annotation")},
		"nor does its label":           {namespace: Namespace{Name: "ns", Labels: values{keys.RestoreFrom: "db"}}, warnings: of("label")},
		"nor does it beside the pod's own": {
			labels: values{keys.RestoreFrom: "web"}, namespace: Namespace{Name: "ns", Labels: values{keys.RestoreFrom: "db"}}, want: "web", warnings: of("label"),
		},
		"a pod that starts cold": {
			labels: values{keys.RestoreFrom: "web", keys.RestoreMode: "false"}, want: "web",
			warnings: []string{"label memverge.ai/restore-from does nothing here: the pod starts cold, as label memverge.ai/restore-mode says"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			s, err := Resolve(podOf(test.labels, test.annotations), test.namespace)
			says := ""
			if err != nil {
				says = err.Error()
			}
			if s.RestoreFrom != test.want || says != test.err {
				t.Errorf("it is %q, %s", s.RestoreFrom, says)
			}
			if diff := cmp.Diff(test.warnings, s.Warnings); diff != "" {
				t.Errorf("warnings (-want +got)\n%s", diff)
			}
			if name, err := RestoreFrom(test.labels, test.annotations); name != test.want || (err == nil) != (test.err == "") {
				t.Errorf("without the rest it is %q, %v", name, err)
			}
		})
	}
}

func of(kind string) []string {
	return []string{kind + " memverge.ai/restore-from of Namespace ns does not count: it belongs on a pod, or on the template of pods"}
}
