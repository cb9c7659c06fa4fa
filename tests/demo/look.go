package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// look shows what the operator has to say of it, and how long everything took.
func (s *story) look(ctx context.Context) error {
	s.title("4. What there is to see")
	err := s.step("wait until the Checkpoint is "+v1alpha1.StateCompleted, func() error {
		return await(ctx, time.Minute, func() error {
			checkpoint := s.time.of(s.old.UID)
			if checkpoint == nil {
				return errors.New("there is no Checkpoint of the old pod")
			}
			_, inBucket := s.time.when(uploaded, s.old.UID)
			ready := meta.FindStatusCondition(checkpoint.Status.Conditions, v1alpha1.CheckpointReady)
			if !inBucket || ready == nil || ready.Status != metav1.ConditionTrue {
				return fmt.Errorf("its condition Ready is %+v", ready)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	s.kubectl(ctx, "get", "checkpoints,restorepolicies", "-n", namespace, "-o", "wide")
	s.kubectl(ctx, "events", "-n", namespace, "--for=pod/"+s.old.Name)
	s.kubectl(ctx, "events", "-n", namespace, "--for=pod/"+s.new.Name)
	if err := s.showBucket(ctx); err != nil {
		return err
	}
	s.title("5. How long it took")
	return s.showTimes()
}

// kubectl runs a command and shows it with what it prints.
func (s *story) kubectl(ctx context.Context, args ...string) {
	s.say("$ kubectl %s", strings.Join(args, " "))
	output, err := s.operator.Kubectl(ctx, args...)
	if err != nil {
		output = err.Error()
	}
	s.show(strings.Split(strings.TrimSpace(output), "\n")...)
}

// mostKeys is how many keys are shown; the rest are more of the same.
const mostKeys = 6

// showBucket lists the largest objects of each lineage, and what all objects take.
func (s *story) showBucket(ctx context.Context) error {
	objects, err := s.operator.Objects(ctx, "")
	if err != nil {
		return err
	}
	var total int64
	var prefixes []string
	below := map[string][]install.Object{}
	for _, object := range objects {
		total += object.Size
		prefix := prefixOf(object.Key)
		if below[prefix] == nil {
			prefixes = append(prefixes, prefix)
		}
		below[prefix] = append(below[prefix], object)
	}
	s.say("the bucket %s has %d objects, %s:", install.Bucket, len(objects), mebibytes(total))
	for _, prefix := range prefixes {
		s.show(prefix)
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		inside := below[prefix]
		slices.SortStableFunc(inside, func(a, b install.Object) int { return cmp.Compare(b.Size, a.Size) })
		for _, object := range inside[:min(mostKeys, len(inside))] {
			fmt.Fprintf(table, "      %s\t  %s\n", mebibytes(object.Size), strings.TrimPrefix(object.Key, prefix))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if more := len(inside) - mostKeys; more > 0 {
			s.show(fmt.Sprintf("  … and %d smaller ones", more))
		}
	}
	return nil
}

// prefixOf returns what the keys of a lineage have in common: checkpoints/NAMESPACE/LINEAGE/.
func prefixOf(key string) string {
	parts := strings.SplitAfterN(key, "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "")
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.2f MiB", float64(bytes)/(1<<20)) }

// showTimes prints the table. Times are of this machine's clock: when a watch brought the news, or when a line was written to a log.
func (s *story) showTimes() error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	checkpoint := s.time.of(s.old.UID)
	if checkpoint == nil || checkpoint.Status.Frozen == nil {
		return fmt.Errorf("the Checkpoint of %s does not say for how long the program was frozen", s.old.Name)
	}
	before, after := s.before.numbers(), s.after.numbers()
	wentAway, _ := s.time.when(gone, s.old.UID)
	safe, _ := s.time.when(uploaded, s.old.UID)
	over, _ := s.time.when(ended, s.old.UID)
	born, _ := s.time.when(created, s.new.UID)
	first := after[0].at
	for _, row := range []struct {
		what string
		took time.Duration
		note string
	}{
		{"frozen: no instruction runs while the state is written", checkpoint.Status.Frozen.Duration, ""},
		{"delete → pod gone", wentAway.Sub(s.deleted), ""},
		{"delete → durable in the bucket", safe.Sub(s.deleted), ""},
		{"old pod ended → new pod created", born.Sub(over), "the Job controller's back-off, the same without the operator"},
		{"new pod created → running again", first.Sub(born), "until the program's next line"},
		{"last line of the old pod → first of the new", first.Sub(before[len(before)-1].at), ""},
	} {
		fmt.Fprintf(table, "    %s\t%8.2f s\t%s\n", row.what, row.took.Seconds(), row.note)
	}
	return table.Flush()
}

// explain shows what helps to find out why a chapter failed.
func (s *story) explain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s.title("Something did not work. What the cluster says:")
	s.kubectl(ctx, "get", "pods,checkpoints,restorepolicies", "-n", namespace, "-o", "wide")
	if s.new != nil {
		s.kubectl(ctx, "events", "-n", namespace, "--for=pod/"+s.new.Name)
	} else if s.old != nil {
		s.kubectl(ctx, "events", "-n", namespace, "--for=pod/"+s.old.Name)
	}
	s.kubectl(ctx, "get", "pods", "-n", install.AgentNamespace, "-o", "wide")
	s.kubectl(ctx, "logs", "-n", install.AgentNamespace, "daemonset/"+install.Agent, "--tail=15", "--prefix", "--all-pods")
}
