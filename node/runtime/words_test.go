package runtime

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandLinesOfRuncAreUnderstood(t *testing.T) {
	type parsed struct {
		Global         []string
		Log, LogFormat string
		Verb           string
		Operands       []string
		Values         map[string]string
	}
	for what, test := range map[string]struct {
		line string
		want parsed
	}{
		"create as containerd calls it": {
			line: "--root /run/runc --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid --console-socket /s ID",
			want: parsed{
				Global: []string{"--root", "/run/runc", "--systemd-cgroup"}, Log: "/b/log.json", LogFormat: "json", Verb: "create",
				Operands: []string{"ID"}, Values: map[string]string{"bundle": "/b", "pid-file": "/b/init.pid", "console-socket": "/s"},
			},
		},
		"values bound by =": {
			line: "--root=/r --log=/l create --bundle=/b ID",
			want: parsed{Global: []string{"--root=/r"}, Log: "/l", Verb: "create", Operands: []string{"ID"}, Values: map[string]string{"bundle": "/b"}},
		},
		"kill with a signal":    {line: "kill ID 15", want: parsed{Verb: "kill", Operands: []string{"ID", "15"}, Values: map[string]string{}}},
		"kill of all processes": {line: "kill --all ID 9", want: parsed{Verb: "kill", Operands: []string{"ID", "9"}, Values: map[string]string{"all": ""}}},
		"delete by force":       {line: "delete --force ID", want: parsed{Verb: "delete", Operands: []string{"ID"}, Values: map[string]string{"force": ""}}},
		"a flag without a verb": {line: "--version", want: parsed{Global: []string{"--version"}, Values: map[string]string{}}},
		"exec, whose command stays": {
			line: "exec --process /p --detach --pid-file /x ID sh -c x",
			want: parsed{Verb: "exec", Operands: []string{"ID", "sh", "-c", "x"}, Values: map[string]string{"process": "/p", "detach": "", "pid-file": "/x"}},
		},
		"a verb that we know nothing of": {
			line: "update --cpu-quota -1 ID", want: parsed{Verb: "update", Operands: []string{"ID"}, Values: map[string]string{"cpu-quota": "", "1": ""}},
		},
	} {
		w := parse(strings.Fields(test.line))
		operands, values := w.operands()
		got := parsed{Global: w.global, Log: w.log, LogFormat: w.logFormat, Verb: w.verb, Operands: operands, Values: values}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
}
