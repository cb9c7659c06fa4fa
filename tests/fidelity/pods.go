package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// severalContainers are programs whose containers depend on each other.
func severalContainers() []Program {
	return []Program{pair("pair", "two containers that talk over loopback and share System V memory, semaphores and messages", nil), pair("pair-of-a-sidecar",
		"the same, where one is a native sidecar", func(spec *corev1.PodSpec) {
			always := corev1.ContainerRestartPolicyAlways
			sidecar := spec.Containers[0]
			sidecar.RestartPolicy = &always
			spec.InitContainers, spec.Containers = []corev1.Container{sidecar}, spec.Containers[1:]
		})}
}

// pair is a pod of two containers that play a number back and forth. It never goes back, and both must know of it.
func pair(name, about string, change func(*corev1.PodSpec)) Program {
	var mu sync.Mutex
	last := uint64(0)
	return Program{
		Name: name, About: about, Image: goProgram("pair"), Quick: change == nil,
		Spec: func(image string) corev1.PodSpec {
			spec := onePod(image, "left")
			spec.Containers[0].Name = "left"
			right := spec.Containers[0]
			right.Name, right.Args = "right", []string{"right"}
			spec.Containers = append(spec.Containers, right)
			if change != nil {
				change(&spec)
			}
			return spec
		},
		Check: func(ctx context.Context, pod *Pod) error {
			for _, port := range []int{8080, 8081} {
				body, err := pod.Get(ctx, port, "/check")
				if err != nil {
					return err
				}
				now, err := strconv.ParseUint(strings.TrimSpace(body), 10, 64)
				if err != nil {
					return err
				}
				mu.Lock()
				was := last
				last = max(last, now)
				mu.Unlock()
				if now+2 < was { // the other may be ahead
					return fmt.Errorf("the number is %d; it was %d", now, was)
				}
			}
			return nil
		},
	}
}
