package engine

import (
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// armTimers has periodic timers that are descriptors (timerfd) go on which had expired, unread, when they were captured. The kernel begins the
// next period of such a timer when its ticks are read, so nothing seems to be left of it, and CRIU would bring it back disarmed. Its next period
// begins at the restore.
func armTimers(image []byte) ([]byte, error) {
	return editFiles(image, func(file *fdinfo.FileEntry) bool {
		timer := file.GetTfd()
		if timer == nil || timer.GetTicks() == 0 || timer.GetVsec() != 0 || timer.GetVnsec() != 0 || timer.GetIsec() == 0 && timer.GetInsec() == 0 {
			return false
		}
		timer.Vsec, timer.Vnsec = proto.Uint64(timer.GetIsec()), proto.Uint64(timer.GetInsec())
		timer.SettimeFlags = proto.Uint32(timer.GetSettimeFlags() &^ unix.TFD_TIMER_ABSTIME)
		return true
	})
}
