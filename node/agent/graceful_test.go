package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// kubeletLock is a lock as logind keeps it.
const kubeletLock = `# This is private data. Do not parse.
WHAT=shutdown
MODE=delay
UID=0
PID=42
WHO=kubelet
WHY=Kubelet needs time to handle node shutdown
`

// put writes files of the node, by path.
func (b *bench) put(files map[string]string) {
	b.t.Helper()
	for path, text := range files {
		path = filepath.Join(b.Node.Root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			b.t.Fatal(err)
		}
		b.write(path, text)
	}
}

func TestANodeSaysHowItShutsDown(t *testing.T) {
	t.Parallel()
	const locks, process, config = "proc/1/root/run/systemd/inhibit/", "proc/42/", "proc/42/root/etc/kubelet.yaml"
	const started = "kubelet\x00--v=2\x00--config\x00/etc/kubelet.yaml\x00"
	const seconds = "shutdownGracePeriodSeconds"
	configured := func(text string) map[string]string {
		return map[string]string{locks + "1": kubeletLock, process + "cmdline": started, config: text}
	}
	for name, test := range map[string]struct {
		files          map[string]string
		value, message string
	}{
		"without logind nothing is known": {nil, keys.Unknown, "read the locks of logind: no such file or directory"},
		"a format that nobody knows":      {map[string]string{locks + "1": "{}"}, keys.Unknown, "in a format that is not known"},
		"the lock of another": {
			map[string]string{locks + "1": strings.Replace(kubeletLock, "kubelet", "dnf", 1)}, keys.False, "set shutdownGracePeriod and",
		},
		"a lock for something else": {
			map[string]string{locks + "1": strings.Replace(kubeletLock, "shutdown", "sleep", 1)}, keys.False, "kubelet does not delay it",
		},
		"a process that cannot be read": {map[string]string{locks + "1": kubeletLock}, keys.True, "it is not known how long"},
		"a kubelet without a file": {
			map[string]string{locks + "1": kubeletLock, process + "cmdline": "k3s\x00server\x00"}, keys.True, "without --config",
		},
		"two periods": {
			configured("shutdownGracePeriod: 2m\nshutdownGracePeriodCriticalPods: 30s"), keys.True, "pods have 1m30s to be captured, then the agent has 30s",
		},
		"no time for the agent": {
			configured("shutdownGracePeriod: 30s"), keys.False, "pods have 30s to be captured, but their states stay on its disk",
		},
		"no time for pods": {
			configured("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 30s"), keys.False, "kubelet waits for them for 0 s",
		},
		"groups by priority": {
			configured("shutdownGracePeriodByPodPriority: [{priority: 2000000000, " + seconds + ": 7}, {priority: 5, " + seconds + ": 9}]"),
			keys.True, "pods have 9s to be captured, then the agent has 7s",
		},
		"one group": {
			configured("shutdownGracePeriodByPodPriority: [{priority: 0, " + seconds + ": 60}]"), keys.True, "have 1m0s to be captured, and in the same time",
		},
		"what cannot be a configuration": {configured("shutdownGracePeriod: [1]"), keys.True, "it is not known how long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-1"}})
			b.put(test.files)
			g := b.readGraceful()
			if g.value != test.value || !strings.Contains(g.message, test.message) {
				t.Errorf("it says %s, %q; want %s, %q", g.value, g.message, test.value, test.message)
			}
			for range 2 {
				if err := b.sayGraceful(t.Context(), g); err != nil {
					t.Fatal(err)
				}
			}
			node := &corev1.Node{}
			if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "worker-1"}, node); err != nil {
				t.Fatal(err)
			}
			if node.Labels[keys.GracefulShutdown] != g.value || node.Annotations[keys.GracefulShutdown] != g.message {
				t.Errorf("the node has %v and %v", node.Labels, node.Annotations)
			}
			want := 0
			if test.value == keys.False {
				want = 1
			}
			if told := len(b.Recorder.(*events.FakeRecorder).Events); told != want {
				t.Errorf("it was told %d times, want %d", told, want)
			}
		})
	}
}

func TestFilesOfAFolderCountAfterTheMainOne(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put(map[string]string{
		"proc/1/root/run/systemd/inhibit/1": kubeletLock, "proc/42/cmdline": "kubelet\x00--config=/main\x00--config-dir=/more\x00",
		"proc/42/root/main": "shutdownGracePeriod: 1m\nshutdownGracePeriodCriticalPods: 10s", "proc/42/root/more/20.conf": "shutdownGracePeriod: 50s",
		"proc/42/root/more/10.conf": "shutdownGracePeriod: 40s", "proc/42/root/more/30.yaml": "shutdownGracePeriod: 30s",
	})
	if err := unix.Mkfifo(filepath.Join(b.Node.Root, "proc/1/root/run/systemd/inhibit/1.ref"), 0o600); err != nil { // who opens it, waits
		t.Fatal(err)
	}
	if g := b.readGraceful(); !strings.Contains(g.message, "pods have 40s to be captured, then the agent has 10s") {
		t.Errorf("it says %s, %q", g.value, g.message)
	}
}
