package agent

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// DefaultDiskBudget is a fifth of the disk: enough for restores on the same node, and not what fills it.
const DefaultDiskBudget = "20%"

// DiskBudget bounds what is kept on the node's disk: in bytes, or as a part of the disk. The zero value is no bound.
type DiskBudget struct {
	bytes   int64
	percent int
}

// ParseDiskBudget reads a quantity of bytes, as 50Gi, or a part of the disk, as 20%.
func ParseDiskBudget(text string) (DiskBudget, error) {
	if number, isPart := strings.CutSuffix(text, "%"); isPart {
		if percent, err := strconv.Atoi(number); err == nil && percent >= 1 && percent <= 100 {
			return DiskBudget{percent: percent}, nil
		}
	} else if quantity, err := resource.ParseQuantity(text); err == nil && quantity.Value() > 0 {
		return DiskBudget{bytes: quantity.Value()}, nil
	}
	return DiskBudget{}, fmt.Errorf("is %q; it may be a quantity of bytes above 0, as 50Gi, or 1%% to 100%% of the disk", text)
}

// of returns what the budget is on the disk of a folder, in bytes; 0 is no bound, also where nothing is known of the disk.
func (b DiskBudget) of(dir string) int64 {
	if b.percent == 0 {
		return b.bytes
	}
	var disk unix.Statfs_t
	if unix.Statfs(dir, &disk) != nil {
		return 0
	}
	return int64(disk.Blocks) * disk.Bsize / 100 * int64(b.percent)
}

// holding is what of the operator lies on the node's disk, in bytes.
type holding struct {
	// waiting is in captures that are not in the bucket yet, and fetched in what was brought for pods, or stays for the restart of their containers: both are
	// in use.
	waiting, fetched int64
	// cached are captures that are in the bucket as well, and stay for a restore on this node.
	cached []cachedCapture
}

type cachedCapture struct {
	dir      string
	uploaded time.Time
	bytes    int64 // that nothing else holds
}

// total is what all of it takes.
func (h holding) total() int64 {
	sum := h.waiting + h.fetched
	for _, c := range h.cached {
		sum += c.bytes
	}
	return sum
}

// evictions are the captures that go for the rest to fit the budget, the oldest first. What is in use is never among them.
func (h holding) evictions(budget int64) (dirs []string) {
	left := h.total()
	slices.SortFunc(h.cached, func(x, y cachedCapture) int { return x.uploaded.Compare(y.uploaded) })
	for _, c := range h.cached {
		if left <= budget {
			break
		}
		if c.bytes > 0 { // else something else holds all of it, and nothing is won
			dirs = append(dirs, c.dir)
			left -= c.bytes
		}
	}
	return dirs
}

// holds measures what lies on the disk. A file that two folders have counts once: for what is in use, if that is one of them.
func (a *Agent) holds() (h holding) {
	seen := map[uint64]bool{}
	captures, err := filepath.Glob(filepath.Join(a.Node.CapturesRoot(), "*", "[0-9]*"))
	if err != nil {
		return h
	}
	states, err := filepath.Glob(filepath.Join(a.Node.RestoresRoot(), "*", "states"))
	if err != nil {
		return h
	}
	for _, dir := range states {
		h.fetched += usage(dir, seen)
	}
	for _, dir := range captures {
		if !isUploadedFrom(dir) {
			h.waiting += usage(dir, seen)
		} else if record, err := capture.Read(dir); err == nil && a.servesRestarts(dir, record) {
			h.fetched += usage(dir, seen)
		}
	}
	for _, dir := range captures {
		record, err := capture.Read(dir)
		if isUploadedFrom(dir) && (err != nil || !a.servesRestarts(dir, record)) {
			m, err := readMemo(dir)
			if err != nil {
				m = memo{}
			}
			h.cached = append(h.cached, cachedCapture{dir, m.Uploaded, usage(dir, seen)})
		}
	}
	return h
}

// usage returns what the files below dir take on the disk, without those that were seen before. What is gone by then takes nothing.
func usage(dir string, seen map[uint64]bool) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is just being removed
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && !seen[stat.Ino] {
			seen[stat.Ino] = true
			sum += stat.Blocks * 512
		}
		return nil
	})
	return sum
}

// keepBudget removes captures that the bucket has, the oldest first, until what is on the disk fits the budget, and tells by metrics how much that is.
func (a *Agent) keepBudget(ctx context.Context) {
	h, budget := a.holds(), a.DiskBudget.of(a.Node.CapturesRoot())
	evicted := int64(0)
	for _, dir := range h.evictions(budget) {
		if budget == 0 {
			break
		}
		if err := a.remove(dir); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "make room on the disk", append(a.aboutPod(filepath.Base(filepath.Dir(dir))), "capture", dir)...)
			continue
		}
		evictions.Inc()
		i := slices.IndexFunc(h.cached, func(c cachedCapture) bool { return c.dir == dir })
		evicted += h.cached[i].bytes
	}
	diskBytes.WithLabelValues("waiting").Set(float64(h.waiting))
	diskBytes.WithLabelValues("fetched").Set(float64(h.fetched))
	diskBytes.WithLabelValues("cached").Set(float64(h.total() - h.waiting - h.fetched - evicted))
	diskBudget.Set(float64(budget))
	var disk unix.Statfs_t
	if unix.Statfs(a.Node.CapturesRoot(), &disk) == nil {
		diskSize.Set(float64(int64(disk.Blocks) * disk.Bsize))
		diskFree.Set(float64(int64(disk.Bavail) * disk.Bsize))
	}
}
