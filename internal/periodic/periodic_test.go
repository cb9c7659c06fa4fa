package periodic

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

var began = time.Date(2026, 11, 27, 10, 7, 0, 0, time.UTC)

func quarterly(t *v1alpha1.CheckpointTriggers) {
	t.Interval = &metav1.Duration{Duration: 15 * time.Minute}
}

func at(cron string) func(*v1alpha1.CheckpointTriggers) {
	return func(t *v1alpha1.CheckpointTriggers) { t.Schedule = &v1alpha1.CheckpointSchedule{Cron: cron} }
}

func in(zone string) func(*v1alpha1.CheckpointTriggers) {
	return func(t *v1alpha1.CheckpointTriggers) { t.Schedule.TimeZone = zone }
}

func TestWhenAPodIsCapturedNext(t *testing.T) {
	for name, test := range map[string]struct {
		policy     []func(*v1alpha1.CheckpointTriggers)
		annotation string
		want       string
		trigger    v1alpha1.CheckpointTrigger
	}{
		"nobody says":     {},
		"the policy says": {policy: []func(*v1alpha1.CheckpointTriggers){quarterly}, want: "10:22", trigger: v1alpha1.TriggerInterval},
		"the pod says otherwise": {
			policy: []func(*v1alpha1.CheckpointTriggers){quarterly}, annotation: "1h", want: "11:07", trigger: v1alpha1.TriggerInterval,
		},
		"the pod says never": {policy: []func(*v1alpha1.CheckpointTriggers){quarterly}, annotation: "0"},
		"nonsense counts nothing": {
			policy: []func(*v1alpha1.CheckpointTriggers){quarterly}, annotation: "often", want: "10:22", trigger: v1alpha1.TriggerInterval,
		},
		"a schedule": {policy: []func(*v1alpha1.CheckpointTriggers){at("0 */6 * * *")}, want: "12:00", trigger: v1alpha1.TriggerSchedule},
		"a schedule elsewhere": {
			policy: []func(*v1alpha1.CheckpointTriggers){at("0 12 * * *"), in("Europe/Berlin")}, want: "11:00", trigger: v1alpha1.TriggerSchedule,
		},
		"both, the schedule is first": {
			policy: []func(*v1alpha1.CheckpointTriggers){at("10 * * * *"), quarterly}, want: "10:10", trigger: v1alpha1.TriggerSchedule,
		},
		"both, the interval is first": {
			policy: []func(*v1alpha1.CheckpointTriggers){at("30 * * * *"), quarterly}, want: "10:22", trigger: v1alpha1.TriggerInterval,
		},
		"a day that there is not": {policy: []func(*v1alpha1.CheckpointTriggers){at("0 0 30 2 *")}},
		"a bad schedule": {
			policy: []func(*v1alpha1.CheckpointTriggers){at("now and then"), quarterly}, want: "10:22", trigger: v1alpha1.TriggerInterval,
		},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "0f2d4c1a"}}
		if test.annotation != "" {
			pod.Annotations = map[string]string{keys.CheckpointInterval: test.annotation}
		}
		policy := &v1alpha1.CheckpointPolicy{}
		for _, change := range test.policy {
			if policy.Spec.Triggers == nil {
				policy.Spec.Triggers = &v1alpha1.CheckpointTriggers{}
			}
			change(policy.Spec.Triggers)
		}
		next, trigger := Next(pod, policy, began)
		got := ""
		if !next.IsZero() {
			got = next.UTC().Format("15:04")
		}
		if got != test.want || trigger != test.trigger {
			t.Errorf("%s: %q by %q; want %q by %q", name, got, trigger, test.want, test.trigger)
		}
	}
}

func TestJitterSpreadsPods(t *testing.T) {
	s, err := Parse(&v1alpha1.CheckpointSchedule{Cron: "0 * * * *", Jitter: &metav1.Duration{Duration: 10 * time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[time.Duration]bool{}
	for _, uid := range []string{"one", "two", "three", "four"} {
		first := s.next(began, uid)
		delay := first.Sub(first.Truncate(time.Hour))
		if delay >= 10*time.Minute || s.next(first, uid) != first.Add(time.Hour) || s.next(first.Add(-time.Second), uid) != first {
			t.Errorf("pod %s is captured at %s, and then at %s", uid, first, s.next(first, uid))
		}
		seen[delay] = true
	}
	if len(seen) < 3 {
		t.Errorf("the delays are %v", seen)
	}
}

func TestBadIntervalsAndSchedulesAreNamed(t *testing.T) {
	if _, err := ParseInterval("1s"); err == nil || err.Error() != `is "1s"; it may be a duration of 10s or more, as 15m, or 0 for none` {
		t.Errorf("it says %v", err)
	}
	for says, schedule := range map[string]v1alpha1.CheckpointSchedule{
		`triggers.schedule.cron is "61 * * * *"`:  {Cron: "61 * * * *"},
		`triggers.schedule.timeZone is "Nowhere"`: {Cron: "1 * * * *", TimeZone: "Nowhere"},
	} {
		if _, err := Parse(&schedule); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("it says %v; want %s", err, says)
		}
	}
}
