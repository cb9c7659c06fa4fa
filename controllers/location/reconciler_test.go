package location

import (
	"bytes"
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/storage"
)

// tried returns a reconciler with a location that has keys, and these Secrets.
func tried(t *testing.T, secrets map[string]map[string][]byte) (*Reconciler, *v1alpha1.CheckpointStorageLocation) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	location := &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.CheckpointStorageLocationSpec{
		Credentials:          v1alpha1.LocationCredentials{SecretName: "bucket"},
		Encryption:           &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: "a"},
		ServerSideEncryption: &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideCustomer, CustomerKeySecretName: "customer"},
	}}
	objects := []client.Object{location}
	for name, data := range secrets {
		objects = append(objects, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: name}, Data: data})
	}
	return &Reconciler{
		Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), Now: time.Now,
		Options: Options{Namespace: "operator", Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return &shelf{objects: map[string][]byte{}}, nil
		}},
	}, location
}

func TestALocationNeedsItsSecrets(t *testing.T) {
	credentials := map[string][]byte{v1alpha1.CredentialsAccessKeyID: []byte("a"), v1alpha1.CredentialsSecretAccessKey: []byte("b")}
	key := bytes.Repeat([]byte{1}, 32)
	for name, test := range map[string]struct {
		secrets         map[string]map[string][]byte
		reason, message string
	}{
		"all are there": {
			map[string]map[string][]byte{"bucket": credentials, "keys": {"a": key}, "customer": {"customerKey": key}},
			v1alpha1.LocationValidated, "an object was written, read and deleted",
		},
		"no credentials": {
			nil, v1alpha1.LocationCredentialsMissing, `there is no Secret "bucket" in namespace "operator"`,
		},
		"incomplete credentials": {
			map[string]map[string][]byte{"bucket": nil, "keys": {"a": key}, "customer": {"customerKey": key}},
			v1alpha1.LocationCredentialsMissing, "the Secret bucket has no key accessKeyID",
		},
		"no current key": {
			map[string]map[string][]byte{"bucket": credentials, "keys": {"b": key}, "customer": {"customerKey": key}},
			v1alpha1.LocationEncryptionKeyMissing, `the Secret "keys" lacks the entry "a"; it has b`,
		},
		"no key for the service": {
			map[string]map[string][]byte{"bucket": credentials, "keys": {"a": key}},
			v1alpha1.LocationEncryptionKeyMissing, `there is no Secret "customer" in namespace "operator"`,
		},
		"a key that is none": {
			map[string]map[string][]byte{"bucket": credentials, "keys": {"a": key[1:]}, "customer": {"customerKey": key}},
			v1alpha1.LocationEncryptionKeyInvalid, `the entry "a" of the Secret "keys" has 31 bytes; it may have 32 bytes, or 64 hexadecimal digits`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, location := tried(t, test.secrets)
			got, err := r.try(t.Context(), location)
			isAvailable := got.Status == metav1.ConditionTrue
			if err != nil || got.Reason != test.reason || got.Message != test.message || isAvailable != (test.reason == v1alpha1.LocationValidated) {
				t.Errorf("it says %+v, %v", got, err)
			}
		})
	}
}

func TestALocationIsTriedWhenOneOfItsSecretsChanges(t *testing.T) {
	r, _ := tried(t, nil)
	for name, want := range map[string]int{"bucket": 1, "keys": 1, "customer": 1, "other": 0} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: name}}
		if got := r.ofSecret(t.Context(), secret); len(got) != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
