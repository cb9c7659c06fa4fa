package engine

import (
	"encoding/binary"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/timerfd"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

// timer is one that is a descriptor: its unread ticks, flags, and nanoseconds to the next and between two.
type timer struct {
	Ticks          uint64
	Flags          uint32
	Left, Interval uint64
}

func TestTimersThatHadExpiredGoOn(t *testing.T) {
	const absolute = 1
	for what, test := range map[string]struct{ has, want timer }{
		"a timer that runs stays":                 {timer{0, 0, 5, 20}, timer{0, 0, 5, 20}},
		"one that ends once stays ended":          {timer{1, 0, 0, 0}, timer{1, 0, 0, 0}},
		"one that is not set stays so":            {timer{0, 0, 0, 20}, timer{0, 0, 0, 20}},
		"a periodic one that had expired goes on": {timer{1, absolute, 0, 20}, timer{1, 0, 20, 20}},
	} {
		zero, kind := uint32(0), fdinfo.FdTypes_TIMERFD
		entry, err := proto.Marshal(&fdinfo.FileEntry{Type: &kind, Id: &zero, Tfd: &timerfd.TimerfdEntry{
			Id: &zero, Flags: &zero, Clockid: &zero, Ticks: &test.has.Ticks, SettimeFlags: &test.has.Flags,
			Fown: &fown.FownEntry{Uid: &zero, Euid: &zero, Signum: &zero, PidType: &zero, Pid: &zero},
			Vsec: new(uint64), Vnsec: &test.has.Left, Isec: new(uint64), Insec: &test.has.Interval,
		}})
		if err != nil {
			t.Fatal(err)
		}
		image := append(binary.LittleEndian.AppendUint32([]byte("8bytes!!"), uint32(len(entry))), entry...)
		adapted, err := armTimers(image)
		if err != nil {
			t.Fatal(err)
		}
		file := &fdinfo.FileEntry{}
		if err := proto.Unmarshal(adapted[len("8bytes!!")+4:], file); err != nil {
			t.Fatal(err)
		}
		got := timer{file.GetTfd().GetTicks(), file.GetTfd().GetSettimeFlags(), file.GetTfd().GetVnsec(), file.GetTfd().GetInsec()}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
}
