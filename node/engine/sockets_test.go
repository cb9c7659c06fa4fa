package engine

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConnectionsThatAreCut(t *testing.T) {
	at := netip.MustParseAddrPort
	pair := func(client, server string, clientInode, serverInode uint32) []connection {
		return []connection{{local: at(client), peer: at(server), inode: clientInode}, {local: at(server), peer: at(client), inode: serverInode}}
	}
	captured := map[uint32]bool{1: true, 2: true, 3: true}
	own := map[netip.Addr]bool{netip.MustParseAddr("10.244.1.5"): true, netip.MustParseAddr("127.0.0.1"): true}
	outside := []connection{{local: at("10.244.1.5:8080"), peer: at("10.244.2.9:4711"), inode: 3}}
	for name, test := range map[string]struct {
		all         []connection
		keepOutside bool
		want        []uint32 // the inodes of those that are cut
	}{
		"one to the outside":                       {all: outside, want: []uint32{3}},
		"one to the outside of a pod that keeps":   {all: outside, keepOutside: true},
		"between captured processes":               {all: pair("127.0.0.1:40000", "127.0.0.1:8080", 1, 2)},
		"between them, by the pod's own address":   {all: pair("10.244.1.5:40000", "10.244.1.5:8080", 1, 2)},
		"from a port-forward to a captured one":    {all: pair("127.0.0.1:40000", "127.0.0.1:8080", 77, 2), keepOutside: true, want: []uint32{2}},
		"from a captured one to a proxy":           {all: pair("[::1]:40000", "[::1]:15001", 1, 77), want: []uint32{1}},
		"between two that are not captured":        {all: pair("127.0.0.1:40000", "127.0.0.1:15001", 76, 77)},
		"the other end is closing, nobody has it":  {all: pair("127.0.0.1:40000", "127.0.0.1:8080", 0, 2)},
		"the other end waits to be accepted":       {all: pair("127.0.0.1:40000", "127.0.0.1:8080", 1, 0)},
		"the other end is gone without a farewell": {all: pair("127.0.0.1:40000", "127.0.0.1:8080", 77, 2)[1:]},
	} {
		t.Run(name, func(t *testing.T) {
			var got []uint32
			for _, c := range (severance{keepOutside: test.keepOutside, captured: func() map[uint32]bool { return captured }}).doomed(test.all, own) {
				got = append(got, c.inode)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
