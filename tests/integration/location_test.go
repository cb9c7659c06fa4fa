package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func newLocation() *v1alpha1.CheckpointStorageLocation {
	return &v1alpha1.CheckpointStorageLocation{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "minio-", Labels: map[string]string{"made-by": "tests"}},
		Spec: v1alpha1.CheckpointStorageLocationSpec{
			Endpoint: "https://s3.example.com", Bucket: "checkpoints", Prefix: "clusters/one",
			Credentials: v1alpha1.LocationCredentials{SecretName: "s3-credentials"},
		},
	}
}

var newLocations = map[string]creation[v1alpha1.CheckpointStorageLocation]{
	"a service on the Internet": {
		with: func(*v1alpha1.CheckpointStorageLocation) {},
	},
	"a service inside the cluster, in the clear": {
		with: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Endpoint = "http://minio.storage.svc:9000" },
	},
	"a service at an IPv6 address": {
		with: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Endpoint = "http://[fd00::1]:9000" },
	},
	"a host without a scheme": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Endpoint = "s3.example.com" },
		refused: "endpoint must be http[s]://HOST[:PORT]",
	},
	"another scheme": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Endpoint = "ftp://s3.example.com" },
		refused: "endpoint must be http[s]://HOST[:PORT]",
	},
	"an endpoint with a path": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Endpoint = "https://s3.example.com/checkpoints" },
		refused: "endpoint must be http[s]://HOST[:PORT]",
	},
	"a password in the endpoint": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Endpoint = "https://user:secret@s3.example.com" },
		refused: "endpoint must be http[s]://HOST[:PORT]",
	},
	"a bucket with dots": {
		with: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Bucket = "checkpoints.example.com" },
	},
	"what no bucket can be called": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Bucket = "Checkpoints" },
		refused: "bucket must be a bucket's name",
	},
	"a bucket with two dots in a row": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Bucket = "check..points" },
		refused: "bucket must be a bucket's name",
	},
	"no prefix": {
		with: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Prefix = "" },
	},
	"a prefix that begins with a slash": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Prefix = "/one" },
		refused: "spec.prefix",
	},
	"a prefix that leads upwards": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Prefix = "one/../two" },
		refused: "prefix must not have . or .. as a name",
	},
	"a prefix with dots in a name": {
		with: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Prefix = "one.example/v1..2" },
	},
	"authorities of its own": {
		with: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.CABundle = []byte(certificate) },
	},
	"authorities that are no certificates": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.CABundle = []byte("trust me") },
		refused: "caBundle must hold certificates in PEM",
	},
	"authorities for an endpoint in the clear": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.Endpoint, l.Spec.CABundle = "http://minio.storage.svc:9000", []byte(certificate)
		},
		refused: "caBundle is for an https endpoint",
	},
	"what no Secret can be called": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Credentials.SecretName = "S3/credentials" },
		refused: "secretName must be the name of a Secret",
	},
	"a way of addressing that there is not": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Addressing = "Carrier" },
		refused: `supported values: "Auto", "Path", "VirtualHost"`,
	},
	"a bucket that is only read": {
		with: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.AccessMode = v1alpha1.AccessReadOnly },
	},
	"keys": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: "2026-11_a.hex"}
		},
	},
	"keys of which none is current": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys"}
		},
		refused: "spec.encryption.currentKey",
	},
	"a current key that is no entry of a Secret": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: "a/b"}
		},
		refused: "spec.encryption.currentKey",
	},
	"keys in what no Secret can be called": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "My/Keys", CurrentKey: "a"}
		},
		refused: "secretName must be the name of a Secret",
	},
	"keys of the service": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideS3}
		},
	},
	"a key of the service's key management": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideKMS, KMSKeyID: "arn:aws:kms:eu-west-1:1:key/2"}
		},
	},
	"a key of a KMS for another type": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideS3, KMSKeyID: "key"}
		},
		refused: "kmsKeyID is for the type KMS",
	},
	"our own key for the service": {with: withCustomerKey},
	"our own key that is nowhere": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideCustomer}
		},
		refused: "customerKeySecretName is for the type Customer, which needs it",
	},
	"our own key for another type": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideKMS, CustomerKeySecretName: "customer-key"}
		},
		refused: "customerKeySecretName is for the type Customer, which needs it",
	},
	"our own key in what no Secret can be called": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			withCustomerKey(l)
			l.Spec.ServerSideEncryption.CustomerKeySecretName = "My/Key"
		},
		refused: "customerKeySecretName must be the name of a Secret",
	},
	"our own key in the clear": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			withCustomerKey(l)
			l.Spec.Endpoint = "http://minio.storage.svc:9000"
		},
		refused: "serverSideEncryption of the type Customer is for an https endpoint, to which the key is sent",
	},
	"a way of encryption that there is not": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: "Enigma"}
		},
		refused: `supported values: "S3", "KMS", "Customer"`,
	},
	"a mode of access that there is not": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.AccessMode = "WriteOnly" },
		refused: `supported values: "ReadWrite", "ReadOnly"`,
	},
	"a bucket that is looked through": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.SyncInterval = &metav1.Duration{Duration: time.Minute}
		},
	},
	"a bucket that is looked through all the time": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.SyncInterval = &metav1.Duration{Duration: 59 * time.Second}
		},
		refused: "syncInterval must be from 1m to 24h",
	},
	"a bucket that is looked through once in a while": {
		with: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.SyncInterval = &metav1.Duration{Duration: 25 * time.Hour}
		},
		refused: "syncInterval must be from 1m to 24h",
	},
	"a role that there is not": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Role = "Hamlet" },
		refused: `supported values: "Default", "Named"`,
	},
	"a name of 63 characters": {
		with: func(l *v1alpha1.CheckpointStorageLocation) { l.Name = strings.Repeat("a", 63) },
	},
	"a name of 64 characters": {
		with:    func(l *v1alpha1.CheckpointStorageLocation) { l.Name = strings.Repeat("a", 64) },
		refused: "the name must have at most 63 characters",
	},
}

const certificate = "# an authority\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

// withCustomerKey has the service encrypt with a key of ours.
func withCustomerKey(l *v1alpha1.CheckpointStorageLocation) {
	l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideCustomer, CustomerKeySecretName: "customer-key"}
}

var changedLocations = map[string]update[v1alpha1.CheckpointStorageLocation]{
	"a service can move": {
		spec: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Endpoint = "https://s3.example.org" },
	},
	"a location becomes the default": {
		spec: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Role = v1alpha1.RoleDefault },
	},
	"a location is looked through from now on": {
		spec: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.SyncInterval = &metav1.Duration{Duration: time.Hour}
		},
	},
	"another bucket is another location": {
		spec:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Bucket = "others" },
		refused: "bucket is immutable: what is stored there does not move",
	},
	"another prefix is another location": {
		spec:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Prefix = "clusters/two" },
		refused: "prefix is immutable: what is stored there does not move",
	},
	"a prefix cannot be taken away": {
		spec:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Prefix = "" },
		refused: "prefix is immutable: what is stored there does not move",
	},
	"a prefix cannot be added": {
		of:      func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Prefix = "" },
		spec:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Prefix = "clusters/one" },
		refused: "prefix is immutable: what is stored there does not move",
	},
	"keys can be added": {
		spec: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: "a"}
		},
	},
	"keys can be rotated": {
		of: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: "a"}
		},
		spec: func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.Encryption.CurrentKey = "b" },
	},
	"the service can begin to encrypt": {
		spec: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.ServerSideEncryption = &v1alpha1.ServerSideEncryption{Type: v1alpha1.ServerSideS3}
		},
	},
	"the Secret of our own key can have another name": {
		of: withCustomerKey,
		spec: func(l *v1alpha1.CheckpointStorageLocation) {
			l.Spec.ServerSideEncryption.CustomerKeySecretName = "other"
		},
	},
	"our own key cannot be added": {
		spec:    withCustomerKey,
		refused: "serverSideEncryption of the type Customer can be neither added nor taken away: what is stored there would not be read any more",
	},
	"our own key cannot be taken away": {
		of:      withCustomerKey,
		spec:    func(l *v1alpha1.CheckpointStorageLocation) { l.Spec.ServerSideEncryption = nil },
		refused: "serverSideEncryption of the type Customer can be neither added nor taken away: what is stored there would not be read any more",
	},
}

func TestNewLocations(t *testing.T) {
	needCluster(t)
	testCreations(t, client.CheckpointV1alpha1().CheckpointStorageLocations(), newLocation, newLocations)
}

func TestChangedLocations(t *testing.T) {
	removeLocations(t)
	testUpdates(t, client.CheckpointV1alpha1().CheckpointStorageLocations(), newLocation, changedLocations)
}

func TestDefaultsOfALocation(t *testing.T) {
	removeLocations(t)
	made := create(t, client.CheckpointV1alpha1().CheckpointStorageLocations(), newLocation, nil)
	want := newLocation()
	want.Spec.Region, want.Spec.Addressing, want.Spec.Role = "us-east-1", v1alpha1.AddressingAuto, v1alpha1.RoleNamed
	want.Spec.AccessMode = v1alpha1.AccessReadWrite
	want.Status.Conditions = []metav1.Condition{unseen(v1alpha1.LocationAvailable)}
	if diff := cmp.Diff(want.Spec, made.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Status, made.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

// removeLocations removes, when the test has ended, the locations that it made: they are in no namespace.
func removeLocations(t *testing.T) {
	t.Helper()
	needCluster(t)
	t.Cleanup(func() {
		err := client.CheckpointV1alpha1().CheckpointStorageLocations().DeleteCollection(
			context.Background(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "made-by=tests"})
		if err != nil {
			t.Error(err)
		}
	})
}
