package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"
)

// What of the rendered objects the tests below name often.
const (
	theManager   = "Deployment/checkpoint-system/checkpoint-manager spec template spec "
	managersPods = "Deployment/checkpoint-system/checkpoint-manager spec template metadata "
	theAgent     = "DaemonSet/checkpoint-agents/checkpoint-agent spec template spec "
	agentsPods   = "DaemonSet/checkpoint-agents/checkpoint-agent spec template metadata "
	theUninstall = "Job/checkpoint-system/checkpoint-uninstall spec template spec "
	noConfig     = "ConfigMap/checkpoint-system/checkpoint-operator data"
	theConfig    = noConfig + " "
	theLocation  = "CheckpointStorageLocation/default"
)

// valueTests have for each value what it changes of what is rendered, and that it changes nothing else.
var valueTests = map[string]struct {
	values string
	want   fields
}{
	"images.pullPolicy": {"images: {pullPolicy: Always}", fields{
		theManager + "containers manager imagePullPolicy":     `"Always"`,
		theAgent + "containers agent imagePullPolicy":         `"Always"`,
		theUninstall + "containers uninstall imagePullPolicy": `"Always"`,
	}},
	"images.pullSecrets": {"images: {pullSecrets: [{name: mine}]}", fields{
		theManager + "imagePullSecrets mine name":   `"mine"`,
		theAgent + "imagePullSecrets mine name":     `"mine"`,
		theUninstall + "imagePullSecrets mine name": `"mine"`,
	}},
	"manager.image.repository": {"manager: {image: {repository: registry.example.com/m}}", fields{
		theManager + "containers manager image":     `"registry.example.com/m:dev"`,
		theUninstall + "containers uninstall image": `"registry.example.com/m:dev"`,
	}},
	"manager.image.tag": {"manager: {image: {tag: '1.0'}}", fields{
		theManager + "containers manager image":     `"localhost/checkpoint-manager:1.0"`,
		theUninstall + "containers uninstall image": `"localhost/checkpoint-manager:1.0"`,
	}},
	"manager.image.digest": {"manager: {image: {tag: '1.0', digest: 'sha256:" + strings.Repeat("0f", 32) + "'}}", fields{
		theManager + "containers manager image":     `"localhost/checkpoint-manager@sha256:` + strings.Repeat("0f", 32) + `"`,
		theUninstall + "containers uninstall image": `"localhost/checkpoint-manager@sha256:` + strings.Repeat("0f", 32) + `"`,
	}},
	"agent.image.repository": {"agent: {image: {repository: registry.example.com/a}}", fields{
		theAgent + "containers agent image": `"registry.example.com/a:dev"`,
	}},
	"agent.image.tag": {"agent: {image: {tag: v1}}", fields{theAgent + "containers agent image": `"localhost/checkpoint-agent:v1"`}},
	"agent.image.digest": {"agent: {image: {digest: 'sha256:" + strings.Repeat("0f", 32) + "'}}", fields{
		theAgent + "containers agent image": `"localhost/checkpoint-agent@sha256:` + strings.Repeat("0f", 32) + `"`,
	}},

	"manager.replicas": {"manager: {replicas: 1}", fields{
		"Deployment/checkpoint-system/checkpoint-manager spec replicas": "1",
		"PodDisruptionBudget/checkpoint-system/checkpoint-manager":      "gone", // with it no node could be drained
	}},
	"manager.resources": {"manager: {resources: {limits: {memory: 2Gi}}}", fields{theManager + "containers manager resources limits memory": `"2Gi"`}},
	"manager.nodeSelector": {"manager: {nodeSelector: {node-role.kubernetes.io/control-plane: ''}}", fields{
		theManager + "nodeSelector node-role.kubernetes.io/control-plane": `""`,
	}},
	"manager.tolerations": {"manager: {tolerations: [{key: a, operator: Exists}]}", fields{
		theManager + "tolerations 0 key":      `"a"`,
		theManager + "tolerations 0 operator": `"Exists"`,
	}},
	"manager.affinity": {"manager: {affinity: {podAntiAffinity: null, nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}}", fields{
		theManager + "affinity nodeAffinity preferredDuringSchedulingIgnoredDuringExecution":           "[]",
		theManager + antiAffinity + "weight":                                                           "",
		theManager + antiAffinity + "podAffinityTerm topologyKey":                                      "",
		theManager + antiAffinity + "podAffinityTerm labelSelector matchLabels app.kubernetes.io/name": "",
	}},
	"manager.priorityClassName": {"manager: {priorityClassName: ''}", fields{theManager + "priorityClassName": ""}},
	"manager.podLabels":         {"manager: {podLabels: {team: blue}}", fields{managersPods + "labels team": `"blue"`}},
	"manager.podAnnotations":    {"manager: {podAnnotations: {note: '1'}}", fields{managersPods + "annotations note": `"1"`}},
	"manager.extraArgs":         {"manager: {extraArgs: [--zap-log-level=debug]}", fields{theManager + "containers manager args 0": `"--zap-log-level=debug"`}},

	"agent.createNamespace": {"agent: {createNamespace: false}", fields{"Namespace/checkpoint-agents": "gone"}},
	"agent.maxUnavailable": {"agent: {maxUnavailable: 3}", fields{
		"DaemonSet/checkpoint-agents/checkpoint-agent spec updateStrategy rollingUpdate maxUnavailable": "3",
	}},
	"agent.resources": {"agent: {resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}}", fields{
		theAgent + "containers agent resources requests cpu":  "1",
		theAgent + "containers agent resources limits memory": `"1Gi"`,
	}},
	"agent.nodeSelector":      {"agent: {nodeSelector: {pool: spot}}", fields{theAgent + "nodeSelector pool": `"spot"`}},
	"agent.tolerations":       {"agent: {tolerations: []}", fields{theAgent + "tolerations 0 operator": ""}},
	"agent.affinity":          {"agent: {affinity: {podAffinity: {}}}", fields{theAgent + "affinity podAffinity": "{}"}},
	"agent.priorityClassName": {"agent: {priorityClassName: high}", fields{theAgent + "priorityClassName": `"high"`}},
	"agent.podLabels":         {"agent: {podLabels: {team: blue}}", fields{agentsPods + "labels team": `"blue"`}},
	"agent.podAnnotations":    {"agent: {podAnnotations: {note: '1'}}", fields{agentsPods + "annotations note": `"1"`}},
	"agent.uploadsAtOnce":     {"agent: {uploadsAtOnce: 8}", fields{theAgent + "containers agent args 0": `"--uploads-at-once=8"`}},
	"agent.uploadBandwidth":   {"agent: {uploadBandwidth: 100Mi}", fields{theAgent + "containers agent args 1": `"--upload-bandwidth=100Mi"`}},
	"agent.downloadBandwidth": {"agent: {downloadBandwidth: 1.5Gi}", fields{theAgent + "containers agent args 2": `"--download-bandwidth=1.5Gi"`}},
	"agent.diskBudget":        {"agent: {diskBudget: 50Gi}", fields{theAgent + "containers agent args 3": `"--disk-budget=50Gi"`}},
	"agent.criSocket":         {"agent: {criSocket: /run/crio/crio.sock}", fields{theAgent + "containers agent args 4": `"--cri-socket=/run/crio/crio.sock"`}},
	"agent.home":              {"agent: {home: /var/lib/programs}", fields{theAgent + "containers agent args 4": `"--home=/var/lib/programs"`}},
	"agent.extraArgs":         {"agent: {extraArgs: [--zap-log-level=debug]}", fields{theAgent + "containers agent args 4": `"--zap-log-level=debug"`}},

	"operator.paused":     {"operator: {paused: true}", fields{noConfig: "", theConfig + "paused": `"true"`}},
	"operator.namespaces": {"operator: {namespaces: [blue, red]}", fields{noConfig: "", theConfig + "namespaces": `"blue,red"`}},
	"operator.namespaceSelector": {"operator: {namespaceSelector: 'team=blue,stage!=test'}", fields{
		noConfig: "", theConfig + "namespaceSelector": `"team=blue,stage!=test"`,
	}},
	"operator.namespaceQuota": {"operator: {namespaceQuota: 50Gi}", fields{noConfig: "", theConfig + "namespaceQuota": `"50Gi"`}},

	"location.spec": {"location: {spec: " + aLocation + "}", fields{theLocation: "new"}},
	"location.name": {"location: {name: other, spec: " + aLocation + "}", fields{"CheckpointStorageLocation/other": "new"}},

	"uninstall.enabled": {"uninstall: {enabled: false}", fields{
		"Job/checkpoint-system/checkpoint-uninstall":            "gone",
		"ServiceAccount/checkpoint-system/checkpoint-uninstall": "gone",
		"ClusterRole/checkpoint-uninstall":                      "gone",
		"ClusterRoleBinding/checkpoint-uninstall":               "gone",
	}},
	"uninstall.keepCRDs":    {"uninstall: {keepCRDs: false}", fields{theUninstall + "containers uninstall args 3": ""}},
	"uninstall.leaveStates": {"uninstall: {leaveStates: true}", fields{theUninstall + "containers uninstall args 4": `"--leave-states"`}},
	"uninstall.patience":    {"uninstall: {patience: 1h30m}", fields{theUninstall + "containers uninstall args 1": `"--patience=1h30m"`}},

	"crds.install": {"crds: {install: false}", fields{
		"CustomResourceDefinition/checkpoints.checkpoint.memverge.ai":                "gone",
		"CustomResourceDefinition/checkpointpolicies.checkpoint.memverge.ai":         "gone",
		"CustomResourceDefinition/checkpointstoragelocations.checkpoint.memverge.ai": "gone",
		"CustomResourceDefinition/restorepolicies.checkpoint.memverge.ai":            "gone",
	}},
}

const (
	aLocation    = `{endpoint: "https://s3.example.com", bucket: checkpoints, credentials: {secretName: checkpoint-bucket}, role: Default}`
	antiAffinity = "affinity podAntiAffinity preferredDuringSchedulingIgnoredDuringExecution 0 "
)

func TestEachValueChangesWhatItSays(t *testing.T) {
	text, err := template(t, "")
	if err != nil {
		t.Fatal(err)
	}
	byDefault := fieldsOf(t, text)
	for name, tt := range valueTests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := template(t, tt.values)
			if err != nil {
				t.Fatal(err)
			}
			rendered := fieldsOf(t, text)
			if diff := cmp.Diff(tt.want, whole(changes(byDefault, rendered), byDefault, rendered)); diff != "" {
				t.Errorf("what %s changes (-want +got):\n%s", tt.values, diff)
			}
		})
	}
}

// Those that change every object have tests of their own.
func TestEachValueHasATest(t *testing.T) {
	rows, err := rowsOf(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{"agent.namespace": true, "commonLabels": true}
	for name := range valueTests {
		tested[name] = true
	}
	for _, r := range rows {
		if !tested[r.path] {
			t.Errorf("the value %s has no test", r.path)
		}
		delete(tested, r.path)
	}
	for name := range tested {
		t.Errorf("there is a test for %s, which is no value", name)
	}
}

func TestCommonLabelsAreOnAllObjects(t *testing.T) {
	text, err := template(t, "commonLabels: {team: blue}\nlocation: {spec: "+aLocation+"}")
	if err != nil {
		t.Fatal(err)
	}
	rendered := fieldsOf(t, text)
	for path := range rendered {
		if id, isKind := strings.CutSuffix(path, " kind"); isKind && !strings.Contains(id, " ") && rendered[id+" metadata labels team"] != `"blue"` {
			t.Errorf("%s lacks the label", id)
		}
	}
	if _, found := rendered[managersPods+"labels team"]; found {
		t.Error("the manager's pods have the label, so that a change of it would have them made anew")
	}
}

// Nothing is left of the names of namespaces that the manifests have, whatever they are replaced by.
func TestTheNamespacesMayHaveAnyName(t *testing.T) {
	text, err := template(t, "agent: {namespace: '123'}", "--namespace", "456")
	if err != nil {
		t.Fatal(err)
	}
	rendered := fieldsOf(t, text)
	for path, value := range rendered {
		if strings.Contains(path+value, "checkpoint-system") || strings.Contains(path+value, "checkpoint-agents") {
			t.Errorf("%s is %s", path, value)
		}
	}
	want := fields{
		"Namespace/123 metadata name":                                                                     `"123"`,
		"DaemonSet/123/checkpoint-agent metadata namespace":                                               `"123"`,
		"Deployment/456/checkpoint-manager metadata namespace":                                            `"456"`,
		"ClusterRoleBinding/checkpoint-agent subjects checkpoint-agent namespace":                         `"123"`,
		"RoleBinding/456/checkpoint-agent subjects checkpoint-agent namespace":                            `"123"`,
		"DaemonSet/123/checkpoint-agent spec template spec containers agent env OPERATOR_NAMESPACE value": `"456"`,
		"ValidatingAdmissionPolicy/transparent-checkpoint-manager spec matchConditions by-the-manager expression": `"request.userInfo.username == ` +
			`'system:serviceaccount:456:checkpoint-manager'"`,
	}
	for path, want := range want {
		if rendered[path] != want {
			t.Errorf("%s is %s, want %s", path, rendered[path], want)
		}
	}
}

// On a cluster that has no CheckpointStorageLocations yet, Helm could not make one together with its kind.
func TestTheLocationIsAHookWhereItsKindIsNotThere(t *testing.T) {
	const hook, release = theLocation + " metadata annotations helm.sh/hook", theLocation + " metadata annotations meta.helm.sh/release-name"
	tests := map[string]struct {
		words []string
		want  string
	}{
		"no kind":   {want: `"post-install,post-upgrade"`},
		"its kind":  {words: []string{"--api-versions", "checkpoint.memverge.ai/v1alpha1/CheckpointStorageLocation"}},
		"an update": {words: []string{"--api-versions", "checkpoint.memverge.ai/v1alpha1/CheckpointStorageLocation", "--is-upgrade"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text, err := template(t, "location: {spec: "+aLocation+"}", tt.words...)
			if err != nil {
				t.Fatal(err)
			}
			rendered := fieldsOf(t, text)
			if rendered[hook] != tt.want {
				t.Errorf("the hook is %s, want %s", rendered[hook], tt.want)
			}
			if rendered[release] != `"checkpoints"` {
				t.Errorf("the release that takes it is %s", rendered[release])
			}
		})
	}
}

func TestValuesThatMeanNothingAreRefused(t *testing.T) {
	tests := map[string]struct{ values, want string }{
		"an unknown value":     {"agents: {}", `additional properties 'agents' not allowed`},
		"an unknown one below": {"agent: {diskbudget: 1Gi}", `at '/agent': additional properties 'diskbudget' not allowed`},
		"no number":            {"manager: {replicas: two}", `at '/manager/replicas': got string, want integer`},
		"a number too high":    {"agent: {uploadsAtOnce: 65}", `at '/agent/uploadsAtOnce': maximum: got 65, want 64`},
		"a number for a text":  {"agent: {uploadBandwidth: 1000000}", `at '/agent/uploadBandwidth': got number, want string`},
		"a pull policy":        {"images: {pullPolicy: always}", `at '/images/pullPolicy': value must be one of 'IfNotPresent', 'Always', 'Never'`},
		"a label of Helm's own": {"commonLabels: {helm.sh/chart: x}",
			`commonLabels names "helm.sh/chart"; it may name labels that neither the chart nor the operator sets`},
		"a label of ours": {"agent: {podLabels: {memverge.ai/checkpoint-mode: 'true'}}",
			`agent.podLabels names "memverge.ai/checkpoint-mode"; it may name labels that neither the chart nor the operator sets`},
		"paused":          {"operator: {paused: maybe}", `at '/operator/paused': value must be one of '', 'true', 'false', true, false`},
		"half a location": {"location: {spec: {bucket: abc}}", `at '/location/spec'`},
		"a digest":        {"agent: {image: {digest: abc}}", `agent.image.digest is "abc"; it may be sha256: and 64 hexadecimal digits, or empty for the tag`},
		"one namespace for both": {"agent: {namespace: checkpoint-system}",
			`agent.namespace is "checkpoint-system", which is that of the release; it may be any other: its pods are privileged`},
		"a namespace": {"agent: {namespace: A_b}", `agent.namespace is "A_b"; it may be the name of a namespace: lower case letters, digits and hyphens`},
		"unavailable": {"agent: {maxUnavailable: 10 %}", `agent.maxUnavailable is "10 %"; it may be a number of nodes, or a part of them as 10%`},
		"a bandwidth": {"agent: {downloadBandwidth: fast}",
			`agent.downloadBandwidth is "fast"; it may be a quantity of bytes a second, as 100Mi, from 64Ki on, or "0" for no limit`},
		"a disk budget": {"agent: {diskBudget: 0%}",
			`agent.diskBudget is "0%"; it may be a quantity of bytes above 0, as 50Gi, or a part of the disk, as 20%`},
		"a socket": {"agent: {criSocket: crio.sock}",
			`agent.criSocket is "crio.sock"; it may be the whole path of a socket, as /run/crio/crio.sock, or empty to look for it`},
		"a home": {"agent: {home: programs}",
			`agent.home is "programs"; it may be the whole path of a folder, as /var/lib/transparent-checkpoint, or empty for /opt/checkpoint`},
		"namespaces": {"operator: {namespaces: ['a,b']}", `operator.namespaces names "a,b"; it may name namespaces: lower case letters, digits and hyphens`},
		"a quota":    {"operator: {namespaceQuota: '0'}", `operator.namespaceQuota is "0"; it may be a quantity of bytes above 0, as 50Gi, or empty for none`},
		"a patience": {"uninstall: {patience: 10}", `at '/uninstall/patience': got number, want string`},
		"a duration": {"uninstall: {patience: '10'}", `uninstall.patience is "10"; it may be a duration from 1s on, as 10m`},
		"a location's name": {"location: {name: A}",
			`location.name is "A"; it may be lower case letters, digits, hyphens and dots, 63 at most`},
		"an endpoint": {"location: {spec: {endpoint: s3.example.com, bucket: abc, credentials: {secretName: a}}}",
			`location.spec.endpoint is "s3.example.com"; it may be http[s]://HOST[:PORT]`},
		"two at once": {"agent: {uploadBandwidth: some, diskBudget: little}", "agent.uploadBandwidth is \"some\"; it may be a quantity of bytes a second, " +
			"as 100Mi, from 64Ki on, or \"0\" for no limit\nagent.diskBudget is \"little\"; it may be"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if text, err := template(t, tt.values); err == nil {
				t.Errorf("%s was rendered:\n%.300s", tt.values, text)
			} else if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %q, want one with %q", err, tt.want)
			}
		})
	}
}

// schema is as much of a JSON schema as is compared here.
type schema struct {
	Properties map[string]schema `json:"properties,omitempty"`
	Required   []string          `json:"required,omitempty"`
	Enum       []any             `json:"enum,omitempty"`
}

// What location.spec may have is what the CustomResourceDefinition has.
func TestTheSchemaOfALocationIsThatOfItsKind(t *testing.T) {
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	text, err := os.ReadFile(manifests + "/crd/bases/checkpoint.memverge.ai_checkpointstoragelocations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	want := definition.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	var values schema
	text, err = os.ReadFile(chart + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	got := values.Properties["location"].Properties["spec"]
	want.Required, got.Required = nil, nil // without a location it is empty
	sorted := cmp.Transformer("asSet", func(list []any) map[string]bool {
		set := map[string]bool{}
		for _, item := range list {
			set[item.(string)] = true
		}
		return set
	})
	required := cmp.Transformer("asSet", func(list []string) map[string]bool {
		set := map[string]bool{}
		for _, item := range list {
			set[item] = true
		}
		return set
	})
	if diff := cmp.Diff(want, got, sorted, required); diff != "" {
		t.Errorf("location.spec in values.schema.json is not spec of CheckpointStorageLocations (-want +got):\n%s", diff)
	}
}

// parse returns an object of a text.
func parse(t *testing.T, text string) *object {
	t.Helper()
	node, err := kyaml.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return &object{node: node}
}
