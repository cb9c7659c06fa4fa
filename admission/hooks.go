package admission

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// takeHooks takes the preStop hooks out of containers: kubelet would run them before the stop signal, and what is captured then is half
// stopped. The runtime runs them when a capture failed. A hook that only sleeps does no harm and stays.
func takeHooks(containers []*corev1.Container, earlier map[string]capture.Hook) []capture.Hook {
	var hooks []capture.Hook
	for _, c := range containers {
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
			if hook, found := earlier[c.Name]; found {
				hooks = append(hooks, hook)
			}
			continue
		}
		hook := hookOf(c)
		if hook == nil {
			continue
		}
		hooks = append(hooks, *hook)
		c.Lifecycle.PreStop = nil
		if *c.Lifecycle == (corev1.Lifecycle{}) {
			c.Lifecycle = nil
		}
	}
	return hooks
}

// hookOf is nil for a hook that has to stay.
func hookOf(c *corev1.Container) *capture.Hook {
	switch handler := c.Lifecycle.PreStop; {
	case handler.Exec != nil && len(handler.Exec.Command) > 0:
		return &capture.Hook{Container: c.Name, Exec: handler.Exec.Command}
	case handler.HTTPGet != nil && handler.HTTPGet.Host == "": // one with a host stays, or Pod Security, which forbids it, would not see it
		if http := httpHook(c, handler.HTTPGet); http != nil {
			return &capture.Hook{Container: c.Name, HTTP: http}
		}
	}
	return nil
}

func httpHook(c *corev1.Container, get *corev1.HTTPGetAction) *capture.HTTPHook {
	hook := &capture.HTTPHook{Scheme: strings.ToLower(string(get.Scheme)), Port: get.Port.IntValue(), Path: get.Path}
	if get.Port.Type == intstr.String {
		for _, port := range c.Ports {
			if port.Name == get.Port.StrVal {
				hook.Port = int(port.ContainerPort)
			}
		}
	}
	if hook.Port == 0 {
		return nil
	}
	for _, header := range get.HTTPHeaders {
		if hook.Headers == nil {
			hook.Headers = map[string]string{}
		}
		hook.Headers[header.Name] = header.Value
	}
	return hook
}

// earlierHooks are those that were taken out when the pod came by before. A user who writes the annotation gains nothing that a hook in
// the spec would not give: a command in their own container, or a request to their own pod.
func earlierHooks(annotation string) map[string]capture.Hook {
	if annotation == "" {
		return nil
	}
	settings, err := capture.ParseSettings(annotation)
	if err != nil {
		return nil
	}
	hooks := map[string]capture.Hook{}
	for _, hook := range settings.PreStop {
		command, request := len(hook.Exec) > 0, hook.HTTP != nil && hook.HTTP.Host == "" && hook.HTTP.Port > 0
		if command != request && (hook.HTTP == nil || request) {
			hooks[hook.Container] = hook
		}
	}
	return hooks
}
