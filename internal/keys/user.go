package keys

// The keys that users write; docs/keys.md has them all. Each may be a label or an annotation: of a pod, in its template, or of a Namespace for all of its
// pods. The first is all that anybody must write.
const (
	// CheckpointMode with the value "true" has the pod captured when it is terminated, and its successor restored. "false" is for a pod that does not
	// want what its Namespace says.
	CheckpointMode = "memverge.ai/checkpoint-mode"
	// RestoreMode with the value "false" has the pod start cold; it is captured all the same.
	RestoreMode = "memverge.ai/restore-mode"
	// RestoreFrom names a Checkpoint of the pod's namespace, whoever left it, from which the pod begins; its successors go on from what it left. It says so
	// of one pod, in its template, and means nothing at a Namespace. Who writes it needs the verb VerbRestore.
	RestoreFrom = "memverge.ai/restore-from"
	// CheckpointContainers names the containers that are captured; the CheckpointPolicy's selection does not count then.
	CheckpointContainers = "memverge.ai/checkpoint-containers"
	// CheckpointVolumeSize bounds what a capture of the pod may take on the node, as a quantity, 2Gi. Without it there is no bound.
	CheckpointVolumeSize = "memverge.ai/checkpoint-volume-size"
	// CheckpointStorageClass is of no use here, where states go to a bucket: who writes it is told.
	CheckpointStorageClass = "memverge.ai/checkpoint-storage-class"
	// CheckpointStorageVolume names a volume of the pod in which its states are kept, in the place of a bucket.
	CheckpointStorageVolume = "memverge.ai/checkpoint-storage-volume"
	// CheckpointDiagnosis with the value "true" has what a capture or a restore left on the node stay there for a while.
	CheckpointDiagnosis = "memverge.ai/checkpoint-diagnosis"
	// CheckpointOptions and RestoreOptions name options of CRIU; internal/criu has the lists of those that may be named.
	CheckpointOptions = "memverge.ai/checkpoint-advanced-options"
	RestoreOptions    = "memverge.ai/restore-advanced-options"
	// KeepPreStop with the value "true" has admission leave the preStop hooks in the spec: kubelet runs them before the stop signal, and what is captured
	// has them behind it.
	KeepPreStop = "memverge.ai/keep-prestop"
	// IOUring with the value IOUringAllow lets the containers use io_uring. CRIU cannot dump it, so it is withheld from captured containers
	// (io_uring_setup answers ENOSYS, and programs take their fallback). A pod that opts out and uses it cannot be captured.
	IOUring = "memverge.ai/checkpoint-io-uring"
	// CheckpointInterval says how often a pod is captured while it goes on, as 15m; 0 is never, whatever its CheckpointPolicy says.
	CheckpointInterval = "memverge.ai/checkpoint-interval"
	// CheckpointTrigger is an annotation on a pod that runs: it is captured at once, and goes on. The value, whatever it is, tells one such wish from the
	// next. The manager takes the annotation away when it has made the Checkpoint.
	CheckpointTrigger = "memverge.ai/checkpoint-trigger"
	// PreCheckpointHook, PostCheckpointHook and PostRestoreHook are commands that are run in the containers: JSON arrays of words, or one word. They take the
	// place of the lists of policies; an empty array is none. Those with more behind their names say where, for how long, and what follows a failure.
	PreCheckpointHook           = "memverge.ai/pre-checkpoint-hook"
	PreCheckpointHookContainer  = "memverge.ai/pre-checkpoint-hook-container"
	PreCheckpointHookTimeout    = "memverge.ai/pre-checkpoint-hook-timeout"
	PreCheckpointHookOnError    = "memverge.ai/pre-checkpoint-hook-on-error"
	PostCheckpointHook          = "memverge.ai/post-checkpoint-hook"
	PostCheckpointHookContainer = "memverge.ai/post-checkpoint-hook-container"
	PostCheckpointHookTimeout   = "memverge.ai/post-checkpoint-hook-timeout"
	PostCheckpointHookOnError   = "memverge.ai/post-checkpoint-hook-on-error"
	PostRestoreHook             = "memverge.ai/post-restore-hook"
	PostRestoreHookContainer    = "memverge.ai/post-restore-hook-container"
	PostRestoreHookTimeout      = "memverge.ai/post-restore-hook-timeout"
	PostRestoreHookOnError      = "memverge.ai/post-restore-hook-on-error"
	// JobFailurePolicy is an annotation with the value JobFailurePolicyKeep on a Job to which admission adds no podFailurePolicy: its captured
	// pods count as failures then.
	JobFailurePolicy = "memverge.ai/job-failure-policy"
)

// Variables in the environment of a container, which count for it alone, and before all labels and annotations.
const (
	EnvDiagnosis         = "MMC_CHECKPOINT_DIAGNOSIS"
	EnvCheckpointOptions = "MMC_CHECKPOINT_ADVANCED_OPTIONS"
	EnvRestoreOptions    = "MMC_RESTORE_ADVANCED_OPTIONS"
	// EnvFiles are further files and directories that are captured with the container: absolute paths in it, separated by commas.
	EnvFiles = "MMC_CHECKPOINT_FILES"
	// EnvInterval says what CheckpointInterval says; of several containers the shortest counts, for the pod as a whole.
	EnvInterval = "MMC_CHECKPOINT_INTERVAL"
)

// The values that keys take.
const (
	True                 = "true"
	False                = "false"
	IOUringAllow         = "allow"
	JobFailurePolicyKeep = "keep"
)
