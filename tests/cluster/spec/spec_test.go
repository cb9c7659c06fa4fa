package spec

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNamed(t *testing.T) {
	for name, valid := range map[string]bool{
		"demo": true, "a": true, "e2e-2": true, "123": true,
		"": false, "Demo": false, "-demo": false, "demo-": false, "../demo": false, "a/b": false, "a b": false,
		"a-name-that-is-longer-than-thirty-letters": false,
	} {
		if _, err := Named(name); (err == nil) != valid {
			t.Errorf("Named(%q) says %v", name, err)
		}
	}
}

func TestTheStateIsReadAsItWasWritten(t *testing.T) {
	t.Setenv("LOCALCLUSTER_ROOT", t.TempDir())
	c, err := Named("demo")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cluster that is not there says %v", err)
	}
	want := &State{
		Created: time.Now().UTC().Truncate(time.Second), Nodes: []Node{{Name: "worker-1", Index: 1, DiskBytes: DefaultDisk}},
		APIPort: 1, S3Port: 2, S3AccessKey: "access", S3SecretKey: "secret", Parts: "/parts",
	}
	if err := c.Store(want); err != nil {
		t.Fatal(err)
	}
	got, err := c.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	clusters, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Cluster{c}, clusters); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := got.Node("worker-2"); err == nil || err.Error() != `node is "worker-2"; it may be one of ["worker-1"]` {
		t.Errorf("a node that is not there says %v", err)
	}
}

func TestEveryNodeHasItsOwnAddresses(t *testing.T) {
	seen := map[string]int{PlaneIP: 0}
	for index := 1; index <= MaxNodes; index++ {
		n := Node{Index: index}
		for _, address := range []string{n.IP(), n.PodCIDR()} {
			if other, ok := seen[address]; ok {
				t.Errorf("nodes %d and %d both have %s", other, index, address)
			}
			seen[address] = index
		}
	}
}
