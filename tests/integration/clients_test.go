package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	"github.com/transparent-checkpoint/operator/generated/informers/externalversions"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// TestTheGeneratedClients is also how to use them, for whoever writes a program of their own against this API: it waits for Checkpoints to become Ready.
func TestTheGeneratedClients(t *testing.T) {
	ns := namespace(t)
	clients, err := versioned.NewForConfig(shared.Config)
	if err != nil {
		t.Fatal(err)
	}
	checkpoints := clients.CheckpointV1alpha1().Checkpoints(ns)

	// An informer keeps a copy of what there is, tells of changes, and a lister reads the copy without asking the API server.
	factory := externalversions.NewSharedInformerFactoryWithOptions(clients, time.Hour, externalversions.WithNamespace(ns))
	informer := factory.Checkpoint().V1alpha1().Checkpoints()
	ready := make(chan string, 8)
	_, err = informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, changed any) {
		c := changed.(*v1alpha1.Checkpoint)
		for _, condition := range c.Status.Conditions {
			if condition.Type == v1alpha1.CheckpointReady && condition.Status == metav1.ConditionTrue {
				ready <- c.Name
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	for kind, synced := range factory.WaitForCacheSync(t.Context().Done()) {
		if !synced {
			t.Fatalf("the copy of %s is not complete", kind)
		}
	}

	// The clientset creates, reads, lists, watches and deletes.
	made, err := checkpoints.Create(t.Context(), newCheckpoint(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	// An apply configuration says what one writer has to say, and leaves what others wrote.
	status := apply.Checkpoint(made.Name, ns).WithStatus(apply.CheckpointStatus().WithSizeBytes(1 << 20))
	if _, err := checkpoints.ApplyStatus(t.Context(), status, metav1.ApplyOptions{FieldManager: keys.PublishFields}); err != nil {
		t.Fatal(err)
	}
	done := apply.Checkpoint(made.Name, ns).WithStatus(apply.CheckpointStatus().WithConditions(readyCondition()))
	if _, err := checkpoints.ApplyStatus(t.Context(), done, metav1.ApplyOptions{FieldManager: keys.ManagerFields, Force: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case name := <-ready:
		if name != made.Name {
			t.Errorf("%s is ready; %s should be", name, made.Name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody told that it is ready")
	}
	lab.Eventually(t, 10*time.Second, "the copy has it", func() error {
		listed, err := informer.Lister().Checkpoints(ns).List(labels.Everything())
		if err != nil || len(listed) != 1 {
			return errors.Join(err, fmt.Errorf("it has %d Checkpoints", len(listed)))
		}
		if c := listed[0]; c.Status.SizeBytes == nil || *c.Status.SizeBytes != 1<<20 {
			return fmt.Errorf("its size is %v", c.Status.SizeBytes)
		}
		return nil
	})
}

func readyCondition() *metaapply.ConditionApplyConfiguration {
	return metaapply.Condition().WithType(v1alpha1.CheckpointReady).WithStatus(metav1.ConditionTrue).WithReason(v1alpha1.StateCompleted).
		WithMessage("").WithLastTransitionTime(metav1.Now())
}
