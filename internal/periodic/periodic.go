package periodic

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"time"

	_ "time/tzdata" // the manager's image has no list of time zones

	"github.com/robfig/cron/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Least is the shortest interval.
const Least = 10 * time.Second

// Next says when a pod is captured next while it goes on, and by which trigger, if it was captured last, or began, at since. The zero time is never. What the
// pod says stands in its annotation, into which admission has written what its environment or Namespace say. Nonsense, which admission refuses, counts nothing.
func Next(pod *corev1.Pod, policy *v1alpha1.CheckpointPolicy, since time.Time) (at time.Time, trigger v1alpha1.CheckpointTrigger) {
	interval, err := ParseInterval(pod.Annotations[keys.CheckpointInterval])
	if err != nil {
		interval = 0
		if policy != nil && policy.Spec.Triggers != nil && policy.Spec.Triggers.Interval != nil {
			interval = policy.Spec.Triggers.Interval.Duration
		}
	}
	if interval > 0 {
		at, trigger = since.Add(interval), v1alpha1.TriggerInterval
	}
	if policy == nil || policy.Spec.Triggers == nil || policy.Spec.Triggers.Schedule == nil {
		return at, trigger
	}
	schedule, err := Parse(policy.Spec.Triggers.Schedule)
	if err != nil {
		return at, trigger
	}
	if next := schedule.next(since, string(pod.UID)); !next.IsZero() && (at.IsZero() || next.Before(at)) {
		return next, v1alpha1.TriggerSchedule
	}
	return at, trigger
}

// ParseInterval reads a duration, as 15m; 0 is never.
func ParseInterval(value string) (time.Duration, error) {
	interval, err := time.ParseDuration(value)
	if err != nil || interval != 0 && interval < Least {
		return 0, fmt.Errorf("is %q; it may be a duration of %s or more, as 15m, or 0 for none", value, Least)
	}
	return interval, nil
}

// Schedule is that of a CheckpointPolicy.
type Schedule struct {
	times  cron.Schedule
	jitter time.Duration
}

// Parse reads a schedule. An error names the field.
func Parse(s *v1alpha1.CheckpointSchedule) (Schedule, error) {
	zone, err := time.LoadLocation(cmp.Or(s.TimeZone, "UTC"))
	if err != nil || s.TimeZone == "Local" {
		return Schedule{}, fmt.Errorf("triggers.schedule.timeZone is %q; it may be the name of a time zone, as Europe/Berlin", s.TimeZone)
	}
	times, err := cron.ParseStandard(s.Cron)
	if err != nil {
		return Schedule{}, fmt.Errorf("triggers.schedule.cron is %q; it may be minute, hour, day, month and weekday, as \"0 */6 * * *\": %w", s.Cron, err)
	}
	if specified, is := times.(*cron.SpecSchedule); is {
		specified.Location = zone
	}
	parsed := Schedule{times: times}
	if s.Jitter != nil {
		parsed.jitter = s.Jitter.Duration
	}
	return parsed, nil
}

// next is the first time after since. Each pod has its own delay within the jitter, always the same.
func (s Schedule) next(since time.Time, podUID string) time.Time {
	delay := time.Duration(0)
	if s.jitter > 0 {
		sum := fnv.New64a()
		_, _ = sum.Write([]byte(podUID))
		delay = time.Duration(sum.Sum64() % uint64(s.jitter)).Truncate(time.Second)
	}
	next := s.times.Next(since.Add(-delay))
	if next.IsZero() { // as of the 30th of February
		return next
	}
	return next.Add(delay)
}
