package jobs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// job is one with the default backoffLimit that counts every failure.
func job(failed int32, changes ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "work"},
		Spec:       batchv1.JobSpec{BackoffLimit: new(int32(6))},
		Status:     batchv1.JobStatus{Failed: failed, UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{}},
	}
	for _, change := range changes {
		change(j)
	}
	return j
}

func uncounted(uids ...types.UID) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Status.UncountedTerminatedPods.Failed = uids }
}

func is(kind batchv1.JobConditionType) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue}}
	}
}

func policy(rules ...batchv1.PodFailurePolicyRule) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: rules} }
}

// failsOn fails the Job for an exit code.
func failsOn(operator batchv1.PodFailurePolicyOnExitCodesOperator, container *string, codes ...int32,
) batchv1.PodFailurePolicyRule {
	return batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionFailJob,
		OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: operator, ContainerName: container, Values: codes}}
}

func onCondition(action batchv1.PodFailurePolicyAction, kind corev1.PodConditionType, status corev1.ConditionStatus) batchv1.PodFailurePolicyRule {
	return batchv1.PodFailurePolicyRule{Action: action, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: kind, Status: status}}}
}

func perIndex(limit int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.BackoffLimit, j.Spec.BackoffLimitPerIndex = new(int32(1<<31-1)), &limit }
}

func index(index, failures string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations[batchv1.JobCompletionIndexAnnotation] = index
		if failures != "" {
			p.Annotations[batchv1.JobIndexFailureCountAnnotation] = failures
		}
	}
}

func TestResumesLeft(t *testing.T) {
	const limit, perEach = "backoffLimit", "backoffLimitPerIndex"
	counts := func(failed, most int32) Outlook {
		return Outlook{Action: batchv1.PodFailurePolicyActionCount, Failed: failed, Limit: most, Field: limit}
	}
	ofIndex := func(failed, most int32, index string) Outlook {
		return Outlook{Action: batchv1.PodFailurePolicyActionCount, Failed: failed, Limit: most, Field: perEach, Index: index}
	}
	for name, test := range map[string]struct {
		job  *batchv1.Job
		pod  *corev1.Pod
		want *Outlook // nil: there is nothing to say
		left int32
	}{
		"the first of six":                            {job(0), jobPod(), new(counts(1, 6)), 5},
		"the last that it bears":                      {job(5), jobPod(), new(counts(6, 6)), 0},
		"one too many":                                {job(6), jobPod(), new(counts(7, 6)), -1},
		"the controller was quicker, and is counting": {job(2, uncounted("pod-uid")), jobPod(), new(counts(3, 6)), 3},
		"it is counting another one":                  {job(2, uncounted("other")), jobPod(), new(counts(4, 6)), 2},
		"it has counted":                              {job(3), jobPod(untracked), new(counts(3, 6)), 3},
		"it does not want the pod any more":           {job(0), jobPod(untracked), nil, 0},
		"without any patience":                        {job(0, func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(0)) }), jobPod(), new(counts(1, 0)), -1},
		"containers that are started again": {job(1), jobPod(onFailure, func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount = 5 }),
			new(counts(2, 6)), 4},
		"each index has its own":              {job(9, perIndex(2)), jobPod(index("3", "1")), new(ofIndex(2, 2, "3")), 0},
		"its first failure":                   {job(9, perIndex(2)), jobPod(index("0", "0")), new(ofIndex(1, 2, "0")), 1},
		"its first failure, without the note": {job(9, perIndex(2)), jobPod(index("0", "")), new(ofIndex(1, 2, "0")), 1},
		"the Job's limit is nearer than that of its index": {
			job(5, perIndex(8), func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(6)) }), jobPod(index("1", "0")), new(counts(6, 6)), 0},
		"an index without a limit of its own": {job(0), jobPod(index("1", "4")), new(counts(1, 6)), 5},
		"it is over":                          {job(7, is(batchv1.JobFailed)), jobPod(), nil, 0},
		"it is about to fail":                 {job(7, is(batchv1.JobFailureTarget)), jobPod(), nil, 0},
		"it is done":                          {job(0, is(batchv1.JobComplete)), jobPod(), nil, 0},
		"it is about to be done":              {job(0, is(batchv1.JobSuccessCriteriaMet)), jobPod(), nil, 0},
		"it is suspended":                     {job(0, func(j *batchv1.Job) { j.Spec.Suspend = new(true) }), jobPod(), nil, 0},
		"it is being deleted":                 {job(0, func(j *batchv1.Job) { j.DeletionTimestamp = new(metav1.Now()) }), jobPod(), nil, 0},
	} {
		got, ok := OutlookOf(test.job, test.pod)
		if ok != (test.want != nil) {
			t.Errorf("%s: there is something to say: %t", name, ok)
			continue
		}
		if ok {
			if diff := cmp.Diff(*test.want, got); diff != "" || got.Left() != test.left {
				t.Errorf("%s: %d left, should be %d (-want +got)\n%s", name, got.Left(), test.left, diff)
			}
		}
	}
}

func TestWhatAPolicySaysOfACapturedPod(t *testing.T) {
	const (
		ignore, count, fail = batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailJob
		in, notIn           = batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn
		yes, no             = corev1.ConditionTrue, corev1.ConditionFalse
	)
	ours := onCondition(ignore, corev1.DisruptionTarget, yes)
	for name, test := range map[string]struct {
		rules []batchv1.PodFailurePolicyRule
		pod   *corev1.Pod
		want  batchv1.PodFailurePolicyAction
	}{
		"ours":                           {[]batchv1.PodFailurePolicyRule{ours}, jobPod(), ignore},
		"ours, of a marked pod":          {[]batchv1.PodFailurePolicyRule{ours}, jobPod(disrupted(yes, "x")), ignore},
		"ours, when the capture failed":  {[]batchv1.PodFailurePolicyRule{ours}, jobPod(disrupted(no, "x")), count},
		"disruptions fail it":            {[]batchv1.PodFailurePolicyRule{onCondition(fail, corev1.DisruptionTarget, yes)}, jobPod(), fail},
		"another condition":              {[]batchv1.PodFailurePolicyRule{onCondition(fail, "ConfigIssue", yes)}, jobPod(), count},
		"an exit code goes first":        {[]batchv1.PodFailurePolicyRule{failsOn(in, nil, 1, 137), ours}, jobPod(), fail},
		"other exit codes":               {[]batchv1.PodFailurePolicyRule{failsOn(in, nil, 1, 42), ours}, jobPod(), ignore},
		"all exit codes but some":        {[]batchv1.PodFailurePolicyRule{failsOn(notIn, nil, 1, 42), ours}, jobPod(), fail},
		"all exit codes but that":        {[]batchv1.PodFailurePolicyRule{failsOn(notIn, nil, 137), ours}, jobPod(), ignore},
		"the code of a captured one":     {[]batchv1.PodFailurePolicyRule{failsOn(in, new("main"), 137), ours}, jobPod(), fail},
		"the code of a proxy":            {[]batchv1.PodFailurePolicyRule{failsOn(in, new("istio-proxy"), 137), ours}, jobPod(), ignore},
		"the code of one that has ended": {[]batchv1.PodFailurePolicyRule{failsOn(in, new("side"), 42), ours}, jobPod(exited(42, 0)), fail},
		"one that has ended well":        {[]batchv1.PodFailurePolicyRule{failsOn(notIn, new("side"), 42), ours}, jobPod(exited(0, 0)), ignore},
		"no rule":                        {nil, jobPod(), count},
	} {
		got, ok := OutlookOf(job(0, policy(test.rules...)), test.pod)
		if !ok || got.Action != test.want {
			t.Errorf("%s: %s, should be %s", name, got.Action, test.want)
		}
	}
}
