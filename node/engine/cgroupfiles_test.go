package engine

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	oldPod  = "a062ca40_284c_4b62_9eb1_803aabadbe59"
	nextPod = "d4c880fd_6072_4327_9633_840c816f32b5"
)

func TestFilesOfTheOwnControlGroupAreThoseOfTheNewOne(t *testing.T) {
	systemd := groupPath("kubepods-besteffort-pod" + nextPod + ".slice:cri-containerd:new")
	for name, want := range map[string]string{
		"/sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + oldPod + ".slice/cri-containerd-old.scope/cpu.max": "/sys/fs/cgroup" +
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + nextPod + ".slice/cri-containerd-new.scope/cpu.max",
		"/sys/fs/cgroup/kubepods/poda062ca40-284c-4b62-9eb1-803aabadbe59/old/sub/memory.max": "/sys/fs/cgroup" +
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + nextPod + ".slice/cri-containerd-new.scope/sub/memory.max",
		"/sys/fs/cgroup/cpu.max":                     "",
		"/sys/fs/cgroup/system.slice/a.service/cpu":  "",
		"/data/kubepods/pod" + oldPod + "/old/x":     "",
		"/sys/fs/cgroup/kubepods.slice/cpu.pressure": "",
	} {
		got, changed := ownGroupName(name, "/sys/fs/cgroup", systemd)
		if changed != (want != "") || changed && got != want {
			t.Errorf("%s became %s, %t; want %s", name, got, changed, want)
		}
	}
}

func TestTheFolderOfAControlGroup(t *testing.T) {
	for written, want := range map[string]string{
		"/kubepods/pod1/abc":           "/kubepods/pod1/abc",
		"kubepods-pod1.slice:cri:abc":  "/kubepods.slice/kubepods-pod1.slice/cri-abc.scope",
		"a-b-c.slice:x:y":              "/a.slice/a-b.slice/a-b-c.slice/x-y.scope",
		":x:y":                         "/system.slice/x-y.scope",
		"kubepods.slice:x:their.slice": "/kubepods.slice/their.slice",
	} {
		if got := groupPath(written); got != want {
			t.Errorf("%s is %s; want %s", written, got, want)
		}
	}
}

func TestWhoHasControlGroupsOfItsOwn(t *testing.T) {
	own := specs.LinuxNamespace{Type: specs.CgroupNamespace}
	for want, spec := range map[bool]*specs.Spec{
		true:  {Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, own}}},
		false: {Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.CgroupNamespace, Path: "/proc/1/ns/cgroup"}}}},
	} {
		if got := hasOwnGroups(spec); got != want {
			t.Errorf("%+v has: %t", spec.Linux.Namespaces, got)
		}
	}
	if hasOwnGroups(&specs.Spec{}) {
		t.Error("a spec without namespaces has")
	}
}
