package engine

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	sk_inet "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-inet"
	sk_opts "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-opts"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

// words is an address as CRIU keeps it; of six forms with ::ffff:, all of its 16 bytes.
func words(text string) (out []uint32) {
	a := netip.MustParseAddr(text)
	for bytes := a.AsSlice(); len(bytes) > 0; bytes = bytes[4:] {
		out = append(out, binary.NativeEndian.Uint32(bytes))
	}
	return out
}

type socket struct {
	State            uint32
	Source, Peer     string
	SrcPort, DstPort uint32
}

func imageOf(t *testing.T, sockets ...socket) []byte {
	t.Helper()
	image := []byte("8bytes!!")
	zero, kind := uint32(0), fdinfo.FdTypes_INETSK
	for _, s := range sockets {
		six, ten := uint32(6), uint32(10)
		entry, err := proto.Marshal(&fdinfo.FileEntry{Type: &kind, Id: &zero, Isk: &sk_inet.InetSkEntry{
			Id: &zero, Ino: &zero, Family: &ten, Type: &zero, Proto: &six, State: &s.State, SrcPort: &s.SrcPort, DstPort: &s.DstPort, Flags: &zero, Backlog: &zero,
			SrcAddr: words(s.Source), DstAddr: words(s.Peer), Fown: &fown.FownEntry{Uid: &zero, Euid: &zero, Signum: &zero, PidType: &zero, Pid: &zero},
			Opts: &sk_opts.SkOptsEntry{
				SoSndbuf: &zero, SoRcvbuf: &zero, SoSndTmoSec: new(uint64), SoSndTmoUsec: new(uint64), SoRcvTmoSec: new(uint64), SoRcvTmoUsec: new(uint64),
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		image = append(binary.LittleEndian.AppendUint32(image, uint32(len(entry))), entry...)
	}
	return image
}

func TestSocketsMoveToTheNewPod(t *testing.T) {
	const listen, established = 10, 1
	own := map[netip.Addr]bool{netip.MustParseAddr("127.0.0.1"): true, netip.MustParseAddr("10.244.2.9"): true}
	for what, test := range map[string]struct{ has, want []socket }{
		"all addresses stay": {
			[]socket{{listen, "::", "::", 80, 0}}, []socket{{listen, "::", "::", 80, 0}},
		},
		"loopback stays": {
			[]socket{{established, "127.0.0.1", "127.0.0.1", 80, 4000}}, []socket{{established, "127.0.0.1", "127.0.0.1", 80, 4000}},
		},
		"a listener on the pod's address moves": {
			[]socket{{listen, "10.244.1.4", "0.0.0.0", 80, 0}}, []socket{{listen, "10.244.2.9", "0.0.0.0", 80, 0}},
		},
		"both ends of a connection inside the pod move, mapped or not": {
			[]socket{{established, "10.244.1.4", "10.244.1.4", 80, 4000}, {established, "::ffff:10.244.1.4", "::ffff:10.244.1.4", 4000, 80}},
			[]socket{{established, "10.244.2.9", "10.244.2.9", 80, 4000}, {established, "::ffff:10.244.2.9", "::ffff:10.244.2.9", 4000, 80}},
		},
		"a connection that was cut is none": {
			[]socket{{tcpClose, "::ffff:10.244.1.4", "::ffff:10.10.0.1", 80, 4000}}, []socket{{tcpClose, "::", "::", 0, 0}},
		},
	} {
		got, err := adaptSockets(imageOf(t, test.has...), own)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(imageOf(t, test.want...), got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
}

func FuzzAdaptFiles(f *testing.F) {
	f.Add([]byte("8bytes!!\x04\x00\x00\x00abcd"))
	f.Fuzz(func(_ *testing.T, image []byte) {
		_, _ = adaptSockets(image, map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true}) // whatever it says
	})
}
