package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

const (
	podUID      = "0f2d4c1a-93c1-4f7e-8a3d-5b8f3f6f1c2e"
	newPodUID   = "7a1be2d0-0c55-4c0e-9c53-0d2c53a0b1a7"
	otherPodUID = "c3b9d7f4-51a8-4a0d-8a52-53b8e1d6e9f0"
	digest      = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	otherDigest = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
)

func newCheckpoint() *v1alpha1.Checkpoint {
	return &v1alpha1.Checkpoint{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"},
		Spec:       v1alpha1.CheckpointSpec{SourcePodName: "web-7d9f8c6b5-x2x4z", SourcePodUID: podUID, Trigger: v1alpha1.TriggerTermination},
	}
}

func newVolume() *v1alpha1.CheckpointVolume {
	return &v1alpha1.CheckpointVolume{
		Name: "data", Kind: v1alpha1.VolumePersistentVolumeClaim, Source: "data-db-0", File: "db-0.1234abcd.20261124T120000-1.tar.zst",
		SizeBytes: 100, ContentBytes: 1000, Digest: digest,
	}
}

func newSource() *v1alpha1.CheckpointSource {
	return &v1alpha1.CheckpointSource{
		PodUID: podUID, Node: "worker-1", Lineage: "5d41402abc4b2a76",
		Owner: &v1alpha1.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-7d9f8c6b5", UID: "e1c6a1c0-3c44-4f43-8a8b-0d7c5d3a9d11"},
	}
}

func newClaim(phase v1alpha1.ClaimPhase) *v1alpha1.CheckpointClaim {
	return &v1alpha1.CheckpointClaim{PodUID: newPodUID, PodName: "web-7d9f8c6b5-q8r5t", Node: "worker-2", Phase: phase}
}

var newCheckpoints = map[string]creation[v1alpha1.Checkpoint]{
	"a pod that is terminated": {
		with: func(*v1alpha1.Checkpoint) {},
	},
	"the name of a pod may have dots": {
		with: func(c *v1alpha1.Checkpoint) { c.Spec.SourcePodName = "web.example-0" },
	},
	"what no pod can be called": {
		with:    func(c *v1alpha1.Checkpoint) { c.Spec.SourcePodName = "web_0" },
		refused: "sourcePodName must be the name of a pod",
	},
	"no pod": {
		with:    func(c *v1alpha1.Checkpoint) { c.Spec.SourcePodName = "" },
		refused: "spec.sourcePodName",
	},
	"a termination of any pod of that name": {
		with:    func(c *v1alpha1.Checkpoint) { c.Spec.SourcePodUID = "" },
		refused: "sourcePodUID is needed for a pod that is terminated; trigger may be Manual without it",
	},
	"one made by hand": {
		with: func(c *v1alpha1.Checkpoint) { c.Spec.SourcePodUID, c.Spec.Trigger = "", "" },
	},
	"one that stops its pod": {
		with: func(c *v1alpha1.Checkpoint) {
			c.Spec.Trigger, c.Spec.PostCheckpoint = v1alpha1.TriggerManual, v1alpha1.PostCheckpointStop
		},
	},
	"a termination that stops its pod": {
		with:    func(c *v1alpha1.Checkpoint) { c.Spec.PostCheckpoint = v1alpha1.PostCheckpointStop },
		refused: "postCheckpoint may be Stop only for a pod that goes on after the capture",
	},
	"a trigger that there is not": {
		with:    func(c *v1alpha1.Checkpoint) { c.Spec.Trigger = "Sunset" },
		refused: `supported values: "Termination"`,
	},
	"a name of 63 characters": {
		with: func(c *v1alpha1.Checkpoint) { c.Name = strings.Repeat("a", 63) },
	},
	"a name of 64 characters": {
		with:    func(c *v1alpha1.Checkpoint) { c.Name = strings.Repeat("a", 64) },
		refused: "the name must have at most 63 characters",
	},
}

var changedCheckpoints = map[string]update[v1alpha1.Checkpoint]{
	"labels can change": {
		spec: func(c *v1alpha1.Checkpoint) { c.Labels = map[string]string{"team": "red"} },
	},
	"another pod cannot be asked for": {
		spec:    func(c *v1alpha1.Checkpoint) { c.Spec.SourcePodUID = otherPodUID },
		refused: "spec is immutable",
	},
	"the source is set once": {
		status: func(c *v1alpha1.Checkpoint) { c.Status.Source = newSource() },
	},
	"a source cannot move to another lineage": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Source = newSource() },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Source.Lineage = "another" },
		refused: "source is immutable once set",
	},
	"a source cannot be forgotten": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Source = newSource() },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Source = nil },
		refused: "source cannot be removed",
	},
	"the digest is set once": {
		status: func(c *v1alpha1.Checkpoint) { c.Status.ManifestDigest = digest },
	},
	"the digest cannot change": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.ManifestDigest = digest },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.ManifestDigest = otherDigest },
		refused: "manifestDigest is immutable once set",
	},
	"the digest cannot be taken away with the whole status": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.ManifestDigest = digest },
		status:  func(c *v1alpha1.Checkpoint) { c.Status = v1alpha1.CheckpointStatus{} },
		refused: "manifestDigest cannot be removed",
	},
	"a digest is SHA-256": {
		status:  func(c *v1alpha1.Checkpoint) { c.Status.ManifestDigest = "md5:d41d8cd98f00b204e9800998ecf8427e" },
		refused: "status.manifestDigest",
	},
	"a state is kept in a volume": {
		status: func(c *v1alpha1.Checkpoint) { c.Status.Volume = newVolume() },
	},
	"a state stays in its volume": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Volume = newVolume() },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Volume = nil },
		refused: "volume cannot be removed",
	},
	"what is in the volume is not what another says": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Volume = newVolume() },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Volume.Digest = "sha256:" + strings.Repeat("0", 64) },
		refused: "volume is immutable once set",
	},
	"a state is not kept twice": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Volume = newVolume() },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.LocationName = "main" },
		refused: "a state is kept in a volume or in a location, not in both",
	},
	"a file in a volume lies in no other folder": {
		status: func(c *v1alpha1.Checkpoint) {
			c.Status.Volume = newVolume()
			c.Status.Volume.File = "../db-0.1234.20261124T120000-1.tar.zst"
		},
		refused: "status.volume.file",
	},
	"a volume is of a kind that keeps states": {
		status: func(c *v1alpha1.Checkpoint) {
			c.Status.Volume = newVolume()
			c.Status.Volume.Kind = "EmptyDir"
		},
		refused: "status.volume.kind",
	},
	"a state is found in a bucket": {
		status: func(c *v1alpha1.Checkpoint) {
			c.Status.ManifestDigest, c.Status.StorageName = digest, "0f2d4c1a-93c1-4f7e-8a3d-5b8f3f6f1c2e"
		},
	},
	"a storage name cannot change": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.StorageName = "first" },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.StorageName = "second" },
		refused: "storageName is immutable once set",
	},
	"a storage name cannot be taken away": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.StorageName = "first" },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.StorageName = "" },
		refused: "storageName cannot be removed",
	},
	"a state that is stored cannot become another": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.ManifestDigest = digest },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.StorageName = "another" },
		refused: "storageName is fixed",
	},
	"a storage name leads nowhere else": {
		status:  func(c *v1alpha1.Checkpoint) { c.Status.StorageName = "../another" },
		refused: "status.storageName",
	},
	"a Checkpoint is claimed": {
		status: func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim(v1alpha1.ClaimClaimed) },
	},
	"a claim is Claimed or Consumed": {
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim("Wanted") },
		refused: `supported values: "Claimed", "Consumed"`,
	},
	"a claim cannot pass to another pod": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim(v1alpha1.ClaimClaimed) },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Claim.PodUID = otherPodUID },
		refused: "the Checkpoint is claimed by another pod",
	},
	"a claiming pod cannot move": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim(v1alpha1.ClaimClaimed) },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Claim.Node = "worker-3" },
		refused: "podName and node of a claim are immutable",
	},
	"a claim is released": {
		of:     func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim(v1alpha1.ClaimClaimed) },
		status: func(c *v1alpha1.Checkpoint) { c.Status.Claim = nil },
	},
	"a claim is consumed": {
		of:     func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim(v1alpha1.ClaimClaimed) },
		status: func(c *v1alpha1.Checkpoint) { c.Status.Claim.Phase = v1alpha1.ClaimConsumed },
	},
	"a consumed claim cannot be Claimed again": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim(v1alpha1.ClaimConsumed) },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Claim.Phase = v1alpha1.ClaimClaimed },
		refused: "a consumed claim stays consumed",
	},
	"a consumed claim cannot be released": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim(v1alpha1.ClaimConsumed) },
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Claim = nil },
		refused: "a consumed claim is for good",
	},
	"a consumed claim cannot be taken away with the whole status": {
		of:      func(c *v1alpha1.Checkpoint) { c.Status.Claim = newClaim(v1alpha1.ClaimConsumed) },
		status:  func(c *v1alpha1.Checkpoint) { c.Status = v1alpha1.CheckpointStatus{} },
		refused: "a consumed claim is for good",
	},
	"a freeze of any length can be told": {
		status: func(c *v1alpha1.Checkpoint) {
			c.Status.Frozen = &metav1.Duration{Duration: 26*time.Hour + 1500*time.Microsecond}
		},
	},
	"a freeze cannot end before it begins": {
		status:  func(c *v1alpha1.Checkpoint) { c.Status.Frozen = &metav1.Duration{Duration: -time.Second} },
		refused: "status.frozen",
	},
	"a log's tail that is cut to fit": {
		status: func(c *v1alpha1.Checkpoint) { c.Status.LogTail = v1alpha1.LogTail(strings.Repeat("é", 5000)) },
	},
	"a whole log is too long": {
		status:  func(c *v1alpha1.Checkpoint) { c.Status.LogTail = strings.Repeat("x", v1alpha1.MaxLogTail+1) },
		refused: "status.logTail",
	},
}

func TestNewCheckpoints(t *testing.T) {
	ns := namespace(t)
	testCreations(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, newCheckpoints)
}

func TestChangedCheckpoints(t *testing.T) {
	ns := namespace(t)
	testUpdates(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, changedCheckpoints)
}

func TestANewCheckpointIsPending(t *testing.T) {
	ns := namespace(t)
	made := create(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, nil)
	want := v1alpha1.CheckpointStatus{Conditions: []metav1.Condition{unseen(v1alpha1.CheckpointReady)}}
	if diff := cmp.Diff(want, made.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

// unseen is the condition that an object has from its first instant. All kinds give it the same reason.
func unseen(kind string) metav1.Condition {
	return metav1.Condition{
		Type: kind, Status: metav1.ConditionUnknown, Reason: v1alpha1.StatePending, Message: "not seen yet", LastTransitionTime: metav1.Unix(0, 0),
	}
}
