package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// LogsOf says whose logs are looked for: those of the capture of a pod, or of its restore.
type LogsOf struct {
	capture.Pod
	// CheckpointUID is that of the Checkpoint whose capture it is; empty for a restore.
	CheckpointUID string
	Restore       bool
}

// Logs returns CRIU's logs that the node has, with the runtime's own of the pod behind them. Of the Agent it needs the Node and its name.
func (a *Agent) Logs(of LogsOf) (*inspect.Logs, error) {
	for _, name := range []string{of.Namespace, of.Name, of.UID} {
		if name == "" || name != filepath.Base(name) || strings.ContainsAny(name, `*?[\`) {
			return nil, fmt.Errorf("%q is no name of a pod, of a namespace, or a UID", name)
		}
	}
	l := &inspect.Logs{}
	var err error
	if of.Restore {
		err = errors.Join(a.addLogs(l, a.Node.Restores(of.UID), "log-*/*.log"), a.addLogs(l, a.diagnosisOf(about{Pod: of.Pod}, "restore"), "log-*/*.log"))
	} else {
		err = a.addLogsOfCapture(l, of)
	}
	if err == nil {
		err = a.addLogs(l, filepath.Join(a.Node.Root, "run/checkpoint/log"), of.UID+".log")
	}
	return l, err
}

// addLogsOfCapture looks where captures are, and where those stay that are needed no more.
func (a *Agent) addLogsOfCapture(l *inspect.Logs, of LogsOf) error {
	live := filepath.Join(a.Node.Captures(of.UID), "[0-9]*")
	kept := a.diagnosisOf(about{Pod: of.Pod}, "[0-9]*")
	found := false
	for _, pattern := range []string{live, kept} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if !isCaptureOf(dir, of.CheckpointUID) {
				continue
			}
			found = true
			if err := a.addLogs(l, dir, "log/*/*.log"); err != nil {
				return err
			}
		}
	}
	if !found {
		l.Looked = append(l.Looked, fmt.Sprintf("node %s: it has no capture of it any more, in %s (captures go some minutes after their upload) or %s "+
			"(pods with %s: %q leave theirs)",
			a.NodeName, a.Node.Captures(of.UID), a.Node.DiagnosisRoot(), keys.CheckpointDiagnosis, keys.True))
	}
	return nil
}

// isCaptureOf tells whether a folder has the capture of a Checkpoint: by the agent's memo, by what asked for it, or, where neither is known, since it is of the
// same pod at its end.
func isCaptureOf(dir, checkpointUID string) bool {
	record, err := capture.Read(dir)
	if err != nil {
		return false
	}
	m, err := readMemo(dir)
	switch {
	case err == nil && m.CheckpointUID != "":
		return m.CheckpointUID == checkpointUID
	case record.Trigger.Asks != nil && record.Trigger.IsLive():
		return record.Trigger.Asks.UID == checkpointUID
	}
	return record.Trigger.IsTermination()
}

// addLogs adds the ends of the files in a folder that a pattern fits.
func (a *Agent) addLogs(l *inspect.Logs, dir, pattern string) error {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		l.Looked = append(l.Looked, fmt.Sprintf("node %s: there is no %s", a.NodeName, filepath.Join(dir, pattern)))
	}
	for _, file := range files {
		text, err := endOf(file)
		if errors.Is(err, os.ErrNotExist) { // it went meanwhile
			continue
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		l.Found = append(l.Found, inspect.Log{Name: name, Where: "node " + a.NodeName + ", " + dir, Text: text})
	}
	return nil
}

// endOf is what a file has in its last inspect.MostLog bytes.
func endOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil {
		_, err = file.Seek(max(info.Size()-inspect.MostLog, 0), io.SeekStart)
	}
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(file, inspect.MostLog))
	return string(data), err
}
