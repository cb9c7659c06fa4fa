package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

func TestPodsReachEachOtherServicesAndTheAPI(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	ns := namespace(t, c)
	one := start(t, c, ns, "one", onNode(serving(), "worker-1"))
	two := start(t, c, ns, "two", onNode(serving(), "worker-2"))
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "two"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "two"}, Ports: []corev1.ServicePort{{Port: 8080}},
	}}
	service, err := c.Client.CoreV1().Services(ns).Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	has(t, fetches(t, c, one, "http://"+two.Status.PodIP+":8080/count"), `"host":"two"`)
	has(t, fetches(t, c, two, "http://"+one.Status.PodIP+":8080/count"), `"host":"one"`)
	has(t, fetches(t, c, one, "http://"+service.Spec.ClusterIP+":8080/count"), `"host":"two"`)
	has(t, fetches(t, c, two, "http://"+service.Spec.ClusterIP+":8080/count"), `"host":"two"`) // to itself, by way of its Service
	has(t, fetches(t, c, one, "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/version"), "v1.37.2")
	fetches(t, c, one, "http://"+c.Status(t).S3.InCluster+"/minio/health/live")
}

func TestDeploymentSpreadsOverTheNodes(t *testing.T) {
	c := cluster(t)
	ns := namespace(t, c)
	replicas := int32(4)
	labels := map[string]string{"app": "spread"}
	spec := serving()
	spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
	}}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "spread"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
	}}
	if _, err := c.Client.AppsV1().Deployments(ns).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, podPatience, "four replicas are ready", func() error {
		now, err := c.Client.AppsV1().Deployments(ns).Get(t.Context(), "spread", metav1.GetOptions{})
		if err == nil && now.Status.ReadyReplicas != replicas {
			err = fmt.Errorf("%d are", now.Status.ReadyReplicas)
		}
		return err
	})
	pods, err := c.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	perNode := map[string]int{}
	for _, pod := range pods.Items {
		perNode[pod.Spec.NodeName]++
	}
	if perNode["worker-1"] != 2 || perNode["worker-2"] != 2 {
		t.Errorf("the pods are on %v, want two on each node", perNode)
	}
}

func TestJobCompletes(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	ns := namespace(t, c)
	spec := serving()
	spec.RestartPolicy, spec.Containers[0].Args = corev1.RestartPolicyNever, []string{"count", "-up-to=3"}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "count"}, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: spec}}}
	if _, err := c.Client.BatchV1().Jobs(ns).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, podPatience, "the job is complete", func() error {
		now, err := c.Client.BatchV1().Jobs(ns).Get(t.Context(), "count", metav1.GetOptions{})
		if err == nil && now.Status.Succeeded != 1 {
			err = fmt.Errorf("%d pods succeeded", now.Status.Succeeded)
		}
		return err
	})
	if got := c.Run(t, "kubectl", "--", "--namespace="+ns, "logs", "job/count"); got != "1\n2\n3\n" {
		t.Errorf("the job wrote %q", got)
	}
}

func TestHostPathVolumesBelongToTheirNode(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	ns := namespace(t, c)
	for _, node := range []string{"worker-1", "worker-2"} {
		spec := onNode(serving(), node)
		kind := corev1.HostPathDirectoryOrCreate
		spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/" + ns, Type: &kind}}}}
		spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		start(t, c, ns, node, spec)
		c.OnNode(t, node, "echo of "+node+" > /var/lib/"+ns+"/file")
	}
	for _, node := range []string{"worker-1", "worker-2"} {
		pod := awaitRunning(t, c, ns, node)
		body, err := ask(t.Context(), c, pod, "file/data/file", nil)
		if err != nil || body != "of "+node+"\n" {
			t.Errorf("the pod on %s reads %q, %v", node, body, err)
		}
	}
}

func TestKubectlLogsExecAttachAndPortForward(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	ns := namespace(t, c)
	pod := start(t, c, ns, "streams", serving())
	kubectl := func(args ...string) []string { return append([]string{"kubectl", "--", "--namespace=" + ns}, args...) }
	lab.Eventually(t, podPatience, "logs", func() error {
		if text := c.Run(t, kubectl("logs", pod.Name)...); !strings.Contains(text, "count 10\n") {
			return fmt.Errorf("they say %q", text)
		}
		return nil
	})
	if got := c.Run(t, kubectl("exec", pod.Name, "--", "/testapp", "count", "-up-to=2")...); got != "1\n2\n" {
		t.Errorf("exec wrote %q", got)
	}
	t.Run("exec with input", func(t *testing.T) {
		args := append([]string{"--name=" + c.Name}, kubectl("exec", "-i", pod.Name, "--", "/testapp", "echo")...)
		command := exec.CommandContext(t.Context(), "../../bin/localcluster", args...)
		command.Stdin = strings.NewReader("to and fro")
		if got, err := command.Output(); err != nil || string(got) != "to and fro" {
			t.Errorf("it echoed %q, %v", got, err)
		}
	})
	t.Run("attach", func(t *testing.T) {
		line, stop := firstLine(t, c, kubectl("attach", pod.Name)...)
		defer stop()
		has(t, line, "count ")
	})
	t.Run("port-forward", func(t *testing.T) {
		line, stop := firstLine(t, c, kubectl("port-forward", pod.Name, ":8080")...)
		defer stop()
		var port int
		if _, err := fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d", &port); err != nil {
			t.Fatalf("port-forward said %q", line)
		}
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/count", port))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		has(t, string(body), `"host":"streams"`)
	})
}

// firstLine starts a command that goes on until it is stopped, and returns the first line that it writes.
func firstLine(t *testing.T, c *lab.Cluster, args ...string) (line string, stop func()) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "../../bin/localcluster", append([]string{"--name=" + c.Name}, args...)...)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err = bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Errorf("%v wrote no line: %v", args, err)
	}
	return line, func() {
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()
	}
}

func TestANodeMayNotReadWhatItsPodsDoNotUse(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	ns := namespace(t, c)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "other"}, StringData: map[string]string{"key": "value"}}
	if _, err := c.Client.CoreV1().Secrets(ns).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	asKubelet := "kubectl --kubeconfig=/etc/kubernetes/kubelet.kubeconfig "
	has(t, c.OnNode(t, "worker-1", asKubelet+"auth whoami"), "system:node:worker-1")
	has(t, c.OnNode(t, "worker-1", asKubelet+"get secret other --namespace="+ns+" 2>&1 || true"), "no relationship found between node 'worker-1' and this object")
	has(t, c.OnNode(t, "worker-1", asKubelet+"get node worker-2 2>&1 || true"), "node 'worker-1' cannot read 'worker-2', only its own Node object")
	has(t, c.OnNode(t, "worker-1", asKubelet+"label node worker-1 node-restriction.kubernetes.io/zone=a 2>&1 || true"), "is not allowed to modify labels")
}

func TestImagesArePulledFromTheClustersOwnRegistry(t *testing.T) {
	c := cluster(t)
	ns := namespace(t, c)
	// It differs from the image that the other tests use: when two names are one image, containerd forgets both with one.
	c.Run(t, "image", "build", "my-image:latest", "--binary=build/images/testapp", "--user=1000")
	c.OnNode(t, "worker-2", "ctr --namespace=k8s.io images rm docker.io/library/my-image:latest")
	spec := onNode(serving(), "worker-2")
	spec.Containers[0].Image, spec.Containers[0].ImagePullPolicy = "my-image:latest", corev1.PullAlways
	start(t, c, ns, "pulled", spec)
}

func TestImagesAreMadeOfDebiansPackages(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	ns := namespace(t, c)
	c.Run(t, "image", "build", "localhost/debian:e2e", "--from-debian=netcat-openbsd")
	spec := serving()
	spec.Containers[0].Image, spec.Containers[0].Args = "localhost/debian:e2e", []string{"-c", "nc -h 2>&1 | head -1; sleep 1000"}
	spec.Containers[0].SecurityContext = &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	pod := start(t, c, ns, "debian", spec)
	lab.Eventually(t, podPatience, "the package's program runs", func() error {
		if text := c.Run(t, "kubectl", "--", "--namespace="+ns, "logs", pod.Name); !strings.Contains(text, "OpenBSD netcat") {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
}

func TestMinIOKeepsObjects(t *testing.T) {
	c := cluster(t)
	s3 := c.Status(t).S3
	client, err := minio.New(s3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), "e2e", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []byte("kept")
	if _, err := client.PutObject(t.Context(), "e2e", "object", bytes.NewReader(want), int64(len(want)), minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Run(t, "component", "kill", "minio")
	lab.Eventually(t, podPatience, "the object is there after MinIO was killed", func() error {
		object, err := client.GetObject(t.Context(), "e2e", "object", minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		got, err := io.ReadAll(object)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("it holds %q", got)
		}
		return err
	})
}
