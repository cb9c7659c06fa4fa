package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

func TestBadInputIsNamed(t *testing.T) {
	t.Setenv("LOCALCLUSTER_ROOT", t.TempDir())
	cluster, err := spec.Named("there")
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Store(&spec.State{Nodes: []spec.Node{{Name: "worker-1", Index: 1}}}); err != nil {
		t.Fatal(err)
	}
	notAnImage := filepath.Join(t.TempDir(), "file.tar")
	if err := os.WriteFile(notAnImage, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"up --nodes 0":                                   "--nodes is 0, --vm-nodes is 0; together they may be 1 to 32",
		"up --nodes 33":                                  "--nodes is 33, --vm-nodes is 0; together they may be 1 to 32",
		"up --disk 0":                                    "--disk is 0; it may be 1 GiB or more",
		"up extra":                                       `unknown command "extra"`,
		"down --name ../etc":                             `--name is "../etc"; it may be 1 to 30 lower-case letters`,
		"status --name absent":                           "there is no cluster \"absent\"; `localcluster up --name absent` makes one",
		"status --name there -o yaml":                    `-o is "yaml"; it may be json`,
		"kubectl --name absent get":                      `there is no cluster "absent"`,
		"node stop --name there nobody":                  `node is "nobody"; it may be one of ["worker-1"]`,
		"node exec --name there worker-1":                "requires at least 2 arg(s)",
		"image build --name there a":                     "at least one of the flags in the group [from-debian binary tree] is required",
		"image load --name there " + notAnImage:          "holds no images in the way that",
		"component stop --name there etcd --node nobody": `node is "nobody"; it may be one of ["worker-1"]`,
		"logs --name there nothing":                      "no such file or directory",
	} {
		t.Run(line, func(t *testing.T) {
			root := newRoot()
			root.SetArgs(strings.Fields(line))
			err := root.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("it says %v, which lacks %q", err, want)
			}
		})
	}
}

func TestEveryVerbHasHelp(t *testing.T) {
	for _, verb := range newRoot().Commands() {
		if verb.Short == "" && !verb.Hidden {
			t.Errorf("%s has no help", verb.Name())
		}
	}
}
