package e2e

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
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/report"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// known are the checks that may warn on a local cluster: its nodes have no logind, its kernel may withhold a capability, and other tests leave states.
var known = []string{"graceful shutdown", "rights of root", "kernel features", "waiting states"}

// doctor asks how it stands, with more words.
func doctor(t *testing.T, c *lab.Cluster, words ...string) (*report.Diagnosis, error) {
	t.Helper()
	output, failed := checkpointCommand(t, c, "default", append([]string{"doctor", "-o", "json"}, words...)...)
	d := &report.Diagnosis{}
	if err := json.NewDecoder(strings.NewReader(output)).Decode(d); err != nil {
		t.Fatalf("doctor says no JSON: %v, %v", err, failed)
	}
	return d, failed
}

// complaints are the checks that are not OK, but for those that may be so here.
func complaints(d *report.Diagnosis) (found []string) {
	for _, s := range d.Sections {
		for _, c := range s.Checks {
			if c.Level != inspect.OK && (c.Level == inspect.Fail || !slices.Contains(known, c.Name)) {
				found = append(found, fmt.Sprintf("%s: %s %s: %s → %s", s.Title, c.Level, c.Name, c.Says, c.Mend))
			}
		}
	}
	return found
}

// awaitDoctor waits until a check fails in the words that are wanted, or, without words, until nothing is complained of.
func awaitDoctor(t *testing.T, c *lab.Cluster, patience time.Duration, what string, before func(), words ...string) {
	t.Helper()
	lab.Eventually(t, patience, what, func() error {
		if before != nil {
			before()
		}
		d, failed := doctor(t, c)
		found := complaints(d)
		if len(words) == 0 {
			return errors.Join(failed, complaintsError(found))
		}
		if failed == nil || !slices.ContainsFunc(found, func(line string) bool { return containsAll(line, words) }) {
			return fmt.Errorf("it complains of %q, %w", found, failed)
		}
		return nil
	})
}

func complaintsError(found []string) error {
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("it complains of:\n%s", strings.Join(found, "\n"))
}

func containsAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}

// Doctor finds a cluster that is well to be well, all parts of it, and names what is broken on purpose, with what to do about it. It does not run beside other
// tests, whose pods need what it breaks.
func TestDoctorNamesWhatIsBroken(t *testing.T) {
	c := labelled(t)
	awaitDoctor(t, c, 2*time.Minute, "all is well", nil)
	d, _ := doctor(t, c)
	titles := map[string]int{}
	for _, s := range d.Sections {
		title, _, _ := strings.Cut(s.Title, " ")
		titles[title] += len(s.Checks)
	}
	if titles["cluster"] < 9 || titles["manager"] < 2*3 || titles["node"] < 2*15 {
		t.Errorf("it has looked at %v", titles)
	}

	t.Run("a location with wrong credentials", func(t *testing.T) {
		name := "doctor-" + fmt.Sprint(time.Now().UnixMilli())
		newArchive(t, name)
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{
			v1alpha1.CredentialsAccessKeyID: "nobody", v1alpha1.CredentialsSecretAccessKey: "knows-this",
		}}
		secrets := c.Client.CoreV1().Secrets(install.Namespace)
		if _, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = secrets.Delete(context.Background(), name, metav1.DeleteOptions{}) })
		patchLocation(t, name, map[string]any{"credentials": map[string]any{"secretName": name}})
		awaitDoctor(t, c, 2*time.Minute, "doctor names the location", nil, "location "+name, v1alpha1.LocationAccessDenied, "kubectl checkpoint location check "+name)
	})
	t.Run("a handler that is not served", func(t *testing.T) {
		// The agent mends it within a minute, perhaps before it is asked.
		breakHandler := func() {
			before, _ := c.Status(t).Component(installedNode, "containerd")
			c.OnNode(t, installedNode, "rm -f /etc/containerd/conf.d/transparent-checkpoint.toml")
			c.Run(t, "component", "kill", "containerd", "--node="+installedNode)
			awaitState(t, c, installedNode, "containerd", func(now lab.Component) bool { return now.State == "Running" && now.PID != before.PID })
		}
		awaitDoctor(t, c, 3*time.Minute, "doctor names the handler", breakHandler,
			"node "+installedNode, "handler", "does not serve "+keys.RuntimeClass, "kubectl logs -n "+install.AgentNamespace)
	})
	awaitDoctor(t, c, 3*time.Minute, "all is well again", nil)
}

func patchLocation(t *testing.T, name string, spec map[string]any) {
	t.Helper()
	patch := patchJSON(t, map[string]any{"spec": spec})
	locations := operator.Checkpoints.CheckpointV1alpha1().CheckpointStorageLocations()
	if _, err := locations.Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// What the bucket has of a pod is counted to the byte, exported, explained by CRIU's logs, and found to be damaged once a byte of it is another one.
func TestAPersonLooksIntoTheBucketWithKubectl(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, first := newWorkload(t, c, plainPod, nil)
	w.countOf(t, first)
	w.deletePod(t, first)
	one := w.checkpoint(t, first, "is uploaded", is(v1alpha1.CheckpointUploaded, metav1.ConditionTrue, v1alpha1.StateCompleted))
	second := w.running(t, first)
	w.countOf(t, second)
	has(t, does(t, w, "logs", one.Name), "dump.log", "Dumping finished successfully")
	has(t, does(t, w, "logs", one.Name, "--restore"), "restore.log", "Restore finished successfully")
	w.deletePod(t, second)
	two := w.checkpoint(t, second, "is uploaded", is(v1alpha1.CheckpointUploaded, metav1.ConditionTrue, v1alpha1.StateCompleted))
	w.running(t, second)

	t.Run("du", func(t *testing.T) { w.agreesWithTheBucket(t) })
	t.Run("export", func(t *testing.T) {
		archive := filepath.Join(t.TempDir(), "work.tar")
		has(t, does(t, w, "export", one.Name, archive), archive+" written")
		readByCheckpointctl(t, archive, w.ns, first.Name)
	})
	has(t, does(t, w, "verify", two.Name), "Checkpoint "+two.Name+" is as it was written")
	object := w.flip(t, one)
	output, err := checkpointCommand(t, c, w.ns, "verify", one.Name)
	if err == nil {
		t.Error("verify of a damaged state succeeds")
	}
	has(t, output, "is DAMAGED in location "+install.Location, object, "Also needed by: "+two.Name)
	output, err = checkpointCommand(t, c, w.ns, "du", "--as=somebody", "--as-group=system:authenticated")
	if err == nil || !strings.Contains(output, "that is the verb create of pods/exec in namespace "+install.Namespace) {
		t.Errorf("somebody without rights is told %q, %v", output, err)
	}
}

// agreesWithTheBucket compares what du says of the namespace with what its bucket lists.
func (w *workload) agreesWithTheBucket(t *testing.T) {
	t.Helper()
	lab.Eventually(t, time.Minute, "du and the bucket agree", func() error {
		u := &inspect.Usage{}
		if err := json.Unmarshal([]byte(does(t, w, "du", "-o", "json")), u); err != nil {
			return err
		}
		objects, err := operator.Objects(t.Context(), keys.StorageRoot+"/"+w.ns+"/")
		if err != nil {
			return err
		}
		sum := int64(0)
		for _, o := range objects {
			sum += o.Size
		}
		i := slices.IndexFunc(u.Locations, func(l inspect.LocationUsage) bool { return l.Name == install.Location })
		if i < 0 || len(u.Locations[i].Folders) != 1 {
			return fmt.Errorf("it says %+v", u)
		}
		f := &u.Locations[i].Folders[0]
		parts := f.Shared + f.Uploading + f.Unnamed
		for _, c := range f.Checkpoints {
			parts += c.Own
		}
		if f.Bytes != sum || parts != sum || f.Objects != len(objects) || f.Workload != "Pod/"+workloadName || len(f.Checkpoints) != 2 || f.Shared == 0 {
			return fmt.Errorf("the bucket has %d bytes in %d objects; it says %+v, which comes to %d", sum, len(objects), f, parts)
		}
		return nil
	})
}

// flip changes a byte in the largest object of a state, and returns that object's name.
func (w *workload) flip(t *testing.T, c *v1alpha1.Checkpoint) string {
	t.Helper()
	objects, err := operator.Objects(t.Context(), keys.StorageFolder(w.ns, c.Status.Source.Lineage)+"/packs/"+string(c.UID)+"/")
	if err != nil || len(objects) == 0 {
		t.Fatalf("the bucket has %v, %v", objects, err)
	}
	largest := slices.MaxFunc(objects, func(x, y install.Object) int { return int(x.Size - y.Size) })
	data, err := operator.Content(t.Context(), largest.Key)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := operator.Put(t.Context(), largest.Key, data); err != nil {
		t.Fatal(err)
	}
	return largest.Key
}

// A bundle for a report of a fault has what is needed, and not the credentials of the bucket.
func TestABundleIsGatheredWithKubectl(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	path := filepath.Join(t.TempDir(), "bug.tar.gz")
	if output, err := checkpointCommand(t, c, "", "bug", "--file", path); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for archive := tar.NewReader(packed); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		folder, name, _ := strings.Cut(strings.TrimPrefix(h.Name, "checkpoint-bug/"), "/")
		found[folder]++
		if strings.Contains(string(text), c.Status(t).S3.SecretKey) {
			t.Errorf("%s/%s has the credentials of the bucket", folder, name)
		}
		if folder == "not-gathered.txt" && len(bytes.TrimSpace(text)) > 0 {
			t.Errorf("it lacks:\n%s", text)
		}
	}
	if found["doctor.txt"] != 1 || found["events.yaml"] != 1 || found["objects"] < 15 || found["logs"] < 2+2 {
		t.Errorf("it has %v", found)
	}
}
