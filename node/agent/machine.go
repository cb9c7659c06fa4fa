package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// machineInterval is how often the agent sees to it that its node says what machine it is.
const machineInterval = time.Minute

// tellMachine has the node say what captured programs depend on of it, as a label for the scheduler and an annotation for whoever compares.
func (a *Agent) tellMachine(ctx context.Context) error {
	wait := time.Second
	for {
		err := a.tellMachineOnce(ctx)
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "say on the node what machine it is")
			wait = min(2*wait, machineInterval)
		} else {
			wait = machineInterval
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (a *Agent) tellMachineOnce(ctx context.Context) error {
	facts, err := a.machine()
	if err != nil {
		return err
	}
	text, err := json.Marshal(facts)
	if err != nil {
		return err
	}
	node := &corev1.Node{}
	if err := a.Client.Get(ctx, client.ObjectKey{Name: a.NodeName}, node); err != nil {
		return err
	}
	if node.Labels[keys.NodeClass] == facts.Class() && node.Annotations[keys.NodeFacts] == string(text) {
		return nil
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q},"annotations":{%q:%q}}}`, keys.NodeClass, facts.Class(), keys.NodeFacts, text)
	return a.Client.Patch(ctx, node, client.RawPatch(types.MergePatchType, []byte(patch)))
}

// machine are the facts of the node, as its own processes see them, the runtime among them.
func (a *Agent) machine() (compat.Facts, error) {
	ofInit := filepath.Join(a.Node.Root, "proc/1/root")
	if _, err := os.Stat(filepath.Join(ofInit, "proc/cpuinfo")); err == nil {
		return compat.Read(ofInit)
	}
	return compat.Read(a.Node.Root)
}

// digestsIn are the digests of the images that the containers of a pod run, as far as its node knows them by one.
func digestsIn(pod *corev1.Pod) map[string]string {
	digests := map[string]string{}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if digest := digestOf(s.ImageID); digest != "" {
			digests[s.Name] = digest
		}
	}
	return digests
}

// digestOf is the digest in the name of an image, as docker.io/library/redis@sha256:…; empty when it has none. The mere sha256:… is an identifier
// of the node's own.
func digestOf(name string) string {
	_, digest, _ := strings.Cut(name, "@")
	if !strings.HasPrefix(digest, "sha256:") {
		return ""
	}
	return digest
}

// digestsOf are those that were noted of a captured pod.
func (a *Agent) digestsOf(pod capture.Pod) map[string]string {
	n, _, err := a.noteOf(pod)
	if err != nil {
		return nil
	}
	return n.Digests
}

// imagesHere are the digests of those images of a new pod that the node has, by the names of the containers. The node lists not all of them: what it
// does not list is not known.
func (a *Agent) imagesHere(ctx context.Context, pod *corev1.Pod) map[string]string {
	node := &corev1.Node{}
	if err := a.Client.Get(ctx, client.ObjectKey{Name: a.NodeName}, node); err != nil {
		return nil
	}
	digests := map[string]string{}
	for _, image := range node.Status.Images {
		digest := ""
		for _, name := range image.Names {
			if digest = digestOf(name); digest != "" {
				break
			}
		}
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if digest != "" && slices.Contains(image.Names, fullName(c.Image)) {
				digests[c.Name] = digest
			}
		}
	}
	return digests
}

// fullName is the name of an image as nodes list it, with its registry and tag.
func fullName(image string) string {
	domain, rest, found := strings.Cut(image, "/")
	if !found || !strings.ContainsAny(domain, ".:") && domain != "localhost" {
		domain, rest = "docker.io", image
		if !found {
			rest = "library/" + image
		}
	}
	if !strings.ContainsAny(rest, ":@") {
		rest += ":latest"
	}
	return domain + "/" + rest
}
