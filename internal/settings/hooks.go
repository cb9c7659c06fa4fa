package settings

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// hookKeys are those of one phase.
type hookKeys struct {
	phase                                capture.HookPhase
	command, container, timeout, onError string
}

// allHookKeys are in the order in which the phases come.
var allHookKeys = []hookKeys{
	{capture.PreCheckpoint, keys.PreCheckpointHook, keys.PreCheckpointHookContainer, keys.PreCheckpointHookTimeout, keys.PreCheckpointHookOnError},
	{capture.PostCheckpoint, keys.PostCheckpointHook, keys.PostCheckpointHookContainer, keys.PostCheckpointHookTimeout, keys.PostCheckpointHookOnError},
	{capture.PostRestore, keys.PostRestoreHook, keys.PostRestoreHookContainer, keys.PostRestoreHookTimeout, keys.PostRestoreHookOnError},
}

// hooks reads the keys of all phases. What says more of a command that there is not has no meaning, and there is a warning.
func (r *reader) hooks() map[capture.HookPhase][]capture.Command {
	found := map[capture.HookPhase][]capture.Command{}
	for _, k := range allHookKeys {
		words := resolve(r, k.command, command)
		one := capture.Command{
			Container: resolve(r, k.container, hookContainer),
			Words:     words,
			Timeout:   cmp.Or(resolve(r, k.timeout, hookTimeout), v1alpha1.DefaultHookTimeout),
			Breaks:    resolve(r, k.onError, onError) == v1alpha1.HookFail,
		}
		switch _, said := r.from[k.command]; {
		case said && len(words) > 0:
			found[k.phase] = []capture.Command{one}
		case said:
			found[k.phase] = []capture.Command{}
		default:
			for _, key := range []string{k.container, k.timeout, k.onError} {
				if where := r.from[key]; where != "" {
					r.warnings = append(r.warnings, fmt.Sprintf("%s has no meaning without %s, and does not count", where, k.command))
				}
			}
		}
	}
	return found
}

// command reads the words of a command: a JSON array of strings, or one word. An empty array is no command.
func command(w written) (words []string, err error) {
	wrong := w.wrong(`a JSON array of words, as ["sh", "-c", "sync"], one word, or [] for none`)
	switch text := strings.TrimSpace(w.text); {
	case strings.HasPrefix(text, "["):
		if json.Unmarshal([]byte(text), &words) != nil {
			return nil, wrong
		}
	case text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return nil, wrong
	default:
		words = []string{text}
	}
	switch {
	case len(words) > v1alpha1.MostHookWords:
		return nil, fmt.Errorf("%s has %d words; it may have %d", w.where, len(words), v1alpha1.MostHookWords)
	case slices.ContainsFunc(words, func(word string) bool { return len(word) > v1alpha1.MostHookWordBytes }):
		return nil, fmt.Errorf("%s has a word of more bytes than %d", w.where, v1alpha1.MostHookWordBytes)
	case len(words) > 0 && words[0] == "":
		return nil, wrong
	}
	return words, nil
}

// hookContainer reads the name of a container, which a webhook may be going to add. Whether a pod has it the ValidatingAdmissionPolicy looks, which comes last.
func hookContainer(w written) (string, error) {
	name := strings.TrimSpace(w.text)
	if name == "" {
		return "", w.wrong("the name of a container")
	}
	return name, nil
}

// durations is how the API writes them.
var durations = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

func hookTimeout(w written) (time.Duration, error) {
	timeout, err := time.ParseDuration(w.text)
	if err != nil || !durations.MatchString(w.text) || timeout < v1alpha1.LeastHookTimeout || timeout > v1alpha1.MostHookTimeout {
		return 0, w.wrong("a duration from 1s to 5m, as 30s")
	}
	return timeout, nil
}

func onError(w written) (v1alpha1.HookErrorMode, error) {
	mode := v1alpha1.HookErrorMode(w.text)
	if mode != v1alpha1.HookContinue && mode != v1alpha1.HookFail {
		return "", w.wrong(fmt.Sprintf("%q or %q", v1alpha1.HookContinue, v1alpha1.HookFail))
	}
	return mode, nil
}

// Commands are the hooks of a policy as the runtime knows them.
func Commands(hooks []v1alpha1.Hook) (commands []capture.Command) {
	for _, h := range hooks {
		c := capture.Command{
			Container: h.Container, Words: h.Exec.Command, Timeout: v1alpha1.DefaultHookTimeout, Breaks: h.OnError == v1alpha1.HookFail,
		}
		if h.Timeout != nil {
			c.Timeout = h.Timeout.Duration
		}
		commands = append(commands, c)
	}
	return commands
}

// addHooks writes the hooks into what the runtime reads, which has the names of the captured containers: those that keys say, or else those of the
// CheckpointPolicy, nil if the pod has none. What is for other containers is left out.
func (s Settings) addHooks(effective *capture.Settings, policy *v1alpha1.CheckpointPolicy) {
	pre, post := s.Hooks[capture.PreCheckpoint], s.Hooks[capture.PostCheckpoint]
	if policy != nil && policy.Spec.Hooks != nil {
		if pre == nil {
			pre = Commands(policy.Spec.Hooks.PreCheckpoint)
		}
		if post == nil {
			post = Commands(policy.Spec.Hooks.PostCheckpoint)
		}
	}
	effective.PreCheckpoint, effective.PostCheckpoint = forThese(pre, effective.Containers), forThese(post, effective.Containers)
	effective.PostRestore = forThese(s.Hooks[capture.PostRestore], effective.Containers)
}

// forThese leaves out commands for other containers than these.
func forThese(commands []capture.Command, containers []string) []capture.Command {
	return slices.DeleteFunc(slices.Clone(commands), func(c capture.Command) bool { return !reaches(c, containers) })
}

// reaches tells whether a command is run in one of the containers.
func reaches(c capture.Command, containers []string) bool {
	return c.Container == "" || slices.Contains(containers, c.Container)
}

// LostHooks says, a sentence each, which hooks of keys are run nowhere, as their containers are not among those that are captured.
func (s Settings) LostHooks(captured []string) (sentences []string) {
	for _, k := range allHookKeys {
		for _, c := range s.Hooks[k.phase] {
			if !reaches(c, captured) {
				sentences = append(sentences, fmt.Sprintf("the hook of %s is not run: container %q of %s is not captured",
					s.From[k.command], c.Container, s.From[k.container]))
			}
		}
	}
	return sentences
}
