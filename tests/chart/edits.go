package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// edit puts an expression in the place of what the manifests say.
type edit struct {
	object string
	// path is where, as path of kyaml: names of fields, and [name=x] for the item of a list. Of a list or map to which entries are added, its own.
	path string
	put  put
	// how says what has to be there already.
	how how
}

type how int

const (
	replace how = iota // a field that is there
	set                // a field that may be there
	add                // entries of a map or list that may be there
)

const (
	manager       = "Deployment/checkpoint-manager"
	agent         = "DaemonSet/checkpoint-agent"
	uninstaller   = "Job/checkpoint-uninstall"
	pod           = "spec template spec"
	ofPod         = "spec template metadata"
	aManager      = pod + " containers [name=manager] "
	anAgent       = pod + " containers [name=agent] "
	anUninstaller = pod + " containers [name=uninstall] "
)

// edits are what the values change.
var edits = []edit{
	{manager, "spec replicas", value(".Values.manager.replicas"), replace},
	{manager, ofPod + " labels", entries(".Values.manager.podLabels"), add},
	{manager, ofPod + " annotations", blockIfAny(".Values.manager.podAnnotations"), set},
	{manager, pod + " imagePullSecrets", blockIfAny(".Values.images.pullSecrets"), set},
	{manager, pod + " priorityClassName", valueIfAny(".Values.manager.priorityClassName"), replace},
	{manager, pod + " nodeSelector", blockIfAny(".Values.manager.nodeSelector"), set},
	{manager, pod + " tolerations", blockIfAny(".Values.manager.tolerations"), set},
	{manager, pod + " affinity", blockIfAny(".Values.manager.affinity"), replace},
	{manager, aManager + "image", value(`include "transparent-checkpoint.image" (list . .Values.manager.image) | quote`), replace},
	{manager, aManager + "imagePullPolicy", value(".Values.images.pullPolicy"), replace},
	{manager, aManager + "args", blockIfAny(".Values.manager.extraArgs"), set},
	{manager, aManager + "resources", block(".Values.manager.resources"), replace},

	{agent, "spec updateStrategy rollingUpdate maxUnavailable", value(".Values.agent.maxUnavailable"), replace},
	{agent, ofPod + " labels", entries(".Values.agent.podLabels"), add},
	{agent, ofPod + " annotations", blockIfAny(".Values.agent.podAnnotations"), set},
	{agent, pod + " imagePullSecrets", blockIfAny(".Values.images.pullSecrets"), set},
	{agent, pod + " priorityClassName", valueIfAny(".Values.agent.priorityClassName"), replace},
	{agent, pod + " nodeSelector", blockIfAny(".Values.agent.nodeSelector"), replace},
	{agent, pod + " tolerations", blockIfAny(".Values.agent.tolerations"), replace},
	{agent, pod + " affinity", blockIfAny(".Values.agent.affinity"), set},
	{agent, anAgent + "image", value(`include "transparent-checkpoint.image" (list . .Values.agent.image) | quote`), replace},
	{agent, anAgent + "imagePullPolicy", value(".Values.images.pullPolicy"), replace},
	{agent, anAgent + "args --uploads-at-once", value("int .Values.agent.uploadsAtOnce"), replace},
	{agent, anAgent + "args --upload-bandwidth", value(".Values.agent.uploadBandwidth"), replace},
	{agent, anAgent + "args --download-bandwidth", value(".Values.agent.downloadBandwidth"), replace},
	{agent, anAgent + "args --disk-budget", value(".Values.agent.diskBudget"), replace},
	{agent, anAgent + "args", entries(`(include "transparent-checkpoint.agentArgs" . | fromYamlArray)`), add},
	{agent, anAgent + "resources", block(".Values.agent.resources"), replace},

	{uninstaller, pod + " imagePullSecrets", blockIfAny(".Values.images.pullSecrets"), set},
	{uninstaller, anUninstaller + "image", value(`include "transparent-checkpoint.image" (list . .Values.manager.image) | quote`), replace},
	{uninstaller, anUninstaller + "imagePullPolicy", value(".Values.images.pullPolicy"), replace},
	{uninstaller, anUninstaller + "args --patience", value(".Values.uninstall.patience"), replace},
	{uninstaller, anUninstaller + "args", entries(`(include "transparent-checkpoint.uninstallArgs" . | fromYamlArray)`), add},

	// Also where it is empty: of a map that is not there any more Helm removes, without server-side apply, what others have put in.
	{"ConfigMap/checkpoint-operator", "data", block(`(include "transparent-checkpoint.operator" . | fromYaml)`), set},
}

// conditions say on what all of an object depends.
var conditions = []struct{ of, condition string }{
	{"CustomResourceDefinition/*", ".Values.crds.install"},
	{"Namespace/checkpoint-agents", ".Values.agent.createNamespace"},
	{"PodDisruptionBudget/checkpoint-manager", "gt (int .Values.manager.replicas) 1"},
	{"uninstall/*", ".Values.uninstall.enabled"},
}

// annotations tell Helm what to do with an object. What is kept stays when the chart is uninstalled: with a CustomResourceDefinition all objects of its
// kind would go, and pods cannot be started whose RuntimeClass is not there; the uninstaller removes both where nothing is lost by it. It runs before Helm
// deletes anything.
var annotations = []struct{ of, name, value string }{
	{"CustomResourceDefinition/*", "helm.sh/resource-policy", "keep"},
	{"RuntimeClass/*", "helm.sh/resource-policy", "keep"},
	{"uninstall/*", "helm.sh/hook", "pre-delete"},
	{"uninstall/*", "helm.sh/hook-delete-policy", "before-hook-creation,hook-succeeded"},
	{uninstaller, "helm.sh/hook-weight", "1"}, // after what gives it its rights
}

// without are objects that are not in the chart. Helm needs the namespace of a release before it installs anything in it.
var without = []string{"Namespace/checkpoint-system"}

// namespaces are the namespaces of the manifests, which may stand anywhere in a text, as in a rule of CEL.
var namespaces = map[string]put{
	"checkpoint-system": value(".Release.Namespace"),
	"checkpoint-agents": value(".Values.agent.namespace"),
}

// applyEdits puts marks into the objects, and returns those that are in the chart.
func applyEdits(objects []*object) ([]*object, error) {
	byID := map[string]*object{}
	for _, o := range objects {
		byID[o.id] = o
	}
	for _, e := range edits {
		o, found := byID[e.object]
		if !found {
			return nil, fmt.Errorf("manifests/default has no %s, which an edit is for", e.object)
		}
		if err := o.apply(e); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", e.object, e.path, err)
		}
	}
	objects = slices.DeleteFunc(objects, func(o *object) bool { return slices.Contains(without, o.id) })
	for _, o := range objects {
		o.replaceNamespaces(o.node.YNode())
		for _, c := range conditions {
			if o.is(c.of) {
				o.condition = c.condition
			}
		}
		for _, a := range annotations {
			if !o.is(a.of) {
				continue
			}
			if err := o.node.PipeE(yaml.SetAnnotation(a.name, a.value)); err != nil {
				return nil, err
			}
		}
		if err := o.apply(edit{path: "metadata labels", put: lines("transparent-checkpoint.labels"), how: add}); err != nil {
			return nil, fmt.Errorf("%s: labels: %w", o.id, err)
		}
	}
	return objects, nil
}

// apply puts one mark into an object.
func (o *object) apply(e edit) error {
	path := strings.Fields(e.path)
	last := path[len(path)-1]
	if strings.HasPrefix(last, "--") {
		return o.applyToFlag(path[:len(path)-1], last, e.put)
	}
	if e.how == add {
		return o.addTo(path, e.put)
	}
	parent, err := o.at(path[:len(path)-1])
	if err != nil {
		return err
	}
	if parent.Field(last) == nil && e.how == replace {
		return errors.New("it is not there")
	}
	return parent.PipeE(yaml.FieldSetter{Name: last, Value: yaml.NewRNode(o.mark(e.put))})
}

// addTo adds a mark to what is at path: an item to a list, an entry without a value to a map, which is made if it is not there.
func (o *object) addTo(path []string, p put) error {
	to, err := o.at(path)
	if err != nil {
		to, err = o.node.Pipe(yaml.LookupCreate(yaml.MappingNode, path...))
	}
	if err != nil {
		return err
	}
	node := to.YNode()
	node.Content = append(node.Content, o.mark(p))
	if node.Kind == yaml.MappingNode {
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagNull})
	}
	return nil
}

// applyToFlag puts a mark behind the name of a flag among the arguments at path.
func (o *object) applyToFlag(path []string, name string, p put) error {
	list, err := o.at(path)
	if err != nil {
		return err
	}
	for _, item := range list.YNode().Content {
		if strings.HasPrefix(item.Value, name+"=") {
			item.Value = name + "=" + o.mark(p).Value
			return nil
		}
	}
	return fmt.Errorf("there is no %s=", name)
}

// at returns what is at path, and has all of the way to it be written in lines of their own, where expressions can stand.
func (o *object) at(path []string) (*yaml.RNode, error) {
	here := o.node
	for i := range path {
		next, err := here.Pipe(yaml.Lookup(path[i]))
		if err != nil {
			return nil, err
		}
		if next == nil {
			return nil, fmt.Errorf("there is no %s", strings.Join(path[:i+1], " "))
		}
		here = next
		here.YNode().Style &^= yaml.FlowStyle
	}
	return here, nil
}

// replaceNamespaces puts marks for the names of our namespaces into all text below node. What is a name and nothing else is quoted: it might be digits alone.
func (o *object) replaceNamespaces(node *yaml.Node) {
	for _, child := range node.Content {
		o.replaceNamespaces(child)
	}
	if node.Kind != yaml.ScalarNode {
		return
	}
	for name, p := range namespaces {
		if node.Value == name {
			node.Style = yaml.DoubleQuotedStyle
		}
		if strings.Contains(node.Value, name) {
			node.Value = strings.ReplaceAll(node.Value, name, o.mark(p).Value)
		}
	}
}
