package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// measureKubelet has kubelet checkpoint a pod without the label, and puts its tar into the bucket from the node, in parallel parts.
func (d *driver) measureKubelet(ctx context.Context, number int) (err error) {
	name := fmt.Sprintf("kubelet-%d", number+1)
	if err := d.remove(ctx, name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.remove(context.WithoutCancel(ctx), name)) }()
	if _, err := d.start(ctx, d.memoryPod(name, d.node, nil), firstFew); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	began := time.Now()
	// https://kubernetes.io/docs/reference/node/kubelet-checkpoint-api/, by way of the API server.
	path := strings.Join([]string{"/api/v1/nodes", d.node, "proxy/checkpoint", namespace, name, container}, "/")
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := d.lab.Client.CoreV1().RESTClient().Post().AbsPath(path).DoRaw(limited)
	if err != nil {
		return fmt.Errorf("kubelet's checkpoint: %w: %s", err, answer)
	}
	var made struct{ Items []string }
	if err := json.Unmarshal(answer, &made); err != nil || len(made.Items) != 1 {
		return fmt.Errorf("kubelet's checkpoint says %q: %w", answer, err)
	}
	checkpointed := time.Since(began)
	access, err := json.Marshal(d.s3)
	if err != nil {
		return err
	}
	var put putTimes
	if err := d.onNode(ctx, &put, "put", string(access), made.Items[0]); err != nil {
		return err
	}
	durable := time.Since(began)
	say("pair %d: kubelet's checkpoint %v, with the put of its %d MiB %v", number+1, short(checkpointed), put.Bytes>>20, short(durable))
	d.reference.add(deleteToDurable, durable)
	return nil
}
