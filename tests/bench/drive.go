package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

const (
	namespace = "bench"
	podImage  = "localhost/memory:bench"
	// diskGiB has room for the captures of all pairs, which a node keeps for a while.
	diskGiB = "20"
	// home is where the copy of this program and its files are on the node.
	home = "/var/lib/bench"
)

// driver measures on a cluster.
type driver struct {
	settings
	root        string // of the source tree
	lab         *lab.Cluster
	checkpoints versioned.Interface
	s3          s3Access
	trash       string // where MinIO has what was deleted
	ours        samples
	reference   samples
}

// s3Access says how the node reaches the bucket.
type s3Access struct {
	InCluster string `json:"inCluster"` // host:port
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey"`
}

func measure(ctx context.Context, args []string) error {
	chosen, err := parse(args)
	if err != nil {
		return err
	}
	d := &driver{settings: chosen, ours: samples{}, reference: samples{}}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	for pair := range d.pairs {
		if err := d.pair(ctx, pair); err != nil {
			return fmt.Errorf("pair %d: %w", pair+1, err)
		}
	}
	if d.referenceOnly {
		for name, all := range d.reference {
			fmt.Printf("%s: %v\n", name, all)
		}
		return nil
	}
	return d.report(join(d.ours, d.reference))
}

// report prints the table and writes the file.
func (d *driver) report(results []result) error {
	if err := writeTable(os.Stdout, results); err != nil {
		return err
	}
	path := d.output
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.root, path)
	}
	var lines bytes.Buffer
	if err := errors.Join(writeLines(&lines, results), os.MkdirAll(filepath.Dir(path), 0o755)); err != nil {
		return err
	}
	if err := os.WriteFile(path, lines.Bytes(), 0o644); err != nil {
		return err
	}
	if names := missed(results); names != "" {
		return fmt.Errorf("not good enough: %s", names)
	}
	if len(results) < len(rows()) {
		return fmt.Errorf("%d of %d rows were measured", len(results), len(rows()))
	}
	return nil
}

// prepare brings everything up that is measured with.
func (d *driver) prepare(ctx context.Context) (err error) {
	if d.root, err = lab.Root(); err != nil {
		return err
	}
	say("cluster %s", d.cluster)
	if d.lab, err = lab.Up(ctx, d.cluster, "--disk="+diskGiB); err != nil {
		return err
	}
	d.lab.Config.Timeout = 0 // else it stands in every URL, in a form that kubelet refuses
	if d.lab.Client, err = kubernetes.NewForConfig(d.lab.Config); err != nil {
		return err
	}
	status, err := lab.Localcluster(ctx, d.cluster, "status", "-o", "json")
	if err != nil {
		return err
	}
	var s struct {
		S3         s3Access
		Kubeconfig string
	}
	if err := json.Unmarshal([]byte(status), &s); err != nil {
		return err
	}
	d.s3, d.trash = s.S3, filepath.Join(filepath.Dir(s.Kubeconfig), "minio/.minio.sys/tmp/.trash")
	if err := d.copyPrograms(ctx); err != nil {
		return err
	}
	for _, node := range []string{d.node, d.other} {
		if err := d.on(ctx, node, &struct{}{}, "warm", fmt.Sprint(3*d.mib)); err != nil {
			return err
		}
	}
	if err := d.makeNamespace(ctx); err != nil || d.referenceOnly {
		return err
	}
	operator, err := install.Install(ctx, d.lab, func(name string, work func() error) error {
		say("%s", name)
		return work()
	})
	if err != nil {
		return fmt.Errorf("install the operator (--reference-only does without): %w", err)
	}
	d.checkpoints = operator.Checkpoints
	return nil
}

// copyPrograms builds the program that is captured and this one, and brings both to the node.
func (d *driver) copyPrograms(ctx context.Context) error {
	say("programs and image")
	for _, name := range []string{"images/memory", "bench"} {
		binary := filepath.Join(d.root, "build", name)
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./tests/"+name)
		build.Dir, build.Env = d.root, append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", name, err, output)
		}
		for _, node := range []string{d.node, d.other} {
			if err := d.copyToNode(ctx, node, binary, filepath.Join(home, filepath.Base(name))); err != nil {
				return err
			}
		}
	}
	_, err := lab.Localcluster(ctx, d.cluster, "image", "build", podImage, "--binary="+filepath.Join(d.root, "build/images/memory"))
	return err
}

func (d *driver) copyToNode(ctx context.Context, node, from, to string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	script := fmt.Sprintf("mkdir -p %s && cat > %s.new && chmod 755 %[2]s.new && mv %[2]s.new %[2]s", filepath.Dir(to), to)
	command := d.nodeCommand(ctx, node, "sh", "-ec", script)
	command.Stdin = file
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s to %s: %w: %s", from, node, err, output)
	}
	return nil
}

func (d *driver) nodeCommand(ctx context.Context, node string, args ...string) *exec.Cmd {
	all := append([]string{"--name=" + d.cluster, "node", "exec", node, "--"}, args...)
	return exec.CommandContext(ctx, filepath.Join(d.root, "bin/localcluster"), all...)
}

// onNode runs the copy of this program on the node that is measured and reads the JSON that it prints.
func (d *driver) onNode(ctx context.Context, into any, args ...string) error {
	return d.on(ctx, d.node, into, args...)
}

// on does so on any node.
func (d *driver) on(ctx context.Context, node string, into any, args ...string) error {
	command := d.nodeCommand(ctx, node, append([]string{filepath.Join(home, "bench"), onNode}, args...)...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s on %s: %w: %s", args[0], node, err, strings.TrimSpace(stderr.String()))
	}
	if err := json.Unmarshal(stdout.Bytes(), into); err != nil {
		return fmt.Errorf("%s on %s says %q: %w", args[0], node, stdout.String(), err)
	}
	return nil
}

func (d *driver) makeNamespace(ctx context.Context) error {
	wanted := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := d.lab.Client.CoreV1().Namespaces().Create(ctx, wanted, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return poll(ctx, time.Minute, "service account of the namespace", func() error {
		_, err := d.lab.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// pair measures both sides once; which goes first changes from pair to pair.
func (d *driver) pair(ctx context.Context, number int) error {
	steps := []func(context.Context, int) error{d.measureOurs, d.measureRunc, d.measureKubelet, d.measurePassthrough, d.measureStorePair}
	if number%2 == 1 {
		steps = []func(context.Context, int) error{d.measureKubelet, d.measureRunc, d.measureOurs, d.measurePassthrough, d.measureStorePair}
	}
	for _, step := range steps {
		if err := d.settle(ctx); err != nil {
			return err
		}
		if err := step(ctx, number); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) measureRunc(ctx context.Context, number int) error {
	var took rawTimes
	access, err := json.Marshal(d.s3)
	if err != nil {
		return err
	}
	if err := d.onNode(ctx, &took, "raw", string(access), fmt.Sprint(d.mib)); err != nil {
		return err
	}
	say("pair %d: runc checkpoint %v, get of the pages %v, runc restore %v", number+1, short(took.Checkpoint), short(took.Get), short(took.Restore))
	d.reference.add(captureFrozen, took.Checkpoint)
	d.reference.add(restoreTotal, took.Restore)
	d.reference.add(fromBucket, took.Get+took.Restore)
	return nil
}

func (d *driver) measurePassthrough(ctx context.Context, number int) error {
	if d.referenceOnly {
		return nil
	}
	var took passthroughTimes
	if err := d.onNode(ctx, &took, "passthrough"); err != nil {
		return err
	}
	say("pair %d: a call through the runtime %v, of runc %v", number+1, took.Ours, took.Reference)
	d.ours.add(passthrough, took.Ours)
	d.reference.add(passthrough, took.Reference)
	return nil
}

// poll calls check until it returns nil.
func poll(ctx context.Context, patience time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not after %v: %w", what, patience, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

func short(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
