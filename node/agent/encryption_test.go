package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// encrypts has the bench's location encrypt with that entry of the Secret "keys".
func (b *bench) encrypts(current string) {
	b.t.Helper()
	edit(b, &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: "main"}}, func(l *v1alpha1.CheckpointStorageLocation) {
		l.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: current}
	})
}

func encryptionKey(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func keySecret(entries map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: "keys"}, Data: entries}
}

// changeKeys changes the Secret with the keys, or makes it.
func (b *bench) changeKeys(entries map[string][]byte) {
	b.t.Helper()
	if b.Client.Create(b.t.Context(), keySecret(entries)) == nil {
		return
	}
	edit(b, keySecret(nil), func(s *corev1.Secret) { s.Data = entries })
}

// shows tells whether an object of the bucket has the memory of a captured process in it.
func (b *bench) shows() bool {
	for _, data := range b.store.objects {
		if bytes.Contains(data, []byte("memory")) || bytes.Contains(data, []byte("pages-1.img")) {
			return true
		}
	}
	return false
}

func TestWithoutItsKeyAStateStaysOnTheNode(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	b.encrypts("one")
	dir := b.captured(pod, "1", capture.Complete)
	for _, wants := range []struct {
		reason, message string
		next            map[string][]byte
	}{
		{v1alpha1.LocationEncryptionKeyMissing, `there is no Secret "keys" in namespace "operator"`, map[string][]byte{"two": encryptionKey(2)}},
		{v1alpha1.LocationEncryptionKeyMissing, `the Secret "keys" lacks the entry "one"; it has two`, map[string][]byte{"one": []byte("geheim")}},
		{
			v1alpha1.LocationEncryptionKeyInvalid, `the entry "one" of the Secret "keys" has 6 bytes; it may have 32 bytes, or 64 hexadecimal digits`,
			map[string][]byte{"one": encryptionKey(1)},
		},
	} {
		b.look(dir)
		c := b.checkpoint("a-a-uid")
		is(t, c, v1alpha1.CheckpointStalled, metav1.ConditionTrue, wants.reason, `storage location "main": `+wants.message)
		uploaded := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointUploaded)
		if uploaded.Status != metav1.ConditionFalse || uploaded.Reason != wants.reason || !strings.Contains(uploaded.Message, "safe on node worker-1") {
			t.Errorf("it says %+v", uploaded)
		}
		if len(b.store.objects) > 0 {
			t.Errorf("the bucket has %d objects", len(b.store.objects))
		}
		b.changeKeys(wants.next)
		b.now = b.now.Add(longestWait)
	}
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	if !isTrue(c, v1alpha1.CheckpointUploaded) || isTrue(c, v1alpha1.CheckpointStalled) || b.shows() {
		t.Errorf("with the key it says %+v; the bucket shows memory: %t", c.Status.Conditions, b.shows())
	}
}

// Each step is a change of the Secret, without a restart of the agent.
func TestKeysAreRotated(t *testing.T) {
	pods := []*corev1.Pod{newPod("a"), newPod("b")}
	b := newBench(t, keySecret(map[string][]byte{"one": encryptionKey(1)}))
	b.encrypts("one")
	for i, pod := range pods {
		if err := b.takeNote(pod); err != nil {
			t.Fatal(err)
		}
		dir := b.captured(pod, "1", capture.Complete)
		b.look(dir)
		if err := b.remove(dir); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			b.changeKeys(map[string][]byte{"one": encryptionKey(1), "two": encryptionKey(2)})
			b.encrypts("two")
		}
	}
	fetch := func(name string) error {
		c := b.checkpoint(name)
		target := b.stateOf(newPod("new"), c)
		_, err := b.fetch(t.Context(), newPod("new"), c)
		if data, readErr := os.ReadFile(filepath.Join(target, "containers/app/criu/pages-1.img")); err == nil && (readErr != nil || string(data) != "memory") {
			t.Errorf("%s came as %q, %v", name, data, readErr)
		}
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
		return err
	}
	if b.shows() || fetch("a-a-uid") != nil || fetch("b-b-uid") != nil {
		t.Errorf("with both keys: %v, %v", fetch("a-a-uid"), fetch("b-b-uid"))
	}
	folder, err := b.bucket(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(image.Keys{encryptionKey(2), encryptionKey(1)}, folder.keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	b.changeKeys(map[string][]byte{"two": encryptionKey(2)})
	if err := fetch("a-a-uid"); !isForGood(err) || unfetchedReason(err) != keys.ColdEncryptionKeyMissing {
		t.Errorf("without the old key it says %v", err)
	}
	if err := fetch("b-b-uid"); err != nil {
		t.Errorf("without the old key the new one says %v", err)
	}
}

func TestWithoutItsKeyAStateIsNotRestored(t *testing.T) {
	oldKey := map[string][]byte{"one": encryptionKey(1)}
	lost := func(t *testing.T, pod *corev1.Pod, policy *v1alpha1.RestorePolicy) *bench {
		captured := newPod("a")
		b := newBench(t, keySecret(oldKey), pod, policy)
		b.encrypts("one")
		if err := b.takeNote(captured); err != nil {
			t.Fatal(err)
		}
		dir := b.captured(captured, "1", capture.Complete)
		b.look(dir)
		if err := b.remove(dir); err != nil {
			t.Fatal(err)
		}
		b.changeKeys(map[string][]byte{"one": encryptionKey(3)})
		b.reconcile(pod)
		return b
	}
	t.Run("it starts cold", func(t *testing.T) {
		pod, policy := successor(), failing()
		policy.Spec.Fallback = v1alpha1.FallbackColdStart
		b := lost(t, pod, policy)
		d, err := b.Node.Decision(string(pod.UID))
		says := err == nil && strings.Contains(d.Message, `storage location "main" does not have it`)
		if !says || d.Action != capture.Cold || d.Reason != keys.ColdEncryptionKeyMissing {
			t.Errorf("the decision is %+v, %v", d, err)
		}
		if c := b.checkpoint("a-a-uid"); c.Status.Claim != nil {
			t.Errorf("its claim is %+v", c.Status.Claim)
		}
	})
	t.Run("it is refused until the key is back", func(t *testing.T) {
		pod := successor()
		b := lost(t, pod, failing())
		if c := b.restored(pod); c.Reason != keys.RestoreRefused || !strings.Contains(c.Message, keys.ColdEncryptionKeyMissing+", fetch Checkpoint a-a-uid") {
			t.Errorf("it says %+v", c)
		}
		b.changeKeys(oldKey)
		b.reconcile(pod)
		if d, err := b.Node.Decision(string(pod.UID)); err != nil || d.Action != capture.Restore {
			t.Errorf("with the key the decision is %+v, %v", d, err)
		}
	})
}

// What is left of a Checkpoint that was deleted must not stay on the node because other Checkpoints of its lineage cannot be read.
func TestADeletedCheckpointIsWithdrawnBesideOthersWithoutTheirKey(t *testing.T) {
	pods := []*corev1.Pod{newPod("a"), newPod("b")}
	b := newBench(t, keySecret(map[string][]byte{"one": encryptionKey(1)}))
	b.encrypts("one")
	var dir string
	for _, pod := range pods {
		if err := b.takeNote(pod); err != nil {
			t.Fatal(err)
		}
		dir = b.captured(pod, "1", capture.Complete)
		b.look(dir)
		b.changeKeys(map[string][]byte{"one": encryptionKey(2)})
	}
	c := b.checkpoint("b-b-uid")
	if err := b.Client.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(cacheInterval)
	b.look(dir)
	if isThere(dir) || len(b.store.keys(folder(c)+"/manifests/"+string(c.UID))) > 0 {
		t.Errorf("its folder is there: %t; the bucket has %q", isThere(dir), b.store.keys(""))
	}
}

func TestWhatTheServiceRefusesToEncryptNeedsAPerson(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	b.store.broken = storage.ErrEncryption
	b.look(b.captured(pod, "1", capture.Complete))
	if c := b.checkpoint("a-a-uid"); !isTrue(c, v1alpha1.CheckpointStalled) {
		t.Errorf("it says %+v", c.Status.Conditions)
	}
}
