package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// jobYAML is the Job of the product's page, as it stands there.
//
//go:embed job.yaml
var jobYAML string

const (
	namespace = "default"
	jobName   = "my-checkpointed-job"
	image     = "my-image:latest"
	// enough is how many numbers the first pod counts before it is deleted.
	enough = 10
	// shown is how many numbers of each pod are shown.
	shown = 3
	// wholeTurn is how many numbers it takes until the program has checked all of its data.
	wholeTurn = 32
)

// story is what the demo shows, step by step, and what was seen.
type story struct {
	*teller
	operator *install.Operator
	client   kubernetes.Interface
	config   *rest.Config
	time     *timeline

	job      types.UID
	old, new *corev1.Pod
	before   *output
	after    *output
	deleted  time.Time
}

func newStory(cluster *lab.Cluster, operator *install.Operator, told *teller) *story {
	config := rest.CopyConfig(cluster.Config)
	config.Timeout = 0 // or watches and logs would be cut off
	return &story{teller: told, operator: operator, client: cluster.Client, config: config}
}

func (s *story) tell(ctx context.Context) (err error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	if s.time, err = watch(watching, s.config, namespace); err != nil {
		return err
	}
	if err := s.step("make room: uncordon nodes, remove the Job of an earlier run", func() error { return s.makeRoom(ctx) }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.uncordon(context.WithoutCancel(ctx))) }()
	for _, chapter := range []func(context.Context) error{s.run, s.delete, s.comeBack, s.compare, s.look} {
		if err := chapter(ctx); err != nil {
			s.explain(context.WithoutCancel(ctx))
			return err
		}
	}
	return nil
}

// makeRoom makes the second run of the demo like the first.
func (s *story) makeRoom(ctx context.Context) error {
	if err := s.uncordon(ctx); err != nil {
		return err
	}
	foreground := metav1.DeletePropagationForeground
	err := s.client.BatchV1().Jobs(namespace).Delete(ctx, jobName, metav1.DeleteOptions{PropagationPolicy: &foreground})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return await(ctx, 3*time.Minute, func() error {
		_, err := s.client.BatchV1().Jobs(namespace).Get(ctx, jobName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, fmt.Errorf("the Job %s of the last run is still there", jobName))
	})
}

func (s *story) uncordon(ctx context.Context) error {
	nodes, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		if !node.Spec.Unschedulable {
			continue
		}
		if err := s.setUnschedulable(ctx, node.Name, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) setUnschedulable(ctx context.Context, node string, value bool) error {
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, value)
	_, err := s.client.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// run starts the Job and lets it count for a while.
func (s *story) run(ctx context.Context) error {
	s.title("1. A Job with one label: " + keys.CheckpointMode)
	s.show(strings.Split(strings.TrimSpace(jobYAML), "\n")...)
	err := s.step("apply it, and wait for its pod", func() error {
		if err := s.applyJob(ctx); err != nil {
			return err
		}
		return await(ctx, time.Minute, func() error {
			if s.old = s.time.podOf(s.job); s.old == nil || s.old.Spec.NodeName == "" {
				return errors.New("the Job has no pod on a node")
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	s.before = follow(ctx, s.streams(), s.old)
	err = s.step(fmt.Sprintf("the pod fills 256 MiB on %s; wait until it counted to %d", s.old.Spec.NodeName, enough), func() error {
		return await(ctx, time.Minute, func() error {
			if n := len(s.before.numbers()); n < enough {
				return fmt.Errorf("it counted to %d so far %s", n, strings.Join(s.before.rest(), "; "))
			}
			return nil
		})
	})
	return err
}

// applyJob applies the Job with kubectl, as a person would, and notes its UID.
func (s *story) applyJob(ctx context.Context) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	path := filepath.Join(root, "tests/demo/job.yaml")
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if _, err := s.operator.Kubectl(ctx, "apply", "-n", namespace, "-f", path); err != nil {
		return err
	}
	var job *batchv1.Job
	if job, err = s.client.BatchV1().Jobs(namespace).Get(ctx, jobName, metav1.GetOptions{}); err != nil {
		return err
	}
	s.job = job.UID
	return nil
}

// streams returns a client whose answers may take as long as they like.
func (s *story) streams() kubernetes.Interface { return kubernetes.NewForConfigOrDie(s.config) }

// delete takes the pod away, and its node from the scheduler.
func (s *story) delete(ctx context.Context) error {
	node := s.old.Spec.NodeName
	s.title("2. Its node is cordoned and its pod deleted")
	err := s.step("kubectl cordon "+node, func() error { return s.setUnschedulable(ctx, node, true) })
	if err != nil {
		return err
	}
	return s.step(fmt.Sprintf("kubectl delete pod %s: wait until it is gone", s.old.Name), func() error {
		s.deleted = time.Now()
		if err := s.client.CoreV1().Pods(namespace).Delete(ctx, s.old.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		err := await(ctx, 3*time.Minute, func() error {
			if _, ok := s.time.when(gone, s.old.UID); !ok {
				return errors.New("the pod is still there")
			}
			return nil
		})
		if err != nil {
			return err
		}
		select { // the last of its output is on its way
		case <-s.before.ended:
		case <-time.After(10 * time.Second):
		}
		return nil
	})
}

// comeBack waits for the pod that the Job controller makes instead, and for its first number.
func (s *story) comeBack(ctx context.Context) error {
	s.title("3. The Job's next pod goes on, on the other node")
	err := s.step("wait for the Job controller, which holds a new pod back for about 10 s", func() error {
		return await(ctx, 2*time.Minute, func() error {
			if s.new = s.time.podOf(s.job, s.old.UID); s.new == nil || s.new.Spec.NodeName == "" {
				return errors.New("the Job has no new pod on a node")
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	s.after = follow(ctx, s.streams(), s.new)
	return s.step(fmt.Sprintf("pod %s is on %s; wait for its first numbers", s.new.Name, s.new.Spec.NodeName), func() error {
		return await(ctx, 2*time.Minute, func() error {
			if len(s.after.numbers()) >= shown {
				return nil
			}
			pod := s.time.live(s.new.UID)
			if pod == nil {
				return final(errors.New("the new pod is gone again"))
			}
			if restored := restoredOf(pod); restored != nil && restored.Status == corev1.ConditionFalse {
				return final(fmt.Errorf("the count did not continue: the new pod started cold, reason %s: %s", restored.Reason, restored.Message))
			}
			return fmt.Errorf("it is %s and has printed too few numbers; %s", pod.Status.Phase, strings.Join(s.after.rest(), "; "))
		})
	})
}
