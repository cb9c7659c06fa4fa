package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The conditions of a CheckpointStorageLocation, written by the manager.
const (
	// LocationAvailable: True, if at status.lastValidationTime an object could be written to the bucket, read and deleted; or read alone, if that
	// is all that its accessMode asks for.
	LocationAvailable = "Available"
	// LocationDefault is there for a location with the role Default. True: new Checkpoints are stored in it.
	LocationDefault = "Default"
	// LocationSynced is there for a location with a syncInterval. True: at status.lastSyncTime everything in the bucket had its Checkpoint, but for
	// what belongs to namespaces that are not there, or was deleted here. False: something could not be read, or the bucket could not be looked through.
	LocationSynced = "Synced"
)

// The reasons of the condition Synced, besides those of Available when the bucket cannot be looked through.
const (
	// LocationSyncCompleted: everything that was to be made anew has been; Synced is True.
	LocationSyncCompleted = "Synced"
	// LocationSyncIncomplete: some of it could not be made anew; the message says which, and why.
	LocationSyncIncomplete = "SyncIncomplete"
)

// The reasons of the condition Default.
const (
	// LocationInUse: it is the only location with that role, or the first of them; Default is True.
	LocationInUse = "InUse"
	// LocationAnotherDefault: there is an older location with that role, which is the default; the message names it.
	LocationAnotherDefault = "AnotherDefault"
)

// The reasons of the condition Available.
const (
	// LocationPending: the manager has not tried the location yet.
	LocationPending = "Pending"
	// LocationValidated: it works; Available is True.
	LocationValidated = "Validated"
	// LocationCredentialsMissing: the Secret is not there or lacks a key.
	LocationCredentialsMissing = "CredentialsMissing"
	// LocationAccessDenied: the service knows the credentials not, or grants them too little.
	LocationAccessDenied = "AccessDenied"
	// LocationBucketNotFound: the bucket does not exist; the operator does not create buckets.
	LocationBucketNotFound = "BucketNotFound"
	// LocationWrongRegion: the bucket is in another region than spec.region, or spec.endpoint is another region's.
	LocationWrongRegion = "WrongRegion"
	// LocationClockSkew: the clock of the service and that of the manager's node differ by more than a signature may be old, as a rule 15 minutes.
	LocationClockSkew = "ClockSkew"
	// LocationBucketFull: the service has no room left, or the bucket's quota is used up. What is in it can be restored and deleted.
	LocationBucketFull = "BucketFull"
	// LocationUnreachable: the service does not answer, or not with a certificate that is trusted.
	LocationUnreachable = "Unreachable"
	// LocationEncryptionKeyMissing: a Secret with keys is not there, or lacks the one that spec names. Nothing is stored meanwhile; also a reason of the
	// conditions Uploaded and Stalled of Checkpoints.
	LocationEncryptionKeyMissing = "EncryptionKeyMissing"
	// LocationEncryptionKeyInvalid: an entry of a Secret with keys is none; otherwise as EncryptionKeyMissing.
	LocationEncryptionKeyInvalid = "EncryptionKeyInvalid"
	// LocationEncryptionRefused: the service does not encrypt as spec.serverSideEncryption says.
	LocationEncryptionRefused = "EncryptionRefused"
)

// The keys of the Secret that spec.credentials.secretName names.
const (
	// CredentialsAccessKeyID is the key of the access key ID.
	CredentialsAccessKeyID = "accessKeyID"
	// CredentialsSecretAccessKey is the key of the secret access key.
	CredentialsSecretAccessKey = "secretAccessKey"
	// CredentialsSessionToken is the key of the session token of temporary credentials; it may be absent.
	CredentialsSessionToken = "sessionToken"
)

// LocationCheck is an annotation on a location: with another value, whatever it is, the manager tries the location at once.
const LocationCheck = "checkpoint.memverge.ai/check"

// CustomerKey is the key of the Secret that spec.serverSideEncryption.customerKeySecretName names.
const CustomerKey = "customerKey"

// Addressing says where in a URL the name of the bucket stands.
// +kubebuilder:validation:Enum=Auto;Path;VirtualHost
type Addressing string

// The ways of addressing.
const (
	// AddressingAuto: VirtualHost for the services that are known to need it, as Amazon S3, else Path.
	AddressingAuto Addressing = "Auto"
	// AddressingPath: HOST/BUCKET/OBJECT, as MinIO and Ceph expect it.
	AddressingPath Addressing = "Path"
	// AddressingVirtualHost: BUCKET.HOST/OBJECT.
	AddressingVirtualHost Addressing = "VirtualHost"
)

// LocationRole says what a location is used for.
// +kubebuilder:validation:Enum=Default;Named
type LocationRole string

// The roles of a location.
const (
	// RoleDefault: new Checkpoints are stored here. Of several the oldest counts, then the first by name (see DefaultLocation).
	RoleDefault LocationRole = "Default"
	// RoleNamed: only Checkpoints that name the location are stored in it, or were: those are restored from it and deleted in it.
	RoleNamed LocationRole = "Named"
)

// AccessMode says what the operator does in a bucket.
// +kubebuilder:validation:Enum=ReadWrite;ReadOnly
type AccessMode string

// The modes of access.
const (
	// AccessReadWrite: Checkpoints are stored in it, restored from it and deleted in it.
	AccessReadWrite AccessMode = "ReadWrite"
	// AccessReadOnly: Checkpoints are restored from it, and nothing is written to it or deleted in it.
	AccessReadOnly AccessMode = "ReadOnly"
)

// ServerSideEncryptionType is a way in which a service encrypts what it stores.
// +kubebuilder:validation:Enum=S3;KMS;Customer
type ServerSideEncryptionType string

// The types of server-side encryption.
const (
	// ServerSideS3: with keys of the service, SSE-S3.
	ServerSideS3 ServerSideEncryptionType = "S3"
	// ServerSideKMS: with a key of the service's key management, SSE-KMS.
	ServerSideKMS ServerSideEncryptionType = "KMS"
	// ServerSideCustomer: with a key that is sent along with each request and that the service does not keep, SSE-C.
	ServerSideCustomer ServerSideEncryptionType = "Customer"
)

// CheckpointStorageLocationSpec says where a bucket is and how to get at it.
//
// +kubebuilder:validation:XValidation:rule="self.bucket == oldSelf.bucket",message="bucket is immutable: what is stored there does not move"
// +kubebuilder:validation:XValidation:rule="has(self.prefix) == has(oldSelf.prefix)",message="prefix is immutable: what is stored there does not move"
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || self.endpoint.startsWith('https://')",message="caBundle is for an https endpoint"
// +kubebuilder:validation:XValidation:rule="self.?serverSideEncryption.type.orValue('none') != 'Customer' || self.endpoint.startsWith('https://')",message="serverSideEncryption of the type Customer is for an https endpoint, to which the key is sent"
// +kubebuilder:validation:XValidation:rule="(self.?serverSideEncryption.type.orValue('none') == 'Customer') == (oldSelf.?serverSideEncryption.type.orValue('none') == 'Customer')",message="serverSideEncryption of the type Customer can be neither added nor taken away: what is stored there would not be read any more"
type CheckpointStorageLocationSpec struct {
	// endpoint is the URL of the S3 service, without a path: https://s3.example.com, or http://minio.storage:9000 where the network is trusted
	// with the state of programs in the clear.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && self.matches('^https?://[^/?#@]+$')",message="endpoint must be http[s]://HOST[:PORT]"
	Endpoint string `json:"endpoint"`

	// region is the region that requests are signed for. Services without regions accept the default, us-east-1.
	// +optional
	// +kubebuilder:default="us-east-1"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9-]*$`
	Region string `json:"region,omitempty"`

	// bucket is the name of the bucket, which must exist: 3 to 63 lower-case letters, digits, hyphens and single dots, with a letter or digit
	// at both ends.
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9][a-z0-9.-]*[a-z0-9]$') && !self.contains('..')",message="bucket must be a bucket's name"
	Bucket string `json:"bucket"`

	// prefix is put before the name of every object, with a slash between them: several clusters can share a bucket under a prefix each. It
	// is one or more names of letters, digits, dots, underscores and hyphens, with single slashes between them.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="prefix is immutable: what is stored there does not move"
	// +kubebuilder:validation:XValidation:rule="!self.split('/').exists(s, s in ['.', '..'])",message="prefix must not have . or .. as a name"
	Prefix string `json:"prefix,omitempty"`

	// addressing says where in a URL the name of the bucket stands: Path, VirtualHost, or Auto to tell by the endpoint.
	// +optional
	// +kubebuilder:default=Auto
	Addressing Addressing `json:"addressing,omitempty"`

	// caBundle is the certificates, in PEM, of the authorities that the endpoint's certificate may be signed by, instead of those that the
	// operator's images trust.
	// +optional
	// +kubebuilder:validation:MaxLength=65536
	// +kubebuilder:validation:XValidation:rule="string(self).contains('-----BEGIN CERTIFICATE-----')",message="caBundle must hold certificates in PEM"
	CABundle []byte `json:"caBundle,omitempty"`

	// credentials are what requests are signed with.
	// +required
	Credentials LocationCredentials `json:"credentials"`

	// encryption has the operator encrypt what it stores, before it leaves the node, with a key that the service never sees (AES-256-GCM). It can be
	// added later: Checkpoints that are there already stay as they are and can be restored. Without it whoever can read the bucket can read the memory
	// of programs.
	// +optional
	Encryption *LocationEncryption `json:"encryption,omitempty"`

	// serverSideEncryption has the service encrypt what it stores. Without it the service does what the bucket is set to. The type Customer can be neither
	// added nor taken away: what is stored there would not be read any more.
	// +optional
	ServerSideEncryption *ServerSideEncryption `json:"serverSideEncryption,omitempty"`

	// role says what the location is used for. Default: new Checkpoints are stored in it. Named: only those that name it are.
	// +optional
	// +kubebuilder:default=Named
	Role LocationRole `json:"role,omitempty"`

	// accessMode says what is done in the bucket. ReadOnly: Checkpoints are restored from it, and nothing else. New ones that belong into it
	// wait on their nodes; those in it do not expire out of it, and one that is deleted leaves its data there.
	// +optional
	// +kubebuilder:default=ReadWrite
	AccessMode AccessMode `json:"accessMode,omitempty"`

	// syncInterval is how often the bucket is looked through for states whose Checkpoints are not there, from 1m to 24h: as those of another cluster,
	// or of this one if its objects were lost. They are made anew, in namespaces that are there; so whoever can write to the bucket is trusted with what
	// is restored. Without it nothing is made anew. A Checkpoint that is deleted does not come back.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m')",message="syncInterval must be from 1m to 24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('24h')",message="syncInterval must be from 1m to 24h"
	SyncInterval *metav1.Duration `json:"syncInterval,omitempty"`
}

// LocationCredentials are what requests are signed with.
type LocationCredentials struct {
	// secretName is the name of a Secret in the operator's own namespace, with the keys accessKeyID, secretAccessKey and, for temporary
	// credentials, sessionToken. Secrets of other namespaces are out of the operator's reach.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="secretName must be the name of a Secret"
	SecretName string `json:"secretName"`
}

// LocationEncryption names the keys of a location.
type LocationEncryption struct {
	// secretName is the name of a Secret in the operator's own namespace. Each of its entries is a key: 32 bytes, or 64 hexadecimal digits with or
	// without a newline behind them, as openssl rand -hex 32 writes them. A Checkpoint is decrypted with whichever of them it was encrypted with; when
	// that one is gone from the Secret, nobody can restore it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="secretName must be the name of a Secret"
	SecretName string `json:"secretName"`

	// currentKey is the entry of that Secret with which new Checkpoints are encrypted. Keys are rotated by adding one to the Secret and naming it here.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._A-Za-z0-9]+$`
	CurrentKey string `json:"currentKey"`
}

// ServerSideEncryption says how the service encrypts what it stores.
//
// +kubebuilder:validation:XValidation:rule="!has(self.kmsKeyID) || self.type == 'KMS'",message="kmsKeyID is for the type KMS"
// +kubebuilder:validation:XValidation:rule="has(self.customerKeySecretName) == (self.type == 'Customer')",message="customerKeySecretName is for the type Customer, which needs it"
type ServerSideEncryption struct {
	// type is with whose key the service encrypts. S3: with its own. KMS: with one of its key management. Customer: with the one in the Secret
	// customerKeySecretName, which is sent along with each request, and so for an https endpoint only; it must stay the same as long as there are Checkpoints.
	// +required
	Type ServerSideEncryptionType `json:"type"`

	// kmsKeyID is the key for the type KMS, as the service calls it: an ID, a name or an ARN. Without it the service takes its default, if it has one.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	KMSKeyID string `json:"kmsKeyID,omitempty"`

	// customerKeySecretName is the name of a Secret in the operator's own namespace, whose entry customerKey is the key for the type Customer: 32 bytes, or
	// 64 hexadecimal digits with or without a newline behind them.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="customerKeySecretName must be the name of a Secret"
	CustomerKeySecretName string `json:"customerKeySecretName,omitempty"`
}

// CheckpointStorageLocationStatus says whether a location can be used. The manager alone writes it.
type CheckpointStorageLocationStatus struct {
	// conditions are Available, with the role Default Default, and with a syncInterval Synced.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// lastValidationTime is when the location was last tried, whatever came of it.
	// +optional
	LastValidationTime *metav1.Time `json:"lastValidationTime,omitempty"`

	// lastSyncTime is when the bucket was last looked through for states without Checkpoints, whatever came of it.
	// +optional
	LastSyncTime *metav1.Time `json:"lastSyncTime,omitempty"`
}

// CheckpointStorageLocation is a bucket of an S3-compatible service in which Checkpoints are stored.
//
// +genclient
// +genclient:nonNamespaced
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=csl
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].reason`,description="Whether it can be used."
// +kubebuilder:printcolumn:name="Bucket",type=string,JSONPath=`.spec.bucket`,description="The name of the bucket."
// +kubebuilder:printcolumn:name="Role",type=string,JSONPath=`.spec.role`,description="What the location is used for."
// +kubebuilder:printcolumn:name="Last-Validated",type=date,JSONPath=`.status.lastValidationTime`,description="When the location was last tried."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Default",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Default")].status`,description="Whether it is in use."
// +kubebuilder:printcolumn:name="Access",type=string,priority=1,JSONPath=`.spec.accessMode`,description="What is done in the bucket."
// +kubebuilder:printcolumn:name="Synced",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Synced")].status`,description="Whether all is there."
// +kubebuilder:printcolumn:name="Endpoint",type=string,priority=1,JSONPath=`.spec.endpoint`,description="The URL of the service."
// +kubebuilder:printcolumn:name="Prefix",type=string,priority=1,JSONPath=`.spec.prefix`,description="What is put before the name of every object."
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name must have at most 63 characters"
type CheckpointStorageLocation struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's standard metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec says where the bucket is and how to get at it.
	// +required
	Spec CheckpointStorageLocationSpec `json:"spec"`

	// status says whether the location can be used.
	// +optional
	// +kubebuilder:default={conditions:{{type:"Available",status:"Unknown",reason:"Pending",message:"not seen yet",lastTransitionTime:"1970-01-01T00:00:00Z"}}}
	Status CheckpointStorageLocationStatus `json:"status,omitempty,omitzero"`
}

// CheckpointStorageLocationList is a list of CheckpointStorageLocations.
//
// +kubebuilder:object:root=true
type CheckpointStorageLocationList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the list's standard metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	// items are the CheckpointStorageLocations.
	// +required
	Items []CheckpointStorageLocation `json:"items"`
}
