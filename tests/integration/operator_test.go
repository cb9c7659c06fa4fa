package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/tests/builder"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// says writes the ConfigMap of an operator whose own namespace that is.
func says(t *testing.T, ns string, data map[string]string) {
	t.Helper()
	configMaps := shared.Client.CoreV1().ConfigMaps(ns)
	wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: operator.ConfigMap}, Data: data}
	_, err := configMaps.Create(t.Context(), wanted, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = configMaps.Update(t.Context(), wanted, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNothingExpiresWhileTheOperatorIsPaused(t *testing.T) {
	s := newShop(t)
	says(t, s.ns, map[string]string{operator.Paused: "true"})
	awaitEvent(t, s.ns, "ConfigMap", operator.ConfigMap, "Paused")
	old := s.complete(t, "old", time.Hour, nil)
	awaitState(t, s.ns, old.Name, metav1.ConditionTrue, v1alpha1.StateCompleted)
	s.keep(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.TTL = &metav1.Duration{Duration: time.Minute} })
	time.Sleep(2 * time.Second) // nothing happens
	s.stays(t, old)
	says(t, s.ns, nil)
	awaitEvent(t, s.ns, "ConfigMap", operator.ConfigMap, "Resumed")
	s.expires(t, old, "ttl")
}

func TestPodsOfANamespaceThatIsNotAllowedSaySo(t *testing.T) {
	s := newShop(t)
	says(t, s.ns, map[string]string{operator.Namespaces: "another"})
	pods := shared.Client.CoreV1().Pods(s.ns)
	wanted := builder.MakePod(s.ns, "db-0").Labelled().Node(s.node).ControlledBy("v1", "ConfigMap", s.owner).Obj()
	pod, err := pods.Create(t.Context(), wanted, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // no kubelet ends it
		_ = pods.Delete(context.Background(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	})
	await := func(reason string) {
		t.Helper()
		lab.Eventually(t, patience, "the pod says "+reason, func() error {
			now, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range now.Status.Conditions {
				if c.Type == keys.Checkpointable && c.Reason == reason {
					return nil
				}
			}
			return errors.New("it does not")
		})
	}
	await(keys.UnprotectedNamespace)
	says(t, s.ns, map[string]string{operator.Namespaces: "another, " + s.ns})
	await(keys.UnprotectedNotAdmitted) // by then a new one would be
}

// What cannot be understood is refused where it is written, also while the manager is down.
func TestWhatIsSaidForTheOperatorIsCheckedWhereItIsWritten(t *testing.T) {
	ns := namespace(t)
	const system = "checkpoint-system"
	_, err := shared.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	try := func(where string, data map[string]string) error {
		configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: operator.ConfigMap}, Data: data}
		_, err := shared.Client.CoreV1().ConfigMaps(where).Create(t.Context(), configMap, dryRun)
		return err
	}
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if try(system, map[string]string{operator.Paused: "yes"}) == nil {
			return errors.New("a bad value was taken")
		}
		return nil
	})
	for name, test := range map[string]struct {
		data    map[string]string
		refused string
	}{
		"nothing": {},
		"all": {data: map[string]string{
			"paused": "true\n", "namespaces": "one, two\nthree", "namespaceSelector": "team in (a,b)", "namespaceQuota": "50Gi",
		}},
		"a pause that is none": {data: map[string]string{"paused": "yes"}, refused: `paused of ConfigMap checkpoint-operator is "yes"; it may be "true" or "false"`},
		"a key that there is not": {
			data: map[string]string{"pause": "true"}, refused: `ConfigMap checkpoint-operator has the key "pause"; it may have paused, namespaces, namespaceSelector`,
		},
		"what no namespace is called": {data: map[string]string{"namespaces": "one,Two"}, refused: `namespaces of ConfigMap checkpoint-operator is "one,Two"`},
		"no namespace":                {data: map[string]string{"namespaces": ""}, refused: `namespaces of ConfigMap checkpoint-operator is ""`},
		"an empty selector":           {data: map[string]string{"namespaceSelector": " "}, refused: "namespaceSelector of ConfigMap checkpoint-operator is empty"},
		"a quota of nothing":          {data: map[string]string{"namespaceQuota": "0"}, refused: `checkpoint-operator is "0"; it may be a quantity`},
		"a quota that is none":        {data: map[string]string{"namespaceQuota": "much"}, refused: `namespaceQuota of ConfigMap checkpoint-operator is "much"`},
	} {
		t.Run(name, func(t *testing.T) { checkAnswer(t, try(system, test.data), test.refused) })
	}
	t.Run("somebody else's ConfigMap", func(t *testing.T) { checkAnswer(t, try(ns, map[string]string{"any": "thing"}), "") })
	for value, refused := range map[string]string{"50Gi": "", "lots": `annotation memverge.ai/checkpoint-quota is "lots"; it may be a quantity of bytes above 0`} {
		t.Run("a namespace with a quota of "+value, func(t *testing.T) {
			home := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Annotations: map[string]string{keys.NamespaceQuota: value}}}
			_, err := shared.Client.CoreV1().Namespaces().Create(t.Context(), home, dryRun)
			checkAnswer(t, err, refused)
		})
	}
	for value, refused := range map[string]string{"true": "", "false": "", "yes": `label memverge.ai/checkpoint-pin is "yes"; it may be "true" or "false"`} {
		t.Run("a Checkpoint with a pin of "+value, func(t *testing.T) {
			c := newCheckpoint()
			c.Labels = map[string]string{keys.CheckpointPin: value}
			_, err := client.CheckpointV1alpha1().Checkpoints(ns).Create(t.Context(), c, dryRun)
			checkAnswer(t, err, refused)
		})
	}
}
