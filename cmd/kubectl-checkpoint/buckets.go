package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/report"
)

// errDamaged has the command end with an error, for who calls it in a script.
var errDamaged = errors.New("the state is damaged")

func (c *cli) verifyCommand() *cobra.Command {
	o := &output{}
	command := &cobra.Command{
		Use:   "verify CHECKPOINT",
		Short: "Read all of a state in its bucket, and say what is not as it was written",
		Long: "Read all of a state in its bucket, and compare it with the digests that were written with it. What is missing or changed is named, with\n" +
			"the files that it belongs to and the other Checkpoints that need it, too. It ends with an error if there is something.",
		Example: `  kubectl checkpoint verify web-5c9d-1f2e3d4c
  for c in $(kubectl checkpoint list -o name); do kubectl checkpoint verify "$c" || echo "$c"; done`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: c.checkpointNames(),
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			found, err := c.checkpoint(command.Context(), k, namespace, args[0])
			if err != nil {
				return err
			}
			v, seen := &inspect.Verification{}, c.reading("read")
			err = c.askManager(command.Context(), k, v, seen, "verify", namespace, found.Name)
			seen.clear()
			if err != nil {
				return err
			}
			if !o.isForAPerson() {
				err = o.value(c, v)
			} else {
				err = report.WriteVerification(c.Out, v)
			}
			if err == nil && len(v.Damages) > 0 {
				err = errDamaged
			}
			return err
		},
	}
	o.addTo(command, asJSON, asYAML)
	return command
}

func (c *cli) duCommand() *cobra.Command {
	o, all := &output{}, false
	command := &cobra.Command{
		Use:   "du",
		Short: "Show what the states take in the buckets: by workload, what several share counted once, and what nothing names",
		Example: `  kubectl checkpoint du
  kubectl checkpoint du -A -o wide`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			words := []string{"du", namespace}
			if all {
				words = words[:1]
			}
			u := &inspect.Usage{}
			if err := c.askManager(command.Context(), k, u, nil, words...); err != nil {
				return err
			}
			if !o.isForAPerson() {
				return o.value(c, u)
			}
			return report.WriteUsage(c.Out, u, c.time(), o.format == wide)
		},
	}
	command.Flags().BoolVarP(&all, "all-namespaces", "A", false, "what is there of all namespaces")
	o.addTo(command, wide, asJSON, asYAML)
	return command
}

func (c *cli) exportCommand() *cobra.Command {
	container := ""
	command := &cobra.Command{
		Use:   "export CHECKPOINT FILE",
		Short: "Write a captured container as the archive that checkpointctl reads",
		Long: "Write a captured container as the archive that checkpointctl reads: CRIU's images and logs, the changes of its root file system,\n" +
			"/dev/shm, volumes. WHOEVER HAS IT CAN READ THE MEMORY OF THE PROGRAM: it is decrypted. The name - writes it to the standard output.",
		Example: `  kubectl checkpoint export web-5c9d-1f2e3d4c web.tar && checkpointctl inspect --all web.tar
  kubectl checkpoint export web-5c9d-1f2e3d4c - --container app | tar t`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: c.checkpointNames(),
		RunE: func(command *cobra.Command, args []string) error {
			ctx := command.Context()
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			found, err := c.checkpoint(ctx, k, namespace, args[0])
			if err != nil {
				return err
			}
			if err := c.mayEnter(ctx, k, managerPart); err != nil {
				return err
			}
			pod, err := c.onePodOf(ctx, k, managerPart, "")
			if err != nil {
				return err
			}
			words := []string{"export", namespace, found.Name}
			if container != "" {
				words = append(words, container)
			}
			return c.export(ctx, pod, args[1], words)
		},
	}
	command.Flags().StringVarP(&container, "container", "c", "", "the container; needed where several were captured")
	_ = command.RegisterFlagCompletionFunc("container", cobra.NoFileCompletions) // the flag is there
	return command
}

// export writes the archive to a file, which is there whole or not at all.
func (c *cli) export(ctx context.Context, pod *corev1.Pod, path string, words []string) (err error) {
	if path == "-" {
		_, err := c.receive(ctx, pod, c.Out, words)
		return err
	}
	partial := path + ".partial"
	file, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sent, err := c.receive(ctx, pod, file, words)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "%s written, %s. It holds the memory of the program: keep it safe.\n", path, report.Bytes(sent.Bytes))
	return nil
}

// receive streams an archive, and compares what came with what was sent.
func (c *cli) receive(ctx context.Context, pod *corev1.Pod, out io.Writer, words []string) (inspect.Sent, error) {
	var said bytes.Buffer
	hash, count := sha256.New(), &counter{}
	if err := c.inside(ctx, pod, managerPart, io.MultiWriter(out, hash, count), &said, words...); err != nil {
		return inspect.Sent{}, err
	}
	got, sent := inspect.Sent{Bytes: count.bytes, SHA256: hex.EncodeToString(hash.Sum(nil))}, inspect.Sent{}
	for line := range strings.Lines(said.String()) {
		if text, is := strings.CutPrefix(line, inspect.SentPrefix); is {
			if err := json.Unmarshal([]byte(text), &sent); err != nil {
				return got, err
			}
		}
	}
	if got != sent {
		return got, fmt.Errorf("the connection to the cluster lost a part of the archive: %d bytes came of %d; try it again", got.Bytes, sent.Bytes)
	}
	return got, nil
}

type counter struct{ bytes int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

// reading shows on a terminal how far a pod has come that reads a state. It takes the lines of inspect.ProgressPrefix.
type reading struct {
	out  io.Writer // nil where nobody looks
	what string
}

func (c *cli) reading(what string) *reading {
	r := &reading{what: what}
	if isTerminal(c.ErrOut) {
		r.out = c.ErrOut
	}
	return r
}

func (r *reading) Write(p []byte) (int, error) {
	var done, total int64
	if r.out != nil {
		for line := range strings.Lines(string(p)) {
			if _, err := fmt.Sscanf(line, inspect.ProgressPrefix+"%d %d", &done, &total); err == nil {
				fmt.Fprintf(r.out, "\r\033[K%s of %s %s", report.Bytes(done), report.Bytes(total), r.what)
			}
		}
	}
	return len(p), nil
}

func (r *reading) clear() {
	if r.out != nil {
		fmt.Fprint(r.out, "\r\033[K")
	}
}
