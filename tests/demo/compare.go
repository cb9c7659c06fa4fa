package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// compare fails unless the new pod is the old process: by what it prints, and by what the operator says.
func (s *story) compare(ctx context.Context) error {
	before, after := s.before.numbers(), s.after.numbers()
	last, first := before[len(before)-1], after[0]
	s.say("the last lines of %s on %s:", s.old.Name, s.old.Spec.NodeName)
	for _, l := range before[max(0, len(before)-shown):] {
		s.show(l.text)
	}
	s.say("the first lines of %s on %s:", s.new.Name, s.new.Spec.NodeName)
	for _, l := range after[:min(shown, len(after))] {
		s.show(l.text)
	}
	if err := s.continued(last, first); err != nil {
		return err
	}
	if err := s.step("condition "+keys.Restored+" of the new pod is True", func() error { return s.provenByCondition(ctx) }); err != nil {
		return err
	}
	return s.step("the program counts on until it has checked all of its 256 MiB once more", func() error {
		return await(ctx, time.Minute, func() error {
			select {
			case <-s.after.ended:
				return final(fmt.Errorf("the program ended: %s", strings.Join(s.after.rest(), "; ")))
			default:
			}
			if n := len(s.after.numbers()); n < wholeTurn {
				return fmt.Errorf("it has printed %d numbers", n)
			}
			return nil
		})
	})
}

// continued tells whether first can be what a process printed that had printed last.
func (s *story) continued(last, first line) error {
	switch {
	case first.count <= last.count:
		return fmt.Errorf("the count did not continue: the old pod's last number is %d, the new pod's first is %d", last.count, first.count)
	case first.count > last.count+1:
		return fmt.Errorf("numbers are missing: the old pod's last number is %d, the new pod's first is %d", last.count, first.count)
	case first.pid != last.pid:
		return fmt.Errorf("the process has PID %s, and had %s", first.pid, last.pid)
	case first.checksum != last.checksum:
		return fmt.Errorf("the data has the checksum %s, and had %s", first.checksum, last.checksum)
	case s.new.Spec.NodeName == s.old.Spec.NodeName:
		return fmt.Errorf("the new pod is on %s, too", s.new.Spec.NodeName)
	}
	s.say("%d follows %d; PID %s and checksum are the same.", first.count, last.count, first.pid)
	return nil
}

// provenByCondition waits for the operator's own word that the pod was restored.
func (s *story) provenByCondition(ctx context.Context) error {
	return await(ctx, 20*time.Second, func() error {
		pod := s.time.live(s.new.UID)
		if pod == nil {
			return final(errors.New("the new pod is gone again"))
		}
		if restored := restoredOf(pod); restored != nil && restored.Status != corev1.ConditionTrue {
			return final(fmt.Errorf("it is %s, reason %s: %s", restored.Status, restored.Reason, restored.Message))
		} else if restored != nil {
			return nil
		}
		return errors.New("the pod lacks it")
	})
}

// restoredOf returns the condition by which the operator says whether a pod was restored, or nil.
func restoredOf(pod *corev1.Pod) *corev1.PodCondition {
	for i, condition := range pod.Status.Conditions {
		if condition.Type == keys.Restored {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
