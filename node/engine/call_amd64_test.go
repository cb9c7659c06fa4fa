package engine

import (
	"testing"

	core_x86 "github.com/checkpoint-restore/go-criu/v8/crit/images/core-x86"
	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// registers are those that tell of a system call, as amd64 has them.
type registers struct{ Call, Result, Place, First, Second, Third, Fourth uint64 }

func TestWaitsBeginAnew(t *testing.T) {
	interrupted := ^uint64(unix.EINTR) + 1
	for what, test := range map[string]struct{ has, want registers }{
		"a sleep takes what is left": {
			registers{unix.SYS_NANOSLEEP, interrupted, 102, 11, 22, 33, 44}, registers{unix.SYS_NANOSLEEP, unix.SYS_NANOSLEEP, 100, 22, 22, 33, 44},
		},
		"a sleep that is not told begins": {
			registers{unix.SYS_NANOSLEEP, interrupted, 102, 11, 0, 33, 44}, registers{unix.SYS_NANOSLEEP, unix.SYS_NANOSLEEP, 100, 11, 0, 33, 44},
		},
		"a sleep by a clock takes what is left": {
			registers{unix.SYS_CLOCK_NANOSLEEP, interrupted, 102, 1, 0, 33, 44}, registers{unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, 100, 1, 0, 44, 44},
		},
		"a poll begins":            {registers{unix.SYS_POLL, interrupted, 102, 11, 1, 500, 0}, registers{unix.SYS_POLL, unix.SYS_POLL, 100, 11, 1, 500, 0}},
		"a futex begins":           {registers{unix.SYS_FUTEX, interrupted, 102, 11, 1, 0, 44}, registers{unix.SYS_FUTEX, unix.SYS_FUTEX, 100, 11, 1, 0, 44}},
		"a read stays":             {registers{unix.SYS_READ, interrupted, 102, 3, 11, 10, 0}, registers{unix.SYS_READ, interrupted, 102, 3, 11, 10, 0}},
		"a sleep that ended stays": {registers{unix.SYS_NANOSLEEP, 0, 102, 11, 22, 33, 44}, registers{unix.SYS_NANOSLEEP, 0, 102, 11, 22, 33, 44}},
	} {
		r := &core_x86.UserX86RegsEntry{
			OrigAx: &test.has.Call, Ax: &test.has.Result, Ip: &test.has.Place, Di: &test.has.First, Si: &test.has.Second, Dx: &test.has.Third, R10: &test.has.Fourth,
		}
		changed := restart(&criucore.CoreEntry{ThreadInfo: &core_x86.ThreadInfoX86{Gpregs: r}})
		got := registers{r.GetOrigAx(), r.GetAx(), r.GetIp(), r.GetDi(), r.GetSi(), r.GetDx(), r.GetR10()}
		if diff := cmp.Diff(test.want, got); diff != "" || changed == (test.has.Result == 0 || test.want.Call == unix.SYS_READ) {
			t.Errorf("%s: changed is %t (-want +got)\n%s", what, changed, diff)
		}
	}
}

func FuzzRestartCall(f *testing.F) {
	f.Add([]byte("8bytes!!\x04\x00\x00\x00abcd"))
	f.Fuzz(func(_ *testing.T, image []byte) { _, _ = restartCall(image) }) // whatever it says
}
