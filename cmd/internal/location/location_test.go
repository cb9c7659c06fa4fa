package location

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/s3"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

func locationAt(endpoint string) *v1alpha1.CheckpointStorageLocation {
	return &v1alpha1.CheckpointStorageLocation{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: v1alpha1.CheckpointStorageLocationSpec{
			Endpoint: endpoint, Region: "us-east-1", Bucket: "bucket", Prefix: "cluster/a", Addressing: v1alpha1.AddressingAuto,
			Credentials: v1alpha1.LocationCredentials{SecretName: "s3"},
		},
	}
}

func secretOf(access, secret string) map[string][]byte {
	return map[string][]byte{v1alpha1.CredentialsAccessKeyID: []byte(access), v1alpha1.CredentialsSecretAccessKey: []byte(secret)}
}

func TestOpenOnMinIO(t *testing.T) {
	t.Parallel()
	server := storagetest.StartMinIO(t)
	server.MakeBucket(t, "bucket")
	location := locationAt(server.URL())
	store, err := Open(t.Context(), location, secretOf(server.AccessKey, server.SecretKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "key", storage.Bytes([]byte("x")), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	location.Spec.Prefix, location.Spec.Addressing = "", v1alpha1.AddressingPath
	whole, err := Open(t.Context(), location, secretOf(server.AccessKey, server.SecretKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole.Stat(t.Context(), "cluster/a/key"); err != nil {
		t.Errorf("what was put below the prefix: %v", err)
	}
	denied, err := Open(t.Context(), location, secretOf(server.AccessKey, "wrong-secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range denied.List(t.Context(), "", "") {
		if !errors.Is(err, storage.ErrAccessDenied) {
			t.Errorf("with another secret: have the error %v, want %v", err, storage.ErrAccessDenied)
		}
	}
}

func TestAddressing(t *testing.T) {
	t.Parallel()
	for addressing, want := range map[v1alpha1.Addressing][2]bool{
		"":                             {false, false},
		v1alpha1.AddressingAuto:        {false, false},
		v1alpha1.AddressingPath:        {true, false},
		v1alpha1.AddressingVirtualHost: {false, true},
	} {
		location := locationAt("http://s3.test")
		location.Spec.Addressing = addressing
		options, err := optionsOf(location, secretOf("key", "secret"))
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{options.PathStyle, options.HostStyle}; got != want {
			t.Errorf("%q: path and host style are %v; they have to be %v", addressing, got, want)
		}
	}
}

func TestServerSideEncryption(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{1}, 32)
	for name, test := range map[string]struct {
		spec *v1alpha1.ServerSideEncryption
		want s3.ServerSide
	}{
		"none":     {nil, s3.ServerSide{}},
		"S3":       {&v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideS3}, s3.ServerSide{Method: s3.ServerSideS3}},
		"KMS":      {&v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideKMS, KMSKeyID: "id"}, s3.ServerSide{Method: s3.ServerSideKMS, KMSKeyID: "id"}},
		"Customer": {&v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideCustomer}, s3.ServerSide{Method: s3.ServerSideCustomer, CustomerKey: key}},
	} {
		location, secret := locationAt("https://s3.test"), secretOf("key", "secret")
		location.Spec.ServerSideEncryption, secret[v1alpha1.CustomerKey] = test.spec, key
		options, err := optionsOf(location, secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := options.ServerSide; got.Method != test.want.Method || got.KMSKeyID != test.want.KMSKeyID || !bytes.Equal(got.CustomerKey, test.want.CustomerKey) {
			t.Errorf("%s: it is %v", name, got)
		}
	}
}

func TestWhatCannotBeRight(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*v1alpha1.CheckpointStorageLocation, map[string][]byte)
		want   string
	}{
		"a Secret without the access key": {
			change: func(_ *v1alpha1.CheckpointStorageLocation, secret map[string][]byte) {
				delete(secret, v1alpha1.CredentialsAccessKeyID)
			},
			want: `storage location "default": the Secret "s3" lacks the key "accessKeyID": invalid`,
		},
		"a Secret with an empty secret key": {
			change: func(_ *v1alpha1.CheckpointStorageLocation, secret map[string][]byte) {
				secret[v1alpha1.CredentialsSecretAccessKey] = nil
			},
			want: `storage location "default": the Secret "s3" lacks the key "secretAccessKey": invalid`,
		},
		"an endpoint with a path": {
			change: func(l *v1alpha1.CheckpointStorageLocation, _ map[string][]byte) { l.Spec.Endpoint += "/bucket" },
			want: `storage location "default": options of the S3 store: endpoint is "https://s3.test/bucket"; ` +
				`it may be http:// or https:// with a host and a port: invalid`,
		},
		"authorities that are no certificates": {
			change: func(l *v1alpha1.CheckpointStorageLocation, _ map[string][]byte) { l.Spec.CABundle = []byte("x") },
			want: `storage location "default": options of the S3 store: CA has 1 bytes without a certificate; ` +
				`it may be certificates in PEM: invalid`,
		},
		"a key for the service that is not there": {
			change: func(l *v1alpha1.CheckpointStorageLocation, _ map[string][]byte) {
				l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideCustomer}
			},
			want: `storage location "default": options of the S3 store: customer key has 0 bytes; it may have 32: invalid`,
		},
		"a type of encryption of another version": {
			change: func(l *v1alpha1.CheckpointStorageLocation, _ map[string][]byte) {
				l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: "Other"}
			},
			want: `storage location "default": options of the S3 store: server-side encryption is "Other"; it may be "S3", "KMS" or "Customer": invalid`,
		},
		"an addressing of another version": {
			change: func(l *v1alpha1.CheckpointStorageLocation, _ map[string][]byte) { l.Spec.Addressing = "Other" },
			want:   `storage location "default": addressing is "Other", which this version does not know: invalid`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			location, secret := locationAt("https://s3.test"), secretOf("my-access-key", "my-secret-key")
			test.change(location, secret)
			_, err := Open(t.Context(), location, secret)
			if !errors.Is(err, storage.ErrInvalid) {
				t.Fatalf("have the error %v, want %v", err, storage.ErrInvalid)
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if strings.Contains(err.Error(), "my-") {
				t.Errorf("%v tells the credentials", err)
			}
		})
	}
}

func TestReasonsOfErrorsAreCounted(t *testing.T) {
	for want, errs := range map[string][]error{
		"":             {nil, storage.ErrNotExist, fmt.Errorf("stat: %w", storage.ErrExist), context.Canceled},
		"Unavailable":  {fmt.Errorf("put: %w", storage.ErrUnavailable), context.DeadlineExceeded},
		"AccessDenied": {storage.ErrAccessDenied},
		"Other":        {errors.New("what nobody knows")},
	} {
		for _, err := range errs {
			if got := reasonOf(err); got != want {
				t.Errorf("the reason of %v is %q; it has to be %q", err, got, want)
			}
		}
	}
}
