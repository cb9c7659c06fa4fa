package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// How often the agent looks whether its node shuts down gracefully, and how long it waits for a kubelet that is just being started anew.
const (
	gracefulInterval = time.Minute
	gracefulAgain    = 10 * time.Second
)

// The priorities of a pod without a class, and of the agent (system-node-critical).
const (
	usualPriority = 0
	agentPriority = 2_000_001_000
)

// graceful is what is known of how a node shuts down.
type graceful struct {
	value   string // of the label keys.GracefulShutdown
	message string
	pods    *time.Duration // what pods without a priority get, and the agent after them; nil where that is not known
	agent   *time.Duration
}

// tellGraceful has the node say whether its pods are captured when it shuts down.
func (a *Agent) tellGraceful(ctx context.Context) error {
	return every(ctx, gracefulInterval, func() {
		found := a.readGraceful()
		if found.value == keys.False {
			select {
			case <-ctx.Done():
				return
			case <-time.After(gracefulAgain):
				found = a.readGraceful()
			}
		}
		if err := a.sayGraceful(ctx, found); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "say on the node how it shuts down")
		}
	})
}

// sayGraceful writes label and annotation of the node, and tells a person by an event when it became known that pods are lost.
func (a *Agent) sayGraceful(ctx context.Context, g graceful) error {
	for pods, period := range map[string]*time.Duration{"usual": g.pods, "agent": g.agent} {
		if period == nil {
			shutdownSeconds.DeleteLabelValues(pods)
		} else {
			shutdownSeconds.WithLabelValues(pods).Set(period.Seconds())
		}
	}
	node := &corev1.Node{}
	if err := a.Client.Get(ctx, client.ObjectKey{Name: a.NodeName}, node); err != nil {
		return err
	}
	old := node.Labels[keys.GracefulShutdown]
	if old == g.value && node.Annotations[keys.GracefulShutdown] == g.message {
		return nil
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%[1]q:%[2]q},"annotations":{%[1]q:%[3]q}}}`, keys.GracefulShutdown, g.value, g.message)
	if err := a.Client.Patch(ctx, node, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return err
	}
	if g.value == keys.False && old != g.value {
		about := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.NodeName, UID: types.UID(a.NodeName)}}
		about.APIVersion, about.Kind = "v1", "Node"
		a.Recorder.Eventf(about, nil, corev1.EventTypeWarning, "NoGracefulShutdown", "Shutdown", "%s", v1alpha1.EventNote(g.message))
	}
	return nil
}

// readGraceful finds out how the node shuts down. That kubelet will be asked is seen by the lock that it holds at logind; how much time it gives to whom
// stands in its configuration, if that is to be found.
func (a *Agent) readGraceful() graceful {
	root := filepath.Join(a.Node.Root, "proc/1/root")
	pid, err := lockHolder(filepath.Join(root, "run/systemd/inhibit"))
	switch {
	case err != nil:
		return graceful{value: keys.Unknown, message: "it is not known whether pods are captured when this node shuts down: " + err.Error()}
	case pid == 0:
		zero := time.Duration(0)
		return graceful{value: keys.False, pods: &zero, agent: &zero, message: "pods are not captured when this node shuts down: kubelet does not delay it; " +
			"set shutdownGracePeriod and shutdownGracePeriodCriticalPods in its configuration, or look in its log why logind does not wait for it"}
	}
	config, err := a.kubeletConfig(pid)
	if err != nil {
		return graceful{value: keys.True, message: "pods are captured when this node shuts down; it is not known how long kubelet waits for them: " + err.Error()}
	}
	first, last := config.groupOf(usualPriority), config.groupOf(agentPriority)
	pods, agent := first.period(), last.period()
	g := graceful{value: keys.True, pods: &pods, agent: &agent}
	switch {
	case pods == 0:
		g.value, g.message = keys.False, "pods are not captured when this node shuts down: kubelet waits for them for 0 s; "+
			"set shutdownGracePeriod above shutdownGracePeriodCriticalPods in its configuration"
	case agent == 0:
		g.value = keys.False
		g.message = fmt.Sprintf("when this node shuts down pods have %s to be captured, but their states stay on its disk: "+
			"set shutdownGracePeriodCriticalPods in kubelet's configuration", pods)
	case first == last:
		g.message = fmt.Sprintf("when this node shuts down pods have %s to be captured, and in the same time the agent sends their states", pods)
	default:
		g.message = fmt.Sprintf("when this node shuts down pods have %s to be captured, then the agent has %s to send what is not sent yet", pods, agent)
	}
	return g
}

// lockHolder returns the process of the kubelet that delays the shutdown of a node; 0 if there is none. logind keeps a file for each lock, and beside it
// a pipe, which must not be opened. Its interface on the bus would say the same, to more code.
func lockHolder(dir string) (pid int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("read the locks of logind: %w", errors.Unwrap(err))
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), ".") { // one that is being written
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		lock := map[string]string{}
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			lock[name] = value
		}
		if lock["WHO"] == "" {
			return 0, errors.New("the locks of logind are in a format that is not known")
		}
		if lock["WHO"] == "kubelet" && lock["MODE"] == "delay" && slices.Contains(strings.Split(lock["WHAT"], ":"), "shutdown") {
			return strconv.Atoi(lock["PID"])
		}
	}
	return 0, nil
}

// kubeletConfig is what the configuration of a kubelet says of the shutdown, and of calls to its container runtime (KubeletConfiguration v1beta1).
type kubeletConfig struct {
	Period         metav1.Duration  `json:"shutdownGracePeriod"`
	CriticalPeriod metav1.Duration  `json:"shutdownGracePeriodCriticalPods"`
	ByPriority     []priorityPeriod `json:"shutdownGracePeriodByPodPriority"`
	RequestTimeout metav1.Duration  `json:"runtimeRequestTimeout"`
}

type priorityPeriod struct {
	Priority int64 `json:"priority"`
	Seconds  int64 `json:"shutdownGracePeriodSeconds"`
}

func (p priorityPeriod) period() time.Duration { return time.Duration(p.Seconds) * time.Second }

// kubeletConfig reads the files that a kubelet was started with, in its own order: its main file, then those of a folder by their names.
func (a *Agent) kubeletConfig(pid int) (config kubeletConfig, err error) {
	process := filepath.Join(a.Node.Root, "proc", strconv.Itoa(pid))
	words, err := os.ReadFile(filepath.Join(process, "cmdline"))
	if err != nil {
		return config, err
	}
	main, folder := argument(string(words), "config"), argument(string(words), "config-dir")
	if main == "" {
		return config, errors.New("it was started without --config")
	}
	files := []string{filepath.Join(process, "root", main)}
	if folder != "" {
		more, err := filepath.Glob(filepath.Join(process, "root", folder, "*.conf"))
		if err != nil {
			return config, err
		}
		files = append(files, more...)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(data, &config)
		}
		if err != nil {
			return config, fmt.Errorf("read the configuration of kubelet: %w", err)
		}
	}
	return config, nil
}

// argument returns the value of an argument in the file cmdline of a process.
func argument(cmdline, name string) string {
	words := strings.Split(cmdline, "\x00")
	for i, word := range words {
		key, value, bound := strings.Cut(strings.TrimLeft(word, "-"), "=")
		switch {
		case key != name || !strings.HasPrefix(word, "-"):
		case bound:
			return value
		case i+1 < len(words):
			return words[i+1]
		}
	}
	return ""
}

// groupOf is the group of pods of a priority: the highest that is not above them, or the lowest. kubelet ends one group after the other.
func (c kubeletConfig) groupOf(priority int64) priorityPeriod {
	groups := slices.Clone(c.ByPriority)
	if len(groups) == 0 {
		const critical = 2_000_000_000
		groups = []priorityPeriod{
			{usualPriority, int64((c.Period.Duration - c.CriticalPeriod.Duration) / time.Second)}, {critical, int64(c.CriticalPeriod.Duration / time.Second)},
		}
	}
	slices.SortStableFunc(groups, func(x, y priorityPeriod) int { return cmp.Compare(x.Priority, y.Priority) })
	found := groups[0]
	for _, group := range groups {
		if group.Priority <= priority {
			found = group
		}
	}
	return found
}
