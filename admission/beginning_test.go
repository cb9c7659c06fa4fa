package admission

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// judge answers SubjectAccessReviews, and remembers them.
type judge struct {
	client.Writer
	err     error
	allows  bool
	reviews []authorizationv1.SubjectAccessReviewSpec
}

func (j *judge) Create(_ context.Context, object client.Object, _ ...client.CreateOption) error {
	review, isOne := object.(*authorizationv1.SubjectAccessReview)
	if !isOne {
		return fmt.Errorf("it is a %T", object)
	}
	j.reviews = append(j.reviews, review.Spec)
	review.Status.Allowed = j.allows
	return j.err
}

// beginnings has the Checkpoint golden.
func beginnings(t *testing.T, j *judge) Beginnings {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	golden := &v1alpha1.Checkpoint{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "golden"}}
	return Beginnings{
		Reviews: j, Checkpoints: fake.NewClientBuilder().WithScheme(scheme).WithObjects(golden).Build(), Namespaces: namespaces(nil, nil),
	}
}

// naming is the metadata of pods that are captured, and begin from a Checkpoint.
func naming(name string) string {
	return fmt.Sprintf(`"metadata":{"labels":{"memverge.ai/checkpoint-mode":"true"},"annotations":{"memverge.ai/restore-from":%q}}`, name)
}

func podNaming(name string) string { return "{" + naming(name) + "}" }

func templateNaming(name string) string { return `{"spec":{"template":{` + naming(name) + `}}}` }

const silent = `{"metadata":{}}`

// beginningTest is what somebody writes, and what comes of it.
type beginningTest struct {
	kind, resource, user string
	object, old          string
	refuses              bool // the API server, if it is asked
	err                  error
	asked                string // the name that it is asked about
	code                 int32  // of the refusal
	says                 []string
}

func TestWhoHasPodsBeginFromACheckpointMustBeAllowedTo(t *testing.T) {
	pods, deployments := beginningTest{kind: "Pod", resource: "pods"}, beginningTest{kind: "Deployment", resource: "deployments"}
	judgeBeginnings(t, map[string]beginningTest{
		"a pod": pods.with(beginningTest{object: podNaming("golden"), asked: "golden"}),
		"a pod's label": pods.with(beginningTest{
			object: `{"metadata":{"labels":{"memverge.ai/restore-from":"golden"}}}`, asked: "golden", says: []string{"does nothing without"},
		}),
		"a pod of a stranger": pods.with(beginningTest{
			object: podNaming("golden"), asked: "golden", refuses: true, code: http.StatusForbidden,
			says: []string{`user "jane" may not restore checkpoints.checkpoint.memverge.ai "golden" in namespace "default"`, "memverge.ai/restore-from",
				"rules: [{apiGroups: [checkpoint.memverge.ai], resources: [checkpoints], resourceNames: [golden], verbs: [restore]}]"},
		}),
		"a pod that says nothing":      pods.with(beginningTest{object: silent}),
		"a Deployment":                 deployments.with(beginningTest{object: templateNaming("golden"), asked: "golden"}),
		"on the Deployment itself":     deployments.with(beginningTest{object: podNaming("golden")}),
		"a Deployment that names anew": deployments.with(beginningTest{object: templateNaming("golden"), old: templateNaming("other"), asked: "golden"}),
		"a Deployment that names as it did": deployments.with(beginningTest{
			object: templateNaming("golden"), old: templateNaming("golden"), refuses: true,
		}),
		"a Deployment that names no more": deployments.with(beginningTest{object: silent, old: templateNaming("golden"), refuses: true}),
		"a Binding of a pod": {
			kind: "Binding", resource: "pods", object: podNaming("golden"), asked: "golden", refuses: true, code: http.StatusForbidden,
		},
		"a CronJob": {
			kind: "CronJob", resource: "cronjobs", object: `{"spec":{"jobTemplate":{"spec":{"template":{` + naming("golden") + `}}}}}`, asked: "golden",
			refuses: true, code: http.StatusForbidden,
		},
		"a ReplicationController": {kind: "ReplicationController", resource: "replicationcontrollers", object: templateNaming("golden"), asked: "golden"},
		"no name": pods.with(beginningTest{
			object: podNaming("No/Name"), code: http.StatusForbidden, says: []string{`is "No/Name"; it may be the name`},
		}),
		"nothing":          pods.with(beginningTest{object: podNaming(""), code: http.StatusForbidden, says: []string{"memverge.ai/restore-mode"}}),
		"one that is none": pods.with(beginningTest{object: podNaming("none"), asked: "none", says: []string{"there is not in namespace default"}}),
		"nobody knows": pods.with(beginningTest{
			object: podNaming("golden"), asked: "golden", err: errors.New("away"), code: http.StatusInternalServerError, says: []string{"away"},
		}),
		"nonsense": pods.with(beginningTest{object: "[", code: http.StatusBadRequest, says: []string{"read the Pod"}}),
	})
}

func TestWhatComesFromATemplateIsNotAskedAboutAgain(t *testing.T) {
	const of = "system:serviceaccount:kube-system:"
	refused := func(kind, resource, user string) beginningTest {
		return beginningTest{
			kind: kind, resource: resource, user: user, object: podNaming("golden"), asked: "golden", refuses: true, code: http.StatusForbidden,
		}
	}
	claims := refused("Pod", "pods", "jane")
	claims.object = `{"metadata":{"annotations":{"memverge.ai/restore-from":"golden"},"ownerReferences":[{"kind":"ReplicaSet","name":"web","controller":true}]}}`
	judgeBeginnings(t, map[string]beginningTest{
		"a pod":                {kind: "Pod", resource: "pods", object: podNaming("golden"), user: of + "replicaset-controller", refuses: true},
		"a ReplicaSet":         {kind: "ReplicaSet", resource: "replicasets", object: templateNaming("golden"), user: of + "deployment-controller", refuses: true},
		"a Job":                {kind: "Job", resource: "jobs", object: templateNaming("golden"), user: of + "cronjob-controller", refuses: true},
		"by whom it never is":  refused("Pod", "pods", of+"deployment-controller"),
		"of another namespace": refused("Pod", "pods", "system:serviceaccount:shop:replicaset-controller"),
		"an owner is claimed":  claims,
	})
}

// with fills in the rest of a test.
func (b beginningTest) with(rest beginningTest) beginningTest {
	rest.kind, rest.resource = b.kind, b.resource
	return rest
}

func judgeBeginnings(t *testing.T, tests map[string]beginningTest) {
	t.Helper()
	for what, test := range tests {
		t.Run(what, func(t *testing.T) {
			j := &judge{allows: !test.refuses, err: test.err}
			answer := beginnings(t, j).Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Namespace: "default", Kind: metav1.GroupVersionKind{Kind: test.kind}, Resource: metav1.GroupVersionResource{Resource: test.resource},
				UserInfo: authenticationv1.UserInfo{Username: cmp.Or(test.user, "jane")}, Object: runtime.RawExtension{Raw: []byte(test.object)},
				OldObject: runtime.RawExtension{Raw: []byte(test.old)},
			}})
			asked := ""
			for _, r := range j.reviews {
				asked += r.ResourceAttributes.Name
			}
			if asked != test.asked || answer.Allowed != (test.code == 0) || test.code != 0 && answer.Result.Code != test.code {
				t.Errorf("asked about %q, allowed %t, %+v", asked, answer.Allowed, answer.Result)
			}
			said := strings.Join(answer.Warnings, "\n") + answer.Result.Message
			for _, part := range test.says {
				if !strings.Contains(said, part) {
					t.Errorf("it says %q, which lacks %q", said, part)
				}
			}
			if len(test.says) == 0 && len(answer.Warnings) > 0 {
				t.Errorf("it warns %q", answer.Warnings)
			}
		})
	}
}

func TestAllOfWhoAsksIsAskedAbout(t *testing.T) {
	j := &judge{allows: true}
	beginnings(t, j).Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: "shop", Kind: metav1.GroupVersionKind{Kind: "Pod"}, Resource: metav1.GroupVersionResource{Resource: "pods"},
		Object: runtime.RawExtension{Raw: []byte(podNaming("golden"))},
		UserInfo: authenticationv1.UserInfo{
			Username: "jane", UID: "7", Groups: []string{"devs"}, Extra: map[string]authenticationv1.ExtraValue{"scope": {"a", "b"}},
		},
	}})
	want := []authorizationv1.SubjectAccessReviewSpec{{
		User: "jane", UID: "7", Groups: []string{"devs"}, Extra: map[string]authorizationv1.ExtraValue{"scope": {"a", "b"}},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: "restore", Group: "checkpoint.memverge.ai", Version: "v1alpha1", Resource: "checkpoints", Namespace: "shop", Name: "golden",
		},
	}}
	if diff := gocmp.Diff(want, j.reviews); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The API server lets pass what we would.
func TestTheConfigurationKnowsTheSameControllers(t *testing.T) {
	text, err := os.ReadFile("../manifests/webhook/restore-from.yaml")
	if err != nil {
		t.Fatal(err)
	}
	configuration := &registrationv1.ValidatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(text, configuration); err != nil {
		t.Fatal(err)
	}
	got, account := map[string][]string{}, regexp.MustCompile(`'(system:serviceaccount:[^']+)'`)
	for _, hook := range configuration.Webhooks {
		if *hook.FailurePolicy != registrationv1.Fail || *hook.ClientConfig.Service.Path != BeginningsPath {
			conditions, _ := json.Marshal(hook)
			t.Errorf("%s", conditions)
		}
		for _, condition := range hook.MatchConditions {
			for _, match := range account.FindAllStringSubmatch(condition.Expression, -1) {
				resource := hook.Rules[0].Resources[0]
				got[resource] = append(got[resource], match[1])
			}
		}
	}
	for _, users := range got {
		slices.Sort(users)
	}
	if diff := gocmp.Diff(controllers, got); diff != "" {
		t.Errorf("(-here +configuration)\n%s", diff)
	}
}
