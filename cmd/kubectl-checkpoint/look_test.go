package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestWhatTheCommandsSay(t *testing.T) {
	for name, words := range map[string]string{
		"help.txt":                "--help",
		"why-protected.txt":       "why web-5c9d-a",
		"why-protected.json":      "why pod/web-5c9d-a -o json",
		"why-unprotected.txt":     "why web-5c9d-b",
		"why-not-labelled.txt":    "why plain",
		"list.txt":                "list",
		"list-wide.txt":           "list -o wide",
		"list-all-namespaces.txt": "list -A",
		"list-workload.txt":       "list deploy/web",
		"list-names.txt":          "list job/train -o name",
		"describe.txt":            "describe web-5c9d-x-0123",
		"describe-failed.txt":     "describe ckpt/train-7-0123",
		"describe-taken.txt":      "describe web-older",
		"describe.yaml":           "describe web-older -o yaml",
		"status.txt":              "status -A",
		"status.json":             "status -A -o json",
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, err := says(t, newShop(t), strings.Fields(words)...)
			if err != nil || errOut != "" {
				t.Fatalf("%s: %v, %s", words, err, errOut)
			}
			out, _, _ = strings.Cut(out, "\nFlags:") // which are kubectl's, and tell where this is run
			golden(t, name, out)
		})
	}
}

func TestBadInputIsNamed(t *testing.T) {
	for words, want := range map[string]string{
		"why nobody":             `there is no pod "nobody" in namespace "shop"`,
		"why deployment/web":     `"deployment/web" is no pod; it may be NAME or pod/NAME`,
		"why web-5c9d-a -o name": `--output is "name"; it may be json, yaml`,
		"describe pod/x":         `"pod/x" is no Checkpoint; it may be NAME or checkpoint/NAME`,
		"describe x":             `there is no Checkpoint "x" in namespace "shop"`,
		"list cronjob/x":         `of "cronjob/x"; it may be a workload`,
		"pin":                    "requires at least 1 arg",
		"delete web-5c9d-a-live": "is pinned: unpin it first, or say --force",
	} {
		if _, _, err := says(t, newShop(t), strings.Fields(words)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", words, err, want)
		}
	}
}

// A shell asks by the hidden command __complete, whose last word is what was typed so far.
func TestNamesAreCompleted(t *testing.T) {
	for words, want := range map[string][]string{
		"why web-5c9d-":          {"web-5c9d-a", "web-5c9d-b"},
		"describe web-o":         {"web-older"},
		"pin web-older train-7-": {"train-7-0123"},
		"restore a --from web-o": {"web-older"},
		"wh":                     {"why"},
		"why no-such-":           nil,
	} {
		out, _, err := says(t, newShop(t), append([]string{"__complete"}, strings.Fields(words)...)...)
		if err != nil {
			t.Fatalf("%s: %v", words, err)
		}
		var got []string
		for line := range strings.Lines(out) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if name != "" && !strings.HasPrefix(name, ":") {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", words, diff)
		}
	}
}

func TestPinUnpinAndDelete(t *testing.T) {
	k := newShop(t)
	isPinned := func(name string) bool {
		c := &v1alpha1.Checkpoint{}
		if err := k.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, c); err != nil {
			t.Fatal(err)
		}
		return c.Labels[keys.CheckpointPin] == keys.True
	}
	out, _, err := says(t, k, "pin", "web-older", "nobody", "train-7-0123")
	if err == nil || !strings.Contains(err.Error(), "nobody") || out != "checkpoint/web-older pinned\ncheckpoint/train-7-0123 pinned\n" {
		t.Errorf("it says %q, %v", out, err)
	}
	if !isPinned("web-older") || !isPinned("train-7-0123") {
		t.Error("they are not pinned")
	}
	if _, _, err := says(t, k, "unpin", "web-older"); err != nil || isPinned("web-older") {
		t.Errorf("it is still pinned, %v", err)
	}
	if _, _, err := says(t, k, "delete", "web-5c9d-a-live", "--force"); err != nil {
		t.Error(err)
	}
	if _, _, err := says(t, k, "describe", "web-5c9d-a-live"); err == nil {
		t.Error("it is still there")
	}
}
