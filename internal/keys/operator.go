package keys

// NamespaceQuota is an annotation on a Namespace: what its Checkpoints may take in buckets, as 50Gi, instead of what the ConfigMap of the operator says.
const NamespaceQuota = "memverge.ai/checkpoint-quota"

// The reasons that come from what is said for the whole operator, see internal/operator.
const (
	// ColdPaused: Restored is False; the operator is paused.
	ColdPaused = "Paused"
	// ColdNamespaceNotAllowed: Restored is False; the pod's namespace is not among those whose pods are restored.
	ColdNamespaceNotAllowed = "NamespaceNotAllowed"
	// UnprotectedNamespace: Checkpointable is False; the pod's namespace is not among those whose pods are captured.
	UnprotectedNamespace = "NamespaceNotAllowed"
)
