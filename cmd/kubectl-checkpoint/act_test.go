package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func TestWhatFitsAndWhatDoesNot(t *testing.T) {
	for name, words := range map[string]string{
		"restore-fits.txt":            "restore web-5c9d-a --from web-5c9d-x-0123 --dry-run",
		"restore-taken.txt":           "restore web-5c9d-a --from web-older --dry-run",
		"restore-other-workload.txt":  "restore web-5c9d-a --from db-0-0123 --dry-run",
		"restore-other-workload.json": "restore web-5c9d-a --from train-7-0123 --dry-run -o json",
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, err := says(t, newShop(t), strings.Fields(words)...)
			if err != nil || errOut != "" {
				t.Fatalf("%s: %v, %s", words, err, errOut)
			}
			golden(t, name, out)
		})
	}
}

// What cannot be done leaves everything as it is.
func TestWhatIsRefusedTouchesNothing(t *testing.T) {
	for words, want := range map[string]string{
		"restore web-5c9d-a --from web-older":    "web-5c9d-a is left as it is",
		"restore web-5c9d-a --from nobody":       `there is no Checkpoint "nobody"`,
		"restore web-5c9d-a":                     `required flag(s) "from" not set`,
		"restore plain --from web-older":         "has no controller that would make it anew",
		"restart plain":                          "has no controller that would make it anew",
		"create plain":                           `does not have the label memverge.ai/checkpoint-mode: "true"`,
		"create web-5c9d-b":                      "cannot be captured: DeviceInUse: container app: process 17",
		"create web-5c9d-a --name A/b":           `--name is "A/b"; it may be`,
		"location check other":                   `there is no CheckpointStorageLocation "other"`,
		"location default other":                 `there is no CheckpointStorageLocation "other"`,
		"location add x --bucket states":         `required flag(s) "endpoint" not set`,
		"location add x --bucket b --endpoint e": "the environment lacks AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY",
	} {
		t.Setenv(envAccessKey, "")
		k := newShop(t)
		if _, _, err := says(t, k, strings.Fields(words)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", words, err, want)
		}
		policies, pods := &v1alpha1.RestorePolicyList{}, &corev1.PodList{}
		if err := k.List(t.Context(), policies); err != nil {
			t.Fatal(err)
		}
		if err := k.List(t.Context(), pods); err != nil {
			t.Fatal(err)
		}
		if len(policies.Items) != 0 || len(pods.Items) != 3 {
			t.Errorf("%s leaves %d RestorePolicies and %d pods", words, len(policies.Items), len(pods.Items))
		}
	}
}

func TestACheckpointIsMadeByHand(t *testing.T) {
	k := newShop(t)
	out, _, err := says(t, k, "create", "pod/web-5c9d-a", "--stop", "--name", "before")
	made := &v1alpha1.Checkpoint{}
	if err := k.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "before"}, made); err != nil {
		t.Fatal(err)
	}
	s := made.Spec
	if err != nil || out != "checkpoint/before created\n" || s.SourcePodUID != "web-5c9d-a-uid-0123" || s.PostCheckpoint != v1alpha1.PostCheckpointStop {
		t.Errorf("it says %q, %v, and made %+v", out, err, s)
	}
	if out, _, err := says(t, k, "create", "web-5c9d-a", "-o", "name"); err != nil || out != "checkpoint.checkpoint.memverge.ai/web-5c9d-a-web-5c9d-mmx0cyo00\n" {
		t.Errorf("it says %q, %v", out, err)
	}
}

func TestALocationIsAdded(t *testing.T) {
	t.Setenv(envAccessKey, "id")
	t.Setenv(envSecretKey, "secret")
	k := newShop(t)
	out, _, err := says(t, k, strings.Fields("location add new --endpoint https://s3.test --bucket other --default --timeout 1ms")...)
	if err == nil || !strings.Contains(err.Error(), "was not tried within 1ms") ||
		out != "location new added\nlocation main is no default any more; what is stored there stays\nlocation new is the default\n" {
		t.Errorf("it says %q, %v", out, err)
	}
	secret := &corev1.Secret{}
	if err := k.Get(t.Context(), client.ObjectKey{Namespace: "checkpoint-system", Name: "location-new"}, secret); err != nil {
		t.Fatal(err)
	}
	id, key := string(secret.Data[v1alpha1.CredentialsAccessKeyID]), string(secret.Data[v1alpha1.CredentialsSecretAccessKey])
	if id != "id" || key != "secret" || len(secret.Data) != 2 {
		t.Errorf("the Secret has %v", secret.Data)
	}
	out, _, err = says(t, k, "location", "list")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "location-list.txt", out)
}
