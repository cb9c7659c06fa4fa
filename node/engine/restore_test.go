package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestAProgramOfAnotherKindOfMachineIsNotRestored(t *testing.T) {
	e := quiet(t)
	write(t, filepath.Join(e.Node.Root, "proc/cpuinfo"), "flags : sse2\n")
	facts, err := compat.Read(e.Node.Root)
	if err != nil {
		t.Fatal(err)
	}
	facts.Instructions = "avx512f sse2"
	image, bundle := t.TempDir(), t.TempDir()
	record := capture.Capture{State: capture.Complete, Facts: facts}
	if err := record.Write(image); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bundle, "config.json"), "{}")
	if err := os.MkdirAll(e.Node.Restores(uidOfPod), 0o700); err != nil {
		t.Fatal(err)
	}
	c := &Container{Name: "c", Bundle: bundle, Pod: capture.Pod{UID: uidOfPod}}
	if err := e.Restore(t.Context(), RestoreOptions{Container: c, Directory: image}); err == nil {
		t.Fatal("it is restored")
	}
	result, err := e.Node.Result(uidOfPod, "c")
	if err != nil {
		t.Fatal(err)
	}
	want := "instructions of the processor: this node has no avx512f; the captured program needs them, as it may have chosen them at its start"
	if result.Outcome != capture.RestoreFailed || result.Reason != keys.ColdIncompatible || result.Message != want || result.Consumed {
		t.Errorf("the result is %+v", result)
	}
}

func TestARestoreThatWasCutOffIsTriedAgainUnlessItsProgramHasBegun(t *testing.T) {
	e := quiet(t)
	c := &Container{Name: "c", Pod: capture.Pod{UID: uidOfPod}}
	other := &restoration{engine: e, RestoreOptions: RestoreOptions{Container: &Container{Name: "other", Pod: c.Pod}}}
	file := e.Node.ResultFile(uidOfPod, "c")
	cutOff := func() {
		t.Helper()
		if err := os.MkdirAll(e.Node.Restores(uidOfPod), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := capture.WriteJSON(file, capture.Result{SchemaVersion: capture.SchemaVersion, Outcome: capture.Attempted}); err != nil {
			t.Fatal(err)
		}
		if err := e.UndoCutOff(c); err != nil {
			t.Fatal(err)
		}
	}
	for range capture.DefaultAttempts - 1 {
		cutOff()
		if _, err := e.Node.Result(uidOfPod, "c"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is a result, %v", err)
		}
	}
	for _, begun := range []bool{false, true} {
		if begun {
			if err := os.RemoveAll(e.Node.Restores(uidOfPod)); err != nil {
				t.Fatal(err)
			}
			write(t, e.Node.BegunFile(uidOfPod, "c"), "")
		}
		cutOff()
		result, err := e.Node.Result(uidOfPod, "c")
		if err != nil || result.Outcome != capture.RestoreFailed || result.Consumed != begun || result.Message != "the restore was cut off" {
			t.Errorf("begun %t: the result is %+v, %v", begun, result, err)
		}
		if failed, err := other.failedBefore(); err != nil || failed != "c" {
			t.Errorf("before the other %q failed, %v", failed, err)
		}
	}
}

func TestWhereARestoreIsTriedAgainWhatOnlyFollowedDoesNotCount(t *testing.T) {
	e := quiet(t)
	if err := os.MkdirAll(e.Node.Restores(uidOfPod), 0o700); err != nil {
		t.Fatal(err)
	}
	save := func(name, follows string) {
		t.Helper()
		result := capture.Result{SchemaVersion: capture.SchemaVersion, Container: name, Outcome: capture.RestoreFailed, Follows: follows}
		if err := capture.WriteJSON(e.Node.ResultFile(uidOfPod, name), result); err != nil {
			t.Fatal(err)
		}
	}
	save("b", "a")
	for fallback, want := range map[capture.Fallback]struct {
		failed string
		coming []string
	}{capture.StartCold: {failed: "b"}, capture.Refuse: {coming: []string{"b"}}} {
		a := &restoration{engine: e, RestoreOptions: RestoreOptions{
			Container: &Container{Name: "a", Pod: capture.Pod{UID: uidOfPod}}, Others: []string{"b"}, Fallback: fallback}}
		if failed, err := a.failedBefore(); err != nil || failed != want.failed {
			t.Errorf("%q: before it %q failed, %v; want %q", fallback, failed, err, want.failed)
		}
		if found, err := a.companions(); err != nil || !slices.Equal(found.coming, want.coming) {
			t.Errorf("%q: to come are %v, %v; want %v", fallback, found.coming, err, want.coming)
		}
	}
	save("b", "")
	b := &restoration{engine: e, RestoreOptions: RestoreOptions{Container: &Container{Name: "a", Pod: capture.Pod{UID: uidOfPod}}, Fallback: capture.Refuse}}
	if failed, err := b.failedBefore(); err != nil || failed != "b" {
		t.Errorf("before it %q failed, %v", failed, err)
	}
}

func TestAContainerThatMayStartColdByNowIsNotRestored(t *testing.T) {
	e := quiet(t)
	c := &Container{Name: "app", Pod: capture.Pod{UID: uidOfPod}}
	if err := e.Node.Decide(uidOfPod, capture.Decision{Action: capture.Restore, Fallback: capture.Refuse, Containers: []string{"app"}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Node.Relent(uidOfPod); err != nil {
		t.Fatal(err)
	}
	err := e.Restore(t.Context(), RestoreOptions{Container: c, Directory: t.TempDir(), Fallback: capture.Refuse})
	if err == nil || !strings.Contains(err.Error(), "the decision has changed") {
		t.Errorf("it says %v", err)
	}
	if _, err := e.Node.Result(uidOfPod, "app"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a result, %v", err)
	}
}
