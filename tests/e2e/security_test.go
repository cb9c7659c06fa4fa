package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// restricted is what Pod Security `restricted` wants of a container.
func restricted() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// A restored process may do what it might do before, and no more: seen from inside.
func TestRightsComeBackAsTheyWere(t *testing.T) {
	for what, test := range map[string]struct {
		enforce   string // the namespace's Pod Security
		pod       *corev1.PodSecurityContext
		container *corev1.SecurityContext
		want      map[string]string
	}{
		"restricted": {
			enforce: "restricted",
			pod: &corev1.PodSecurityContext{
				RunAsUser: new(int64(1234)), RunAsGroup: new(int64(2345)), FSGroup: new(int64(3456)), SupplementalGroups: []int64{4567, 5678},
			},
			container: restricted(),
			want: map[string]string{
				"Uid": "1234\t1234\t1234\t1234", "Gid": "2345\t2345\t2345\t2345", "Groups": "2345 3456 4567 5678", "CapBnd": "0000000000000000",
				"CapPrm": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2", "write to /": "open /checked: read-only file system",
				"keyctl": "operation not permitted",
			},
		},
		"capabilities": {
			enforce: "privileged",
			container: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
				Drop: []corev1.Capability{"MKNOD", "NET_RAW"}, Add: []corev1.Capability{"SYS_TIME", "NET_ADMIN"},
			}},
			want: map[string]string{"Uid": "0\t0\t0\t0", "CapBnd": "00000000a20415fb", "NoNewPrivs": "0", "write to /": "<nil>"},
		},
		"an added capability for another user": {
			enforce: "baseline",
			container: &corev1.SecurityContext{
				RunAsUser: new(int64(99)), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}},
			},
			want: map[string]string{"Uid": "99\t99\t99\t99", "CapBnd": "0000000000000400", "CapEff": "0000000000000000"},
		},
		"privileged": {
			enforce:   "privileged",
			container: &corev1.SecurityContext{Privileged: new(true)},
			want:      map[string]string{"NoNewPrivs": "0", "Uid": "0\t0\t0\t0"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				template.Annotations = map[string]string{"org.criu.config": "/etc/hosts"} // which must have no effect
				template.Spec.SecurityContext, template.Spec.Containers[0].SecurityContext = test.pod, test.container
			})
			patch := fmt.Appendf(nil, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":%q}}}`, test.enforce)
			if _, err := c.Client.CoreV1().Namespaces().Patch(t.Context(), w.ns, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			w.create(t)
			pod := w.running(t, nil)
			w.countOf(t, pod)
			before := query[map[string]string](t, c, pod, "rights")
			for field, want := range test.want {
				if before[field] != want {
					t.Errorf("%s is %q, want %q", field, before[field], want)
				}
			}
			put(t, c, pod, "/scratch/mine", "written by it")
			next := w.again(t, pod)
			if diff := cmp.Diff(before, query[map[string]string](t, c, next, "rights")); diff != "" {
				t.Errorf("(-before +after)\n%s", diff)
			}
			put(t, c, next, "/scratch/mine", "written again")
		})
	}
}

// A pod that claims to be of the same revision, and gives fewer rights than the captured process has, starts cold and says why.
func TestWeakenedRightsAreRefused(t *testing.T) {
	type change func(*corev1.PodSpec)
	context := func(spec *corev1.PodSpec) *corev1.SecurityContext { return spec.Containers[0].SecurityContext }
	base := func(spec *corev1.PodSpec) {
		spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroups: []int64{4567}}
		spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			RunAsUser: new(int64(1234)), RunAsGroup: new(int64(2345)), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}},
		}
	}
	for field, test := range map[string]struct{ before, after change }{
		"capabilities":             {after: func(s *corev1.PodSpec) { context(s).Capabilities.Add = nil }},
		"runAsUser":                {after: func(s *corev1.PodSpec) { context(s).RunAsUser = new(int64(1)) }},
		"runAsGroup":               {after: func(s *corev1.PodSpec) { context(s).RunAsGroup = new(int64(1)) }},
		"supplementalGroups":       {after: func(s *corev1.PodSpec) { s.SecurityContext = nil }},
		"readOnlyRootFilesystem":   {after: func(s *corev1.PodSpec) { context(s).ReadOnlyRootFilesystem = new(true) }},
		"allowPrivilegeEscalation": {after: func(s *corev1.PodSpec) { context(s).AllowPrivilegeEscalation = new(false) }},
		"seccompProfile": {after: func(s *corev1.PodSpec) {
			context(s).SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
		}},
		"volumeMount /scratch": {after: func(s *corev1.PodSpec) { s.Containers[0].VolumeMounts[0].ReadOnly = true }},
		"procMount": {
			before: func(s *corev1.PodSpec) { context(s).Privileged = new(true) },
			after: func(s *corev1.PodSpec) {
				context(s).Capabilities.Add = []corev1.Capability{"ALL"}
				context(s).SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
			},
		},
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				base(&template.Spec)
				if test.before != nil {
					test.before(&template.Spec)
				}
			})
			w.policy(t, v1alpha1.RestorePolicySpec{TemplateChanges: v1alpha1.TemplateChangesRestore})
			w.create(t)
			pod := w.running(t, nil)
			w.countOf(t, pod)
			w.template.Spec.Containers[0].SecurityContext.Privileged = nil
			test.after(&w.template.Spec)
			w.deletePod(t, pod)
			next := w.running(t, pod)
			cold := w.restored(t, next)
			if cold.Status != corev1.ConditionFalse || cold.Reason != keys.ColdSecurityContextMismatch || !strings.Contains(cold.Message, field) {
				t.Errorf("it says %+v", cold)
			}
			w.countOf(t, next)
		})
	}
}

// limitsOnNode prints the limits of a pod's container, as the node has them: v1's or v2's files.
const limitsOnNode = `
for record in /run/checkpoint/containers/*.json; do
  grep -q '"name": "app"' $record && grep -q %[1]s $record || continue
  pid=$(cat $(sed -n 's/.*"pidFile": "\(.*\)".*/\1/p' $record)); at=/sys/fs/cgroup
  if [ -e $at/cgroup.controllers ]; then cat $at$(sed -n s/^0:://p /proc/$pid/cgroup)/memory.max; exit; fi
  of() { sed -n "s/^[0-9]*:\(.*,\)*$1\(,.*\)*:\(.*\)/\3/p" /proc/$pid/cgroup; }
  cat $at/memory$(of memory)/memory.limit_in_bytes $at/cpu$(of cpu)/cpu.cfs_quota_us $at/pids$(of pids)/pids.max
done`

// The limits are the new pod's, also where the captured one had others; and the program sees them.
func TestTheNewPodsLimitsHold(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	limits := func(memory, cpu string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Resources.Limits = limits("256Mi", "500m")
	})
	w.countOf(t, pod)
	look := func(pod *corev1.Pod) (outside, inside string) {
		for _, file := range []string{"memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "memory.max"} {
			if text, err := ask(t.Context(), c, pod, "file/sys/fs/cgroup/"+file, nil); err == nil {
				inside += text
			}
		}
		return c.OnNode(t, pod.Spec.NodeName, fmt.Sprintf(limitsOnNode, pod.UID)), inside
	}
	outside, inside := look(pod)
	w.template.Spec.Containers[0].Resources.Limits = limits("300Mi", "700m")
	next := w.again(t, pod)
	now, seen := look(next)
	if !strings.Contains(outside, "268435456") || !strings.Contains(now, "314572800") ||
		strings.Contains(outside, "50000\n") && !strings.Contains(now, "70000\n") {
		t.Errorf("they were %q, and are %q", outside, now)
	}
	if !strings.HasPrefix(now, seen) || seen == "" || !strings.HasPrefix(outside, inside) {
		t.Errorf("they are %q, and the program sees %q; they were %q, and it saw %q", now, seen, outside, inside)
	}
}

// What is captured, fetched or noted on a node is for root there alone, though kubelet makes the two folders with rights for all.
func TestOnlyRootReadsWhatIsOnANode(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 3)
	w.deletePod(t, pod)
	w.goesOn(t, w.running(t, pod), before, nil)
	const (
		captured  = "ls -d /var/lib/checkpoint/captures/%s/1/containers"
		asAnybody = "setpriv --reuid=65534 --regid=65534 --clear-groups " +
			"find /var/lib/checkpoint /run/checkpoint -type f -readable ! -name criu.conf 2> /dev/null || true"
		writable = "find /opt/checkpoint /var/lib/checkpoint /run/checkpoint -maxdepth 2 ! -type l -perm /022"
	)
	if found := c.OnNode(t, pod.Spec.NodeName, fmt.Sprintf(captured, pod.UID)); found == "" {
		t.Error("there is no capture on the node that could be read")
	}
	for what, script := range map[string]string{"can be read by anybody": asAnybody, "can be written by others than root": writable} {
		if found := c.OnNode(t, pod.Spec.NodeName, script); found != "" {
			t.Errorf("on the node %s:\n%s", what, found)
		}
	}
}

// mountsOf returns how everything is mounted that a program sees, by place.
func mountsOf(t *testing.T, c *lab.Cluster, pod *corev1.Pod) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(say(t, c, pod, "file/proc/self/mountinfo")) {
		if fields := strings.Fields(line); len(fields) > 5 {
			all[fields[4]] = fields[5] // 36 35 98:0 /root /point ro,noatime …
		}
	}
	return all
}

// What is mounted read-only stays that, also where one volume is mounted more than once: CRIU takes such mounts for copies of each other. The second
// restore is from the mounts that the first one made.
func TestMountsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		app := &template.Spec.Containers[0]
		for _, path := range []string{"/first", "/second", "/third"} {
			app.VolumeMounts = append(app.VolumeMounts, corev1.VolumeMount{Name: "scratch", MountPath: path, ReadOnly: true})
		}
		app.VolumeMounts = append(app.VolumeMounts, corev1.VolumeMount{Name: "scratch", MountPath: "/part", SubPath: "part", ReadOnly: true})
	})
	w.create(t)
	pod := w.running(t, nil)
	w.countOf(t, pod)
	before := mountsOf(t, c, pod)
	if !strings.HasPrefix(before["/third"], "ro") || !strings.HasPrefix(before["/part"], "ro") || !strings.HasPrefix(before["/scratch"], "rw") {
		t.Errorf("before: %v", before)
	}
	for range 2 {
		pod = w.again(t, pod)
		if diff := cmp.Diff(before, mountsOf(t, c, pod)); diff != "" {
			t.Errorf("(-before +after)\n%s", diff)
		}
	}
}
