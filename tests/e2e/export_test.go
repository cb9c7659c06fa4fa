package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/export"
	"github.com/transparent-checkpoint/operator/internal/keys"
	store "github.com/transparent-checkpoint/operator/storage/image"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// A state in the bucket becomes an archive in which checkpointctl finds the process, what it has open, and its memory.
func TestCheckpointctlReadsWhatIsExported(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, nil)
	w.countOf(t, pod)
	w.deletePod(t, pod)
	checkpoint := w.checkpoint(t, pod, "is uploaded", is(v1alpha1.CheckpointUploaded, metav1.ConditionTrue, v1alpha1.StateCompleted))
	server := c.Status(t).S3
	bucket, err := s3.New(s3.Options{
		Endpoint: "http://" + server.Endpoint, Bucket: install.Bucket, PathStyle: true,
		Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	folder := &store.Folder{Store: bucket, Name: keys.StorageFolder(w.ns, checkpoint.Status.Source.Lineage)}
	opened, err := folder.Open(t.Context(), store.Checkpoint{Name: string(checkpoint.UID), Digest: checkpoint.Status.ManifestDigest})
	if err != nil {
		t.Fatal(err)
	}
	captured, err := export.Open(opened.Files(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive, err := os.Create(filepath.Join(dir, "checkpoint.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if err := captured.Write(archive, captured.Containers()[0]); err != nil {
		t.Fatal(err)
	}
	readByCheckpointctl(t, archive.Name(), w.ns, pod.Name)
}

// readByCheckpointctl has checkpointctl read an archive of testapp, of a pod of that name.
func readByCheckpointctl(t *testing.T, archive, namespace, pod string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "checkpointctl"), "github.com/checkpoint-restore/checkpointctl")
	build.Dir = "../checkpointctl"
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build checkpointctl: %v\n%s", err, output)
	}
	output, err := exec.Command(filepath.Join(dir, "checkpointctl"), "inspect", "--all", "--format", "json", archive).Output()
	if err != nil {
		t.Fatalf("checkpointctl inspect: %v", err)
	}
	var all []struct {
		Metadata struct {
			Pod       string `json:"pod_name"`
			Namespace string `json:"kubernetes_namespace"`
		} `json:"metadata"`
		Tree struct {
			Command string `json:"cmdline"`
		} `json:"process_tree"`
		Files []any `json:"file_descriptors"`
	}
	if err := json.Unmarshal(output, &all); err != nil {
		t.Fatal(err)
	}
	got := []any{all[0].Metadata.Pod, all[0].Metadata.Namespace, strings.TrimSpace(all[0].Tree.Command), len(all[0].Files) > 0}
	if diff := cmp.Diff([]any{pod, namespace, "/testapp serve", true}, got); diff != "" {
		t.Errorf("checkpointctl inspect (-want +got):\n%s\n%s", diff, output)
	}
}
