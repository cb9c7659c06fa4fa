package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestANodeSaysWhatMachineItIs(t *testing.T) {
	b := newBench(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-1", Labels: map[string]string{"zone": "a"}}})
	if err := os.MkdirAll(filepath.Join(b.Node.Root, "proc"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.write(filepath.Join(b.Node.Root, "proc/cpuinfo"), "flags : avx sse2\n")
	for range 2 {
		if err := b.tellMachineOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	node := &corev1.Node{}
	if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "worker-1"}, node); err != nil {
		t.Fatal(err)
	}
	facts := compat.Facts{}
	if err := json.Unmarshal([]byte(node.Annotations[keys.NodeFacts]), &facts); err != nil {
		t.Fatal(err)
	}
	if facts.Instructions != "avx sse2" || node.Labels[keys.NodeClass] != facts.Class() || node.Labels["zone"] != "a" {
		t.Errorf("labels %v, facts %+v", node.Labels, facts)
	}
}

func TestNamesOfImages(t *testing.T) {
	for name, want := range map[string]string{
		"redis": "docker.io/library/redis:latest", "redis:7": "docker.io/library/redis:7", "org/app": "docker.io/org/app:latest",
		"localhost/app:dev": "localhost/app:dev", "r.example:5000/a/b": "r.example:5000/a/b:latest", "app@sha256:12": "docker.io/library/app@sha256:12",
	} {
		if got := fullName(name); got != want {
			t.Errorf("%s is %s; want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"docker.io/library/redis@sha256:12": "sha256:12", "sha256:12": "", "": "", "redis:7": ""} {
		if got := digestOf(name); got != want {
			t.Errorf("the digest of %q is %q; want %q", name, got, want)
		}
	}
}

func TestTheDigestsOfImagesAreNotedWhenTheyAreKnown(t *testing.T) {
	pod := newPod("a")
	b := newBench(t, pod)
	if err := b.takeNote(pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ImageID: "docker.io/library/app@sha256:12"}}
	for range 2 {
		if err := b.takeNote(pod); err != nil {
			t.Fatal(err)
		}
	}
	n := note{}
	data, err := os.ReadFile(b.noteFile(string(pod.UID)))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &n); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"app": "sha256:12"}, n.Digests); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	here := b.imagesHere(t.Context(), pod)
	if len(here) != 0 {
		t.Errorf("of a node that is not there: %v", here)
	}
}
