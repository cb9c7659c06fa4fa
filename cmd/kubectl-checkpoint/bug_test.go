package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// planted is a secret that stands wherever somebody may have written one.
const planted = "hunter2hunter2"

// plant writes it there.
func plant(i *installation) {
	web := find[*corev1.Pod](i, "web-5c9d-a")
	web.Annotations["example.com/token"], web.Annotations[corev1.LastAppliedConfigAnnotation] = planted, `{"env":"`+planted+`"}`
	web.Annotations[keys.PreCheckpointHook] = `["psql","` + planted + `"]`
	web.Annotations[keys.Effective] = `{"schemaVersion":1,"containers":["app"],"preStop":[{"container":"app","exec":["x","` + planted + `"]}],` +
		`"postRestore":[{"command":["` + planted + `"]}]}`
	exec := &corev1.ExecAction{Command: []string{"curl", planted}}
	get := &corev1.HTTPGetAction{HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Key", Value: planted}}}
	c := &web.Spec.Containers[0]
	c.Env = []corev1.EnvVar{{Name: "PASSWORD", Value: planted}, {Name: "OF_A_SECRET", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "db"}, Key: "password"},
	}}}
	c.Command, c.Args = []string{"serve", planted}, []string{"--password=" + planted}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: exec}}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get}}
	c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: exec}}
	web.Spec.InitContainers = []corev1.Container{*c.DeepCopy()}
	web.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
		CSI: &corev1.CSIVolumeSource{Driver: "d", VolumeAttributes: map[string]string{"key": planted}},
	}}}
	find[*v1alpha1.CheckpointStorageLocation](i, "main").Spec.Endpoint = "https://user:" + planted + "@s3.test"
	find[*corev1.Node](i, "worker-1").Annotations["csi.example.com/token"] = planted
	failed := find[*v1alpha1.Checkpoint](i, "train-7-0123")
	failed.Status.LogTail = "curl -H 'Authorization: Bearer " + planted + "'"
	find[*corev1.Event](i, "e1").Message = "checkpoint: password=" + planted
	manager := find[*corev1.Pod](i, "manager-a")
	manager.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "HTTPS_PROXY", Value: "http://u:" + planted + "@proxy"}}
	i.logs["manager-a"] = `{"msg":"get https://key:` + planted + `@s3.test/x","secretAccessKey":"` + planted + `","token":"` + planted + `"}` + "\n"
	i.logs["agent-1"] = "env AWS_SECRET_ACCESS_KEY=" + planted + " api_key: " + planted + "\nAuthorization: Basic " + planted + "\n"
	policy := &v1alpha1.CheckpointPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "hooked"}}
	policy.Spec.Hooks = &v1alpha1.CheckpointHooks{PreCheckpoint: []v1alpha1.Hook{{Exec: v1alpha1.HookExec{Command: []string{"sh", "-c", planted}}}}}
	i.objects = append(i.objects, policy,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "checkpoint-system", Name: "s3"}, Data: map[string][]byte{"secretAccessKey": []byte(planted)}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "checkpoint-system", Name: "of-somebody-else"}, Data: map[string]string{"x": planted}})
}

// unpack returns the files of a bundle.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(packed); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "checkpoint-bug/")] = string(text)
	}
}

func TestABundleHasNoSecret(t *testing.T) {
	i := newInstallation(t)
	plant(i)
	i.logs["agent-2"] = ""
	delete(i.logs, "agent-2")
	path := filepath.Join(t.TempDir(), "bug.tar.gz")
	out, errOut, err := i.says("bug", "--file", path)
	if err != nil || errOut != "" || !strings.HasPrefix(out, path+" written.") {
		t.Fatalf("it says %q, %q, %v", out, errOut, err)
	}
	files := unpack(t, path)
	for name, text := range files {
		for _, line := range strings.Split(text, "\n") {
			if strings.Contains(line, planted) {
				t.Errorf("%s has the secret: %s", name, line)
			}
		}
	}
	for name, want := range map[string][]string{
		"README.txt":                              {"No Secret was read"},
		"doctor.txt":                              {"kubectl checkpoint dev", "OK    leader", "node worker-2"[5:]},
		"doctor.json":                             {`"level": "OK"`},
		"objects/checkpoints.yaml":                {"kind: Checkpoint\n", "name: train-7-0123", "logTail"},
		"objects/checkpointpolicies.yaml":         {"name: hooked", "command: REDACTED, 3 words"},
		"objects/labelled-pods.yaml":              {"name: web-5c9d-a\n", "name: PASSWORD", "value: REDACTED", "key: password", `"containers":["app"]`},
		"objects/agent-pods.yaml":                 {"- --disk-budget=20%", "name: agent-2"},
		"objects/manager-pods.yaml":               {"name: HTTPS_PROXY"},
		"objects/checkpointstoragelocations.yaml": {"endpoint: https://REDACTED@s3.test", "reason: Validated"},
		"objects/configmaps.yaml":                 {"name: checkpoint-operator"},
		"objects/nodes.yaml":                      {"memverge.ai/checkpoint-node-facts: '{\"architecture\"", "csi.example.com/token: REDACTED"},
		"events.yaml":                             {"reason: CaptureFailed"},
		"logs/manager-a.log":                      {"REDACTED@s3.test/x"},
		"logs/agent-1.log":                        {"AWS_SECRET_ACCESS_KEY=REDACTED"},
		"not-gathered.txt":                        {"logs/agent-2.log: it has none"},
	} {
		for _, part := range want {
			if !strings.Contains(files[name], part) {
				t.Errorf("%s does not have %q:\n%s", name, part, files[name])
			}
		}
	}
	if strings.Contains(files["objects/configmaps.yaml"], "of-somebody-else") {
		t.Error("it has a ConfigMap of somebody else")
	}
}
