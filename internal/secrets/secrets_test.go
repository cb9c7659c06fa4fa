package secrets

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, keySize) }

type data = map[string][]byte

var credentials, digits = data{"accessKeyID": []byte("me")}, hex.EncodeToString(key(0xab))

var reads = map[string]struct {
	current      string // of the encryption; empty is none
	withCustomer bool
	secrets      map[string]data
	want         Secrets
	problem      *Problem
}{
	"credentials alone": {
		secrets: map[string]data{"bucket": credentials, "keys": {"a": []byte("does not matter")}},
		want:    Secrets{Data: credentials, Version: "1"},
	},
	"no credentials": {
		problem: &Problem{v1alpha1.LocationCredentialsMissing, `there is no Secret "bucket" in namespace "operator"`},
	},
	"the current key comes first": {
		current: "b",
		secrets: map[string]data{"bucket": credentials, "keys": {"a": key(1), "b": key(2), "c": key(3)}},
		want:    Secrets{Data: credentials, Keys: [][]byte{key(2), key(1), key(3)}, Version: "1/1"},
	},
	"hexadecimal digits": {
		current: "a",
		secrets: map[string]data{"bucket": credentials, "keys": {
			"a": []byte(digits), "b": []byte(digits + "\n"), "c": []byte(strings.ToUpper(digits) + "\r\n"),
		}},
		want: Secrets{Data: credentials, Keys: [][]byte{key(0xab), key(0xab), key(0xab)}, Version: "1/1"},
	},
	"no Secret with keys": {
		current: "a", secrets: map[string]data{"bucket": credentials},
		problem: &Problem{v1alpha1.LocationEncryptionKeyMissing, `there is no Secret "keys" in namespace "operator"`},
	},
	"an empty Secret": {
		current: "a", secrets: map[string]data{"bucket": credentials, "keys": nil},
		problem: &Problem{v1alpha1.LocationEncryptionKeyMissing, `the Secret "keys" lacks the entry "a"; it has none`},
	},
	"no current key": {
		current: "a", secrets: map[string]data{"bucket": credentials, "keys": {"c": key(1), "b": key(2)}},
		problem: &Problem{v1alpha1.LocationEncryptionKeyMissing, `the Secret "keys" lacks the entry "a"; it has b, c`},
	},
	"a key that is too short": {
		current: "a", secrets: map[string]data{"bucket": credentials, "keys": {"a": key(1)[1:]}},
		problem: &Problem{
			v1alpha1.LocationEncryptionKeyInvalid, `the entry "a" of the Secret "keys" has 31 bytes; it may have 32 bytes, or 64 hexadecimal digits`,
		},
	},
	"another entry that is no key": {
		current: "a", secrets: map[string]data{"bucket": credentials, "keys": {"a": key(1), "b": []byte("geheim" + digits[6:])}},
		problem: &Problem{
			v1alpha1.LocationEncryptionKeyInvalid, `the entry "b" of the Secret "keys" has 64 bytes; it may have 32 bytes, or 64 hexadecimal digits`,
		},
	},
	"a key for the service": {
		withCustomer: true, secrets: map[string]data{"bucket": credentials, "customer": {"customerKey": []byte(digits + "\n")}},
		want: Secrets{Data: data{"accessKeyID": []byte("me"), "customerKey": key(0xab)}, Version: "1/1"},
	},
	"no key for the service": {
		withCustomer: true, secrets: map[string]data{"bucket": credentials, "customer": {"key": key(1)}},
		problem: &Problem{v1alpha1.LocationEncryptionKeyMissing, `the Secret "customer" lacks the entry "customerKey"; it has key`},
	},
}

func TestRead(t *testing.T) {
	for name, test := range reads {
		t.Run(name, func(t *testing.T) {
			location := &v1alpha1.CheckpointStorageLocation{}
			location.Spec.Credentials.SecretName = "bucket"
			if test.current != "" {
				location.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: test.current}
			}
			if test.withCustomer {
				location.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideCustomer, CustomerKeySecretName: "customer"}
			}
			got, err := Read(location, "operator", func(name string) (*corev1.Secret, error) {
				if data, found := test.secrets[name]; found {
					return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "1"}, Data: data}, nil
				}
				return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
			})
			var problem *Problem
			errors.As(err, &problem)
			if diff := cmp.Diff(test.problem, problem); diff != "" || problem == nil && err != nil {
				t.Errorf("it says %v (-want +got):\n%s", err, diff)
			}
			if !cmp.Equal(test.want.Data, got.Data) || !cmp.Equal(test.want.Keys, got.Keys) || test.want.Version != got.Version {
				t.Errorf("it read %q, %q, version %q", got.Data, got.Keys, got.Version)
			}
		})
	}
}

func TestASecretThatCannotBeReadIsNoProblemOfIt(t *testing.T) {
	away := errors.New("the API server is away")
	_, err := Read(&v1alpha1.CheckpointStorageLocation{}, "operator", func(string) (*corev1.Secret, error) { return nil, away })
	if !errors.Is(err, away) || errors.As(err, new(*Problem)) {
		t.Errorf("it says %v", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := Secrets{Data: data{"secretAccessKey": []byte("hidden")}, Keys: [][]byte{[]byte("hidden")}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, s); strings.Contains(text, "secretAccessKey") || strings.Contains(text, "104") || strings.Contains(text, "0x68") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}
