package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// query asks testapp and takes its answer apart; a failure ends the test.
func query[T any](t *testing.T, c *lab.Cluster, pod *corev1.Pod, path string, words ...string) T {
	t.Helper()
	var answer T
	text := say(t, c, pod, path, words...)
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
	return answer
}

// say asks testapp; words are key=value.
func say(t *testing.T, c *lab.Cluster, pod *corev1.Pod, path string, words ...string) string {
	t.Helper()
	values := url.Values{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		values.Add(key, value)
	}
	patient := rest.CopyConfig(c.Config)
	patient.Timeout = 3 * time.Minute // a GiB takes its time on a busy machine
	client, err := kubernetes.NewForConfig(patient)
	if err != nil {
		t.Fatal(err)
	}
	text, began := "", time.Now()
	for {
		text, err = ask(t.Context(), &lab.Cluster{Name: c.Name, Config: patient, Client: client}, pod, path, values)
		if err == nil || !strings.Contains(err.Error(), "connection refused") || time.Since(began) > 30*time.Second {
			break
		}
		time.Sleep(100 * time.Millisecond) // a program that has just begun may not listen yet
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// lines is what testapp says of a tree: a line for each file, by its name.
type lines map[string]string

// again deletes the pod of a plain workload and returns the restored one.
func (w *workload) again(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	before := w.countOf(t, pod)
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	return next
}

// treeImage is testapp above a folder /lower, which came with the image.
const treeImage = "localhost/testapp-tree:e2e"

func loadTreeImage(ctx context.Context, c *lab.Cluster) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	tree := filepath.Join(root, "build/images/testapp-tree")
	lower := filepath.Join(tree, "lower")
	script := `rm -rf "$0" && mkdir -p "$1/gone/deep" "$1/opaque" "$1/folder" "$1/tofile" && cp "$2" "$0/testapp" && cd "$1" &&
		for f in changed deleted renamed gone/deep/file opaque/old linked mode owner folder/one folder/two tofolder tofile/x tolink; do echo $f > $f; done`
	if output, err := exec.CommandContext(ctx, "sh", "-ec", script, tree, lower, filepath.Join(root, "build/images/testapp")).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	_, err = lab.Localcluster(ctx, c.Name, "image", "build", treeImage, "--tree="+tree, "--entrypoint=/testapp")
	return err
}

// Everything that a file can be comes back: in the root file system, in emptyDirs on disk and in memory, in the shared memory.
func TestFilesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	if err := loadTreeImage(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		s := &template.Spec
		s.Containers[0].Image = treeImage
		memory := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("64Mi"))}
		s.Volumes = append(s.Volumes, corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: memory}},
			corev1.Volume{Name: "parts", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		s.Containers[0].VolumeMounts = append(s.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "memory", MountPath: "/memory"},
			corev1.VolumeMount{Name: "parts", MountPath: "/part", SubPath: "some/part"})
	})
	w.countOf(t, pod) // it listens
	for _, dir := range []string{"/root/all", "/scratch/all", "/memory/all", "/dev/shm", "/part"} {
		say(t, c, pod, "build", "what=all", "at="+dir)
	}
	say(t, c, pod, "build", "what=lower", "at=/lower")
	dirs := []string{"/root", "/lower", "/scratch", "/memory", "/dev/shm", "/part"}
	before := map[string]lines{}
	for _, dir := range dirs {
		before[dir] = query[lines](t, c, pod, "look", "at="+dir)
	}
	for generation := range 2 {
		pod = w.again(t, pod)
		for _, dir := range dirs {
			if diff := cmp.Diff(before[dir], query[lines](t, c, pod, "look", "at="+dir)); diff != "" {
				t.Errorf("generation %d: %s (-want +got)\n%s", generation+2, dir, diff)
			}
		}
	}
	if mounts := say(t, c, pod, "file/proc/mounts"); !strings.Contains(mounts, "/memory tmpfs rw,relatime,size=65536k") {
		t.Errorf("the emptyDir in memory has lost its bound: %s", mounts)
	}
}

// What a sparse file costs is what is in it.
func TestHolesCostNothing(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, nil)
	w.countOf(t, pod)
	for _, dir := range []string{"/sparse", "/scratch", "/dev/shm"} {
		if dir != "/dev/shm" { // which has 64 MiB
			say(t, c, pod, "build", "what=sparse", "at="+dir)
		}
	}
	dirs := []string{"/sparse", "/scratch"}
	before := map[string]lines{}
	for _, dir := range dirs {
		before[dir] = query[lines](t, c, pod, "look", "at="+dir)
	}
	next := w.again(t, pod)
	for _, dir := range dirs {
		if diff := cmp.Diff(before[dir], query[lines](t, c, next, "look", "at="+dir)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", dir, diff)
		}
	}
	checkpoint := w.checkpoint(t, pod, "is there", func(*v1alpha1.Checkpoint) error { return nil })
	if size := checkpoint.Status.SizeBytes; size == nil || *size > 200<<20 {
		t.Errorf("it takes %d bytes", *size)
	}
}

// A hundred thousand small files and a file of 1 GiB fit the time that there is.
func TestManyFilesAndAHugeOne(t *testing.T) {
	t.Parallel()
	for what, where := range map[string]string{"many": "/many", "huge": "/huge"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w, pod := newWorkload(t, c, plainPod, nil)
			w.countOf(t, pod)
			say(t, c, pod, "build", "what="+what, "at="+where)
			before := say(t, c, pod, "look", "at="+where, "sum=1")
			next := w.again(t, pod)
			if after := say(t, c, next, "look", "at="+where, "sum=1"); after != before {
				t.Errorf("before it was %s, now it is %s", before, after)
			}
			log := "cat /run/checkpoint/log/" + string(pod.UID) + ".log; cat /var/lib/checkpoint/restores/" + string(next.UID) + "/result-*.json"
			for _, node := range []string{"worker-1", "worker-2"} {
				text, _ := lab.Localcluster(t.Context(), c.Name, "node", "exec", node, "--", "sh", "-c", "("+log+") 2>/dev/null || true")
				t.Log(text)
			}
		})
	}
}

// held is what testapp says of a file that it keeps open.
type held struct {
	Name   string
	Flags  int
	Offset int64
	Links  uint64
	Size   int64
	Text   string
}

// Files that were open at the capture go on where they were: read and written, deleted, with another name left, in every place.
func TestOpenFilesGoOn(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, nil)
	w.countOf(t, pod)
	const readWrite, appends = os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_APPEND
	for _, dir := range []string{"/", "/scratch/", "/dev/shm/"} {
		for _, name := range []string{"open", "appended", "deleted", "twice", "sub-gone/x"} {
			if name == "sub-gone/x" {
				say(t, c, pod, "build", "what=plain", "at="+dir+"sub-gone")
			}
			put(t, c, pod, dir+name, "content of "+name)
		}
		say(t, c, pod, "hold", "path="+dir+"open", fmt.Sprint("flags=", readWrite), "seek=7")
		say(t, c, pod, "hold", "path="+dir+"appended", fmt.Sprint("flags=", appends))
		say(t, c, pod, "hold", "path="+dir+"deleted", fmt.Sprint("flags=", readWrite), "seek=3", "remove="+dir+"deleted")
		say(t, c, pod, "hold", "path="+dir+"sub-gone/a/b/c/file", "flags=0", "seek=1", "remove="+dir+"sub-gone/a/b/c/file") // it has a twin
		say(t, c, pod, "hold", "path="+dir+"sub-gone/x", "flags=0", "map=1")
		say(t, c, pod, "hold", "path="+dir+"sub-gone/inside", "flags=0") // a folder, through a link
	}
	want := query[[]held](t, c, pod, "held")
	trees := map[string]lines{}
	for range 2 {
		for _, dir := range []string{"/sub-gone", "/scratch", "/dev/shm"} {
			trees[dir] = query[lines](t, c, pod, "look", "at="+dir)
		}
		pod = w.again(t, pod)
		got := query[[]held](t, c, pod, "held")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		for dir, before := range trees {
			after := query[lines](t, c, pod, "look", "at="+dir)
			for _, touched := range []string{".", "a/b/c", "sub-gone", "sub-gone/a/b/c"} { // CRIU made names in them, and removed them
				delete(before, touched)
				delete(after, touched)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("%s (-want +got)\n%s", dir, diff)
			}
		}
		say(t, c, pod, "write", "n=0", "text=!")
		say(t, c, pod, "write", "n=1", "text=, and more")
		want = query[[]held](t, c, pod, "held")
	}
	if text := say(t, c, pod, "file/open"); text != "content!!f open" {
		t.Errorf("it holds %q", text)
	}
	if text := say(t, c, pod, "file/appended"); text != "content of appended, and more, and more" {
		t.Errorf("it holds %q", text)
	}
}

// ConfigMaps, Secrets, tokens and the downward API are the new pod's own, also for a process that had one of them open; what kubelet
// writes for each pod, as its hosts file, is so as well.
func TestAPodHasItsOwnConfiguration(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	ns := ""
	configure := func(content string) {
		t.Helper()
		data := map[string]string{"key": content, "other": "same"}
		maps, secrets := c.Client.CoreV1().ConfigMaps(ns), c.Client.CoreV1().Secrets(ns)
		object := metav1.ObjectMeta{Name: "settings"}
		_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: object, Data: data}, metav1.CreateOptions{})
		if err != nil {
			_, err = maps.Update(t.Context(), &corev1.ConfigMap{ObjectMeta: object, Data: data}, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err = secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: object, StringData: data}, metav1.CreateOptions{}); err != nil {
			_, err = secrets.Update(t.Context(), &corev1.Secret{ObjectMeta: object, StringData: data}, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Annotations = map[string]string{"mine": "first"}
		s := &template.Spec
		settings := corev1.LocalObjectReference{Name: "settings"}
		annotation := []corev1.DownwardAPIVolumeFile{{Path: "mine", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['mine']"}}}
		s.Volumes = append(s.Volumes,
			corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: settings}}},
			corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "settings"}}},
			corev1.Volume{Name: "downward", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: annotation}}})
		s.Containers[0].VolumeMounts = append(s.Containers[0].VolumeMounts,
			corev1.VolumeMount{Name: "config", MountPath: "/config"}, corev1.VolumeMount{Name: "secret", MountPath: "/secret"},
			corev1.VolumeMount{Name: "downward", MountPath: "/downward"},
			corev1.VolumeMount{Name: "config", MountPath: "/one/file", SubPath: "key"})
	})
	ns = w.ns
	configure("old")
	w.create(t)
	pod := w.running(t, nil)
	w.countOf(t, pod)
	const token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	for _, path := range []string{
		"/config/key", "/secret/key", "/downward/mine", "/one/file", "/etc/hosts", "/etc/resolv.conf", token, "/config", "/config/..data",
	} {
		say(t, c, pod, "hold", "path="+path, "flags=0", "seek=1")
	}
	say(t, c, pod, "hold", "path=/config/other", "flags=0", "map=1")
	say(t, c, pod, "hold", "path=/dev/termination-log", fmt.Sprint("flags=", os.O_RDWR), "seek=0")
	say(t, c, pod, "write", "n=10", "text=last words")
	first := query[[]held](t, c, pod, "held")
	configure("new, and longer")
	w.template.Annotations["mine"] = "second"
	next := w.again(t, pod)
	got := query[[]held](t, c, next, "held")
	for i, want := range []string{"new, and longer", "new, and longer", "second", "new, and longer"} {
		if got[i].Text != want || got[i].Offset != first[i].Offset {
			t.Errorf("of %s it reads %+v; it was %+v", got[i].Name, got[i], first[i])
		}
	}
	if !strings.Contains(got[4].Text, "Kubernetes-managed hosts file") {
		t.Errorf("of the hosts file it reads %+v", got[4])
	}
	for path, want := range map[string]string{
		"/config/key": "new, and longer", "/secret/key": "new, and longer", "/downward/mine": "second", "/one/file": "new, and longer",
	} {
		if text := say(t, c, next, "file"+path); text != want {
			t.Errorf("%s holds %q", path, text)
		}
	}
	if text := say(t, c, next, "fetch", "url=https://${KUBERNETES_SERVICE_HOST}/version"); !strings.Contains(text, "gitVersion") {
		t.Errorf("with its token it gets %q", text)
	}
	w.again(t, next)
}
