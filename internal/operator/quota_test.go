package operator

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func sized(name, location string, size int64) v1alpha1.Checkpoint {
	c := v1alpha1.Checkpoint{ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: name, UID: types.UID(name)}}
	c.Status.LocationName = location
	if size > 0 {
		c.Status.SizeBytes = &size
	}
	return c
}

func TestWhatFitsAQuota(t *testing.T) {
	stored := []v1alpha1.Checkpoint{sized("a", "main", 3<<20), sized("b", "archive", 2<<20), sized("failed", "main", 0), sized("waits", "", 100<<20)}
	if sum := Stored(stored); sum != 5<<20 {
		t.Errorf("they take %d", sum)
	}
	for name, test := range map[string]struct {
		quota, size int64
		location    string
		others      []v1alpha1.Checkpoint
		want        string
	}{
		"there is no quota":     {size: 1 << 40, others: stored},
		"it fits exactly":       {quota: 8 << 20, size: 3 << 20, others: stored},
		"it is a byte too much": {quota: 8<<20 - 1, size: 3 << 20, others: stored, want: "its Checkpoints take 5Mi, and this one 3Mi"},
		"it is too large alone": {quota: 1 << 20, size: 2 << 20, want: "the quota of namespace one is 1Mi"},
		"its upload has begun":  {quota: 1 << 20, size: 2 << 20, location: "main", others: stored},
		"it is among the others": {
			quota: 2 << 20, size: 2 << 20, others: []v1alpha1.Checkpoint{sized("new", "main", 2<<20)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := sized("new", test.location, test.size)
			if got := OverQuota(&c, test.size, test.quota, test.others); got != test.want && (test.want == "" || !strings.Contains(got, test.want)) {
				t.Errorf("it says %q", got)
			}
		})
	}
}
