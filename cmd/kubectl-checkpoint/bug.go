package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/report"
	"github.com/transparent-checkpoint/operator/internal/version"
)

// aboutBundle says to whoever gets a bundle what is in it.
const aboutBundle = `What kubectl checkpoint bug has gathered of a cluster.

doctor.txt, doctor.json   how it stands with the installation
objects/                  objects of the operator, labelled pods, nodes: as YAML, by kind
events.yaml               events about them
logs/                     logs of managers and agents; those before their last restart end in .previous.log
not-gathered.txt          what could not be read, and why

No Secret was read. Values of environment variables, commands and arguments of programs that are not the operator's, headers of requests, attributes of volumes
and values of annotations that are not the operator's are replaced by REDACTED, and so is in logs what looks like a password, a key or a token. Names of
namespaces, pods, images, nodes and buckets are in it. Look through it before you give it away.
`

func (c *cli) bugCommand() *cobra.Command {
	file := ""
	command := &cobra.Command{
		Use:   "bug",
		Short: "Gather what is needed to find a fault into an archive, without secrets",
		Long: "Gather what is needed to find a fault into an archive: what doctor says, objects of the operator and labelled pods, events, logs. No Secret\n" +
			"is read; values of environment variables, commands, and annotations of others are replaced by REDACTED. With -n the objects of that\n" +
			"namespace alone are taken.",
		Example: `  kubectl checkpoint bug
  kubectl checkpoint bug -n my-apps --file bug.tar.gz`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			if file == "" {
				file = "checkpoint-bug-" + c.time().UTC().Format("20060102-150405") + ".tar.gz"
			}
			out, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			err = c.gather(command.Context(), k, namespace, out)
			if err = errors.Join(err, out.Close()); err != nil {
				return errors.Join(err, os.Remove(file))
			}
			fmt.Fprintf(c.Out, "%s written. No Secret is in it; look through it before you give it away.\n", file)
			return nil
		},
	}
	command.Flags().StringVarP(&file, "file", "f", "", "the archive; without it checkpoint-bug-TIME.tar.gz")
	return command
}

// bundle is an archive that is being written.
type bundle struct {
	archive *tar.Writer
	now     time.Time
	missing []string
	err     error
}

// add adds a file, from which is taken what looks like a secret.
func (b *bundle) add(name string, text []byte) {
	if b.err != nil {
		return
	}
	text = report.RedactText(text)
	header := &tar.Header{Name: path.Join("checkpoint-bug", name), Mode: 0o600, Size: int64(len(text)), ModTime: b.now, Format: tar.FormatPAX}
	if b.err = b.archive.WriteHeader(header); b.err == nil {
		_, b.err = b.archive.Write(text)
	}
}

// lacks notes what could not be read.
func (b *bundle) lacks(what string, err error) {
	b.missing = append(b.missing, what+": "+err.Error())
}

// gather writes the archive.
func (c *cli) gather(ctx context.Context, k client.Client, namespace string, out io.Writer) error {
	packed := gzip.NewWriter(out)
	b := &bundle{archive: tar.NewWriter(packed), now: c.time()}
	b.add("README.txt", []byte(aboutBundle))
	c.gatherDoctor(ctx, k, namespace, b)
	scope := ""
	if *c.flags.Namespace != "" {
		scope = namespace
	}
	c.gatherObjects(ctx, k, scope, b)
	c.gatherEvents(ctx, k, scope, b)
	c.gatherLogs(ctx, k, b)
	b.add("not-gathered.txt", []byte(strings.Join(append(b.missing, ""), "\n")))
	return errors.Join(ctx.Err(), b.err, b.archive.Close(), packed.Close())
}

func (c *cli) gatherDoctor(ctx context.Context, k client.Client, namespace string, b *bundle) {
	h, err := c.health(ctx, k, namespace, nil)
	if err != nil {
		b.lacks("doctor", err)
		return
	}
	d, text := h.Diagnose(), &bytes.Buffer{}
	fmt.Fprintf(text, "kubectl checkpoint %s, %s\n\n", version.Version, b.now.UTC().Format(time.RFC3339))
	if err := d.Write(text, true); err != nil {
		b.lacks("doctor", err)
	}
	b.add("doctor.txt", text.Bytes())
	asJSON, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		b.lacks("doctor", err)
		return
	}
	b.add("doctor.json", asJSON)
}

// gatherObjects adds lists of objects, each as a file.
func (c *cli) gatherObjects(ctx context.Context, k client.Client, scope string, b *bundle) {
	in := client.InNamespace(scope)
	ours, agents := client.InNamespace(c.operatorNamespace), client.InNamespace(c.agentNamespace)
	for _, one := range []struct {
		file    string
		list    client.ObjectList
		options []client.ListOption
		keep    func(client.Object) bool
	}{
		{"checkpoints", &v1alpha1.CheckpointList{}, []client.ListOption{in}, nil},
		{"checkpointpolicies", &v1alpha1.CheckpointPolicyList{}, []client.ListOption{in}, nil},
		{"restorepolicies", &v1alpha1.RestorePolicyList{}, []client.ListOption{in}, nil},
		{"checkpointstoragelocations", &v1alpha1.CheckpointStorageLocationList{}, nil, nil},
		{"labelled-pods", &corev1.PodList{}, []client.ListOption{in, client.HasLabels{keys.CheckpointMode}}, nil},
		{"manager-pods", &corev1.PodList{}, []client.ListOption{ours}, nil},
		{"agent-pods", &corev1.PodList{}, []client.ListOption{agents}, nil},
		{"deployments", &appsv1.DeploymentList{}, []client.ListOption{ours}, nil},
		{"daemonsets", &appsv1.DaemonSetList{}, []client.ListOption{agents}, nil},
		{"leases", &coordinationv1.LeaseList{}, []client.ListOption{ours}, nil},
		{"configmaps", &corev1.ConfigMapList{}, []client.ListOption{ours}, func(o client.Object) bool { return strings.HasPrefix(o.GetName(), "checkpoint-") }},
		{"nodes", &corev1.NodeList{}, nil, nil},
		{"runtimeclasses", &nodev1.RuntimeClassList{}, nil, func(o client.Object) bool { return keys.IsRuntimeClass(o.GetName()) }},
		{"mutatingwebhookconfigurations", &admissionregistrationv1.MutatingWebhookConfigurationList{}, nil, nil},
		{"validatingwebhookconfigurations", &admissionregistrationv1.ValidatingWebhookConfigurationList{}, nil, nil},
	} {
		if err := k.List(ctx, one.list, one.options...); err != nil {
			b.lacks(one.file, err)
			continue
		}
		text, err := redacted(one.list, one.keep)
		if err != nil {
			b.lacks(one.file, err)
			continue
		}
		b.add("objects/"+one.file+".yaml", text)
	}
}

// redacted writes a list of objects as YAML, without what may be a secret. keep chooses; nil takes all.
func redacted(list client.ObjectList, keep func(client.Object) bool) ([]byte, error) {
	var all bytes.Buffer
	err := meta.EachListItem(list, func(o runtime.Object) error {
		object, isObject := o.(client.Object)
		if !isObject || keep != nil && !keep(object) {
			return nil
		}
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return err
		}
		if kind, err := apiutil.GVKForObject(o, newScheme()); err == nil {
			fields["apiVersion"], fields["kind"] = kind.GroupVersion().String(), kind.Kind
		}
		report.Redact(fields)
		text, err := yaml.Marshal(fields)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(&all, "---\n%s", text)
		return err
	})
	return all.Bytes(), err
}

// gatherEvents adds events about our kinds, labelled pods and their Jobs, nodes, and what is in our namespaces.
func (c *cli) gatherEvents(ctx context.Context, k client.Client, scope string, b *bundle) {
	found := &corev1.EventList{}
	for i, namespace := range slices.Compact([]string{scope, c.operatorNamespace, c.agentNamespace, "default"}) { // those of nodes are in default
		if scope == "" && i > 0 {
			break
		}
		some := &corev1.EventList{}
		if err := k.List(ctx, some, client.InNamespace(namespace)); err != nil {
			b.lacks("events of namespace "+namespace, err)
			continue
		}
		for _, e := range some.Items {
			if c.concerns(&e) {
				found.Items = append(found.Items, e)
			}
		}
	}
	text, err := redacted(found, nil)
	if err != nil {
		b.lacks("events", err)
		return
	}
	b.add("events.yaml", text)
}

// concerns tells whether an event has to do with the operator: by who tells it, or of what.
func (c *cli) concerns(e *corev1.Event) bool {
	of := e.InvolvedObject
	isOurs := strings.HasPrefix(of.APIVersion, v1alpha1.SchemeGroupVersion.Group) || of.Namespace == c.operatorNamespace || of.Namespace == c.agentNamespace
	return isOurs || of.Kind == "Node" || strings.HasPrefix(e.ReportingController, "checkpoint-") || strings.HasPrefix(e.Source.Component, "checkpoint-") ||
		strings.Contains(e.Message, "checkpoint")
}

// gatherLogs adds those of managers and agents.
func (c *cli) gatherLogs(ctx context.Context, k client.Client, b *bundle) {
	for _, p := range []part{managerPart, agentPart} {
		pods, err := c.podsOf(ctx, k, p)
		if err != nil {
			b.lacks("pods of "+p.name, err)
			continue
		}
		for i := range pods {
			for _, previous := range []bool{false, true} {
				if previous && !hasRestarted(&pods[i]) {
					continue
				}
				name := "logs/" + pods[i].Name + map[bool]string{false: ".log", true: ".previous.log"}[previous]
				text, err := c.logsOf(ctx, &pods[i], p.container, previous)
				if err != nil {
					b.lacks(name, err)
					continue
				}
				b.add(name, text)
			}
		}
	}
}

func hasRestarted(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.RestartCount > 0 })
}

// mostLog is how many bytes of the log of a pod are taken: its end.
const mostLog = 4 << 20

// logsOf reads the end of the log of a pod.
func (c *cli) logsOf(ctx context.Context, pod *corev1.Pod, container string, previous bool) ([]byte, error) {
	if c.logs != nil {
		return c.logs(ctx, pod, container, previous)
	}
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	options := &corev1.PodLogOptions{Container: container, Previous: previous, Timestamps: true, TailLines: new(int64(20000))}
	body, err := set.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return text[max(len(text)-mostLog, 0):], err
}
