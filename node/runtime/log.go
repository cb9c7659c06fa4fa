package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/node/engine"
)

// logLine is a line of a pod's log: JSON, with the keys that agent and manager have in theirs.
type logLine struct {
	Time      string `json:"ts"`
	Process   int    `json:"pid"`
	Verb      string `json:"verb"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	PodUID    string `json:"podUID"`
	// Checkpoint is the one that is made, or gone on from; empty where there is none.
	Checkpoint string `json:"checkpoint,omitempty"`
	Message    string `json:"msg"`
}

// engine returns an engine that writes its log where that of the pod is.
func (f *front) engine(pod capture.Pod) *engine.Engine {
	checkpoint := sync.OnceValue(func() string { return f.checkpointOf(pod) })
	return &engine.Engine{Node: f.node, Log: func(format string, args ...any) {
		dir := filepath.Join(f.node.Root, "run/checkpoint/log")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return
		}
		file, err := os.OpenFile(filepath.Join(dir, pod.UID+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		defer file.Close()
		var line strings.Builder // written at once: several processes may be at it
		encoder := json.NewEncoder(&line)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(logLine{
			Time: time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), Process: os.Getpid(), Verb: f.words.verb,
			Namespace: pod.Namespace, Pod: pod.Name, PodUID: pod.UID, Checkpoint: checkpoint(), Message: fmt.Sprintf(format, args...),
		}); err == nil {
			_, _ = file.WriteString(line.String())
		}
	}}
}

// checkpointOf is the name of the Checkpoint that the call is about, as far as it is known when it begins: that of a capture, or the one that the pod goes on
// from.
func (f *front) checkpointOf(pod capture.Pod) string {
	operands, _ := f.words.operands()
	switch {
	case f.words.verb == "capture-live" && len(operands) > 1:
		return operands[1]
	case f.words.verb == "capture" || f.words.verb == "kill":
		return pod.LastCheckpoint()
	case f.words.verb == "settle":
		partials, err := filepath.Glob(filepath.Join(f.node.Captures(pod.UID), "*.partial"))
		for i := len(partials) - 1; err == nil && i >= 0; i-- {
			if record, err := capture.Read(partials[i]); err == nil {
				return record.CheckpointName()
			}
		}
	}
	if d, err := f.node.Decision(pod.UID); err == nil {
		return d.Checkpoint
	}
	return ""
}
