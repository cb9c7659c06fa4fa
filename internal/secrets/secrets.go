package secrets

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// Secrets are what a location has in its Secrets. They do not print.
type Secrets struct {
	// Data is that of the Secret with the credentials and, under v1alpha1.CustomerKey, the 32 bytes of the key for the service if spec has one.
	Data map[string][]byte
	// Keys are what Checkpoints are encrypted with, 32 bytes each, the current one first; none if spec has no encryption.
	Keys [][]byte
	// Version is another one after each change of one of the Secrets.
	Version string
}

// String hides them.
func (s Secrets) String() string {
	return fmt.Sprintf("{%d keys, version %s, hidden}", len(s.Keys), s.Version)
}

// GoString hides them.
func (s Secrets) GoString() string { return s.String() }

// Problem is what is wrong with a Secret, with the reason of a location's condition Available. A person must act.
type Problem struct{ Reason, Message string }

func (p *Problem) Error() string { return p.Message }

// Names are those of the Secrets of a location.
func Names(location *v1alpha1.CheckpointStorageLocation) []string {
	names := []string{location.Spec.Credentials.SecretName}
	if e := location.Spec.Encryption; e != nil {
		names = append(names, e.SecretName)
	}
	if e := location.Spec.ServerSideEncryption; e != nil && e.Type == v1alpha1.ServerSideCustomer {
		names = append(names, e.CustomerKeySecretName)
	}
	return names
}

// Read reads the Secrets of a location, which are in that namespace, by get. What is wrong with one of them is a Problem; it says how long an entry is, and
// nothing else of it. Whether the credentials are complete is not looked at.
func Read(location *v1alpha1.CheckpointStorageLocation, namespace string, get func(name string) (*corev1.Secret, error)) (Secrets, error) {
	all, versions := map[string]map[string][]byte{}, []string{}
	for _, name := range Names(location) {
		secret, err := get(name)
		if apierrors.IsNotFound(err) {
			return Secrets{}, &Problem{missing(location, name), fmt.Sprintf("there is no Secret %q in namespace %q", name, namespace)}
		}
		if err != nil {
			return Secrets{}, fmt.Errorf("read the Secret %q: %w", name, err)
		}
		all[name] = secret.Data
		versions = append(versions, secret.ResourceVersion)
	}
	s := Secrets{Data: maps.Clone(all[location.Spec.Credentials.SecretName]), Version: strings.Join(versions, "/")}
	if e := location.Spec.Encryption; e != nil {
		var err error
		if s.Keys, err = keysOf(e, all[e.SecretName]); err != nil {
			return Secrets{}, err
		}
	}
	if e := location.Spec.ServerSideEncryption; e != nil && e.Type == v1alpha1.ServerSideCustomer {
		key, err := keyOf(e.CustomerKeySecretName, v1alpha1.CustomerKey, all[e.CustomerKeySecretName])
		if err != nil {
			return Secrets{}, err
		}
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[v1alpha1.CustomerKey] = key
	}
	return s, nil
}

func missing(location *v1alpha1.CheckpointStorageLocation, name string) string {
	if name == location.Spec.Credentials.SecretName {
		return v1alpha1.LocationCredentialsMissing
	}
	return v1alpha1.LocationEncryptionKeyMissing
}

// keysOf returns the keys of a Secret, the current one first.
func keysOf(encryption *v1alpha1.LocationEncryption, data map[string][]byte) ([][]byte, error) {
	current, err := keyOf(encryption.SecretName, encryption.CurrentKey, data)
	if err != nil {
		return nil, err
	}
	all := [][]byte{current}
	for _, entry := range slices.Sorted(maps.Keys(data)) {
		if entry == encryption.CurrentKey {
			continue
		}
		key, err := keyOf(encryption.SecretName, entry, data)
		if err != nil {
			return nil, err
		}
		all = append(all, key)
	}
	return all, nil
}

// keySize is that of a key, in bytes.
const keySize = 32

// keyOf returns the key in an entry of a Secret.
func keyOf(name, entry string, data map[string][]byte) ([]byte, error) {
	value, found := data[entry]
	if !found {
		has := "it has none"
		if len(data) > 0 {
			has = "it has " + strings.Join(slices.Sorted(maps.Keys(data)), ", ")
		}
		return nil, &Problem{v1alpha1.LocationEncryptionKeyMissing, fmt.Sprintf("the Secret %q lacks the entry %q; %s", name, entry, has)}
	}
	if len(value) == keySize {
		return value, nil
	}
	key := make([]byte, keySize)
	if digits := bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r")); len(digits) == hex.EncodedLen(keySize) {
		if _, err := hex.Decode(key, digits); err == nil { // its error would show a byte
			return key, nil
		}
	}
	return nil, &Problem{v1alpha1.LocationEncryptionKeyInvalid, fmt.Sprintf(
		"the entry %q of the Secret %q has %d bytes; it may have %d bytes, or %d hexadecimal digits", entry, name, len(value), keySize, hex.EncodedLen(keySize))}
}
