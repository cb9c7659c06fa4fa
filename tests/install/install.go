package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// Names of what is installed.
const (
	// Namespace is the manager's, which has the Secrets as well; AgentNamespace is that of the agents.
	Namespace      = "checkpoint-system"
	AgentNamespace = "checkpoint-agents"
	// Manager is the name of its Deployment, Agent that of its DaemonSet.
	Manager = "checkpoint-manager"
	Agent   = "checkpoint-agent"
	// Bucket is where checkpoints go, Location the object that says so, and Credentials its Secret.
	Bucket      = "checkpoints"
	Location    = "default"
	Credentials = "checkpoint-storage"
)

// shimmedCRIU is the folder of the local cluster's own criu, which works on kernels that give root no CAP_SYS_RESOURCE.
const shimmedCRIU = "/usr/local/sbin"

// imagesAnnotation is on the pods of manager and agent and says which image they were made from: the name stays the same with every build.
const imagesAnnotation = "checkpoint.memverge.ai/image-digest"

// Step runs a piece of work and tells a person of it.
type Step func(name string, work func() error) error

// Operator is the operator on a cluster.
type Operator struct {
	Cluster *lab.Cluster
	// Checkpoints speaks of the operator's own kinds.
	Checkpoints *versioned.Clientset
	root        string
	status      lab.Status
	step        Step
}

// Install brings the operator onto a cluster that is up, or brings it up to date there, and returns when it is ready. Without a step nobody
// is told of the progress.
func Install(ctx context.Context, cluster *lab.Cluster, step Step) (*Operator, error) {
	root, err := lab.Root()
	if err != nil {
		return nil, err
	}
	return From(ctx, cluster, root, step)
}

// From is Install of another source tree, as that of an earlier commit.
func From(ctx context.Context, cluster *lab.Cluster, root string, step Step) (*Operator, error) {
	if step == nil {
		step = func(_ string, work func() error) error { return work() }
	}
	o, err := open(ctx, cluster, root, step)
	if err != nil {
		return nil, err
	}
	digests := map[string]string{}
	err = step("build the operator's images", func() error { return o.build(ctx, digests) })
	if err != nil {
		return nil, err
	}
	if err := o.load(ctx, digests); err != nil {
		return nil, err
	}
	if err := step("make the bucket "+Bucket+" on the cluster's MinIO", func() error {
		_, err := lab.Localcluster(ctx, cluster.Name, "bucket", Bucket)
		return err
	}); err != nil {
		return nil, err
	}
	if err := step("apply manifests/default and the storage location", func() error { return o.apply(ctx, digests) }); err != nil {
		return nil, err
	}
	return o, step("wait until manager, agents and nodes are ready", func() error { return o.AwaitReady(ctx) })
}

// Open returns the operator of a cluster on which it is installed.
func Open(ctx context.Context, cluster *lab.Cluster) (*Operator, error) {
	root, err := lab.Root()
	if err != nil {
		return nil, err
	}
	return open(ctx, cluster, root, nil)
}

func open(ctx context.Context, cluster *lab.Cluster, root string, step Step) (*Operator, error) {
	status, err := cluster.ReadStatus(ctx)
	if err != nil {
		return nil, err
	}
	checkpoints, err := versioned.NewForConfig(cluster.Config)
	return &Operator{Cluster: cluster, Checkpoints: checkpoints, root: root, status: status, step: step}, err
}

// archive is where make writes an image; with tags beside those without, as tests of both may run at once.
func (o *Operator) archive(name string) string {
	dir := "build/images"
	if tags := os.Getenv("BUILD_TAGS"); tags != "" {
		dir += "-" + tags
	}
	return filepath.Join(o.root, dir, name+".tar")
}

// build has make write the images, which is quick when nothing changed, and says what they are.
func (o *Operator) build(ctx context.Context, digests map[string]string) error {
	command := exec.CommandContext(ctx, "make", "--silent", "images")
	command.Dir = o.root
	command.Env = WithoutMake(os.Environ())
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("make images: %w:\n%s", err, bytes.TrimSpace(output))
	}
	for _, name := range []string{Manager, Agent} {
		digest, err := digestOf(o.archive(name))
		if err != nil {
			return err
		}
		digests[name] = digest
	}
	return nil
}

// WithoutMake takes out what a make tells the makes below it.
func WithoutMake(environment []string) []string {
	var kept []string
	for _, variable := range environment {
		if name, _, _ := strings.Cut(variable, "="); name != "MAKEFLAGS" && name != "MFLAGS" && name != "MAKELEVEL" {
			kept = append(kept, variable)
		}
	}
	return kept
}

func digestOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// load brings to the nodes those images that run there in another build, or not at all.
func (o *Operator) load(ctx context.Context, digests map[string]string) error {
	running, err := o.running(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{Manager, Agent} {
		if running[name] == digests[name] {
			continue
		}
		err := o.step("load image "+name+":dev on every node", func() error {
			_, err := lab.Localcluster(ctx, o.Cluster.Name, "image", "load", o.archive(name))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// running returns the digests of the images that manager and agent were last installed with.
func (o *Operator) running(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	apps := o.Cluster.Client.AppsV1()
	manager, err := apps.Deployments(Namespace).Get(ctx, Manager, metav1.GetOptions{})
	if err == nil {
		found[Manager] = manager.Spec.Template.Annotations[imagesAnnotation]
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	agent, err := apps.DaemonSets(AgentNamespace).Get(ctx, Agent, metav1.GetOptions{})
	if err == nil {
		found[Agent] = agent.Spec.Template.Annotations[imagesAnnotation]
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	return found, nil
}

// apply writes a kustomization beside what is built and applies it: manifests/default, and what this cluster alone needs.
func (o *Operator) apply(ctx context.Context, digests map[string]string) error {
	dir := filepath.Join(o.root, "build/install", o.Cluster.Name)
	base, err := filepath.Rel(dir, filepath.Join(o.root, "manifests/default"))
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	files := map[string]string{"kustomization.yaml": kustomization(base, o.status.PrlimitShim, digests), "location.yaml": location(o.status)}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	if _, err := o.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-k", dir); err != nil {
		return err
	}
	// The API server serves a new kind a moment after it was told of it.
	return eventually(ctx, lab.Patience(20*time.Second), func() error {
		_, err := o.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-f", filepath.Join(dir, "location.yaml"))
		return err
	})
}

// Kubectl runs the cluster's kubectl as administrator.
func (o *Operator) Kubectl(ctx context.Context, args ...string) (string, error) {
	return lab.Localcluster(ctx, o.Cluster.Name, append([]string{"kubectl", "--"}, args...)...)
}
