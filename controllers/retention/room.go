package retention

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

// isPinned tells whether a person keeps a Checkpoint: no rule ends it, and it counts for none that ends others.
func isPinned(c *v1alpha1.Checkpoint) bool { return c.Labels[keys.CheckpointPin] == keys.True }

// isShared tells of a Checkpoint that no pod has taken whether any pod of its owner can go on from it: it is the work of one of them, and no newer one is
// that work as well.
func isShared(c *v1alpha1.Checkpoint) bool {
	source := c.Status.Source
	return source == nil || c.Status.Claim == nil && source.Owner != nil && source.Identity == ""
}

// peers are the complete Checkpoints of the lineage and identity of one, itself among them, without those that are pinned; the newest first.
func (f facts) peers(c *v1alpha1.Checkpoint) (peers []*v1alpha1.Checkpoint) {
	for i := range f.checkpoints {
		other := &f.checkpoints[i]
		s := other.Status.Source
		if s != nil && s.Lineage == c.Status.Source.Lineage && s.Identity == c.Status.Source.Identity && other.DeletionTimestamp.IsZero() &&
			!isPinned(other) && meta.IsStatusConditionTrue(other.Status.Conditions, v1alpha1.CheckpointReady) {
			peers = append(peers, other)
		}
	}
	slices.SortFunc(peers, byAge)
	return peers
}

// isTooMuch tells whether a complete Checkpoint has to go so that those of its lineage and identity take no more than they may: the oldest go first of those
// that may go, and never the newest.
func (f facts) isTooMuch(c *v1alpha1.Checkpoint, retention v1alpha1.CheckpointRetention) bool {
	if retention.MaxSize == nil || c.Status.Source == nil {
		return false
	}
	peers, total := f.peers(c), int64(0)
	for _, p := range peers {
		total += sizeOf(p)
	}
	for i := len(peers) - 1; i > 0 && total > retention.MaxSize.Value(); i-- {
		p := peers[i]
		if !f.mayGo(p) {
			continue
		}
		if p.Name == c.Name {
			return true
		}
		total -= sizeOf(p)
	}
	return false
}

// mayGo tells whether a complete Checkpoint can make room at all.
func (f facts) mayGo(c *v1alpha1.Checkpoint) bool {
	isBeingRestored := c.Status.Claim != nil && c.Status.Claim.Phase != v1alpha1.ClaimConsumed
	return !isPinned(c) && !isBeingRestored && !isShared(c) && f.beginnings[c.Name] == "" && !f.readOnly[c.Status.LocationName]
}

func sizeOf(c *v1alpha1.Checkpoint) int64 {
	if c.Status.SizeBytes == nil {
		return 0
	}
	return *c.Status.SizeBytes
}

// waitsForRoom tells whether the state of a Checkpoint stays on its node as its namespace has used up its quota.
func waitsForRoom(c *v1alpha1.Checkpoint) bool {
	uploaded := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointUploaded)
	return uploaded != nil && uploaded.Reason == v1alpha1.ReasonQuotaExceeded && c.DeletionTimestamp.IsZero() && !isExpired(c)
}

func isExpired(c *v1alpha1.Checkpoint) bool {
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
	return ready != nil && ready.Reason == v1alpha1.StateExpired
}

// missing is how many bytes have to go for those to have room that wait for it. What is on its way out already counts no more, and what cannot fit at all
// has nothing make room for it.
func (f facts) missing() (bytes int64) {
	if f.quota == 0 {
		return 0
	}
	waiting := int64(0)
	var stays []v1alpha1.Checkpoint
	for i := range f.checkpoints {
		c := &f.checkpoints[i]
		switch {
		case waitsForRoom(c):
			if size := sizeOf(c); size <= f.quota {
				waiting += size
			}
		case c.DeletionTimestamp.IsZero() && (!isExpired(c) || isPinned(c)):
			stays = append(stays, *c)
		}
	}
	if waiting == 0 {
		return 0
	}
	return operator.Stored(stays) + waiting - f.quota
}

// makers are the names of those Checkpoints that make room for those that wait for it. Only what is of no more use does: first what was restored, then what
// has a newer one, the oldest first, as many as are needed.
func (f facts) makers() map[string]bool {
	missing, makers := f.missing(), map[string]bool{}
	if missing <= 0 {
		return nil
	}
	rank, newest := map[string]int{}, f.newest()
	var useless []*v1alpha1.Checkpoint
	for i := range f.checkpoints {
		other := &f.checkpoints[i]
		if !meta.IsStatusConditionTrue(other.Status.Conditions, v1alpha1.CheckpointReady) || !other.DeletionTimestamp.IsZero() ||
			!f.mayGo(other) || f.goesBack(other) || other.Status.Volume != nil { // which takes nothing of the quota
			continue
		}
		if other.Status.Claim == nil {
			if newest[placeOf(other)] == other {
				continue
			}
			rank[other.Name] = 1
		}
		useless = append(useless, other)
	}
	slices.SortFunc(useless, func(x, y *v1alpha1.Checkpoint) int { return cmp.Or(rank[x.Name]-rank[y.Name], byAge(y, x)) })
	for _, other := range useless {
		if missing <= 0 {
			break
		}
		makers[other.Name] = true
		missing -= sizeOf(other)
	}
	return makers
}

// makesRoom says why a Checkpoint makes room for others; nothing if it does not.
func (f facts) makesRoom(c *v1alpha1.Checkpoint) string {
	if !f.room[c.Name] {
		return ""
	}
	return fmt.Sprintf("the namespace has used up its quota of %s, and others wait for room", v1alpha1.ReadableSize(f.quota))
}

// place is a lineage and an identity in it.
type place struct{ lineage, identity string }

func placeOf(c *v1alpha1.Checkpoint) place {
	return place{c.Status.Source.Lineage, c.Status.Source.Identity}
}

// newest are the newest complete Checkpoints of each place, without those that are pinned.
func (f facts) newest() map[place]*v1alpha1.Checkpoint {
	newest := map[place]*v1alpha1.Checkpoint{}
	for i := range f.checkpoints {
		c := &f.checkpoints[i]
		if c.Status.Source == nil || !c.DeletionTimestamp.IsZero() || isPinned(c) || !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointReady) {
			continue
		}
		if best := newest[placeOf(c)]; best == nil || byAge(c, best) < 0 {
			newest[placeOf(c)] = c
		}
	}
	return newest
}
