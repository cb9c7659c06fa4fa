package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// programs are all rows of the matrix.
func programs() []Program {
	return slices.Concat([]Program{testapp()}, kernel(), severalContainers(), debianPrograms(), compiledPrograms())
}

// onePod is the spec of a pod with one container.
func onePod(image string, args ...string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image, ImagePullPolicy: corev1.PullNever, Args: args}}}
}

// testapp counts and answers; its count never goes back.
func testapp() Program {
	var mu sync.Mutex
	last := int64(0)
	return Program{
		Name: "testapp", Quick: true, About: "a Go program that counts", Image: goProgram("testapp"),
		Spec: func(image string) corev1.PodSpec { return onePod(image, "serve") },
		Check: func(ctx context.Context, pod *Pod) error {
			body, err := pod.Get(ctx, 8080, "/count")
			if err != nil {
				return err
			}
			var now struct{ Count int64 }
			if err := json.Unmarshal([]byte(body), &now); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if now.Count < last {
				return fmt.Errorf("the count is %d; it was %d", now.Count, last)
			}
			last = now.Count
			return nil
		},
	}
}
