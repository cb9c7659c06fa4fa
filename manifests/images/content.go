package main

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// image is one of the operator's.
type image struct {
	name, title string
	// programs are those of cmd that are in it, by where they lie there. The first is its entrypoint.
	programs []program
	user     string // as UID:GID
	withCRIU bool
}

type program struct{ name, folder string }

// home is where the agent's image has what the agent installs on its node.
const home = "opt/checkpoint-image"

var images = []image{
	{
		name: "checkpoint-manager", title: "Transparent Checkpoint Operator: manager", user: "65532:65532",
		programs: []program{{name: "manager"}},
	},
	{
		name: "checkpoint-agent", title: "Transparent Checkpoint Operator: agent of a node", user: "0:0", withCRIU: true,
		programs: []program{{name: "agent"}, {name: "checkpoint-runtime", folder: home + "/bin"}},
	},
}

// file is one of a layer.
type file struct {
	path         string // inside, without a slash before it
	source       string
	isExecutable bool
}

// built is what images of one architecture are made from.
type built struct {
	programs  string // a folder with those of cmd
	sharedIPC string // the library of node/criu
	debian    string // the folder that `bin/localcluster build --for-images` prints: criu, ca-certificates.crt, packages.json
}

// layers returns what is in the image: what comes from Debian and seldom changes, then what is ours. There is no shell and no package manager.
func (i image) layers(from built) ([][]file, error) {
	// Buckets are reached by TLS, and Go's programs look there for whom to trust.
	below := []file{{path: "etc/ssl/certs/" + certificates, source: filepath.Join(from.debian, certificates)}}
	var above []file
	if i.withCRIU {
		entries, err := os.ReadDir(filepath.Join(from.debian, "criu"))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			below = append(below, file{path.Join(home, "criu", entry.Name()), filepath.Join(from.debian, "criu", entry.Name()), true})
		}
		above = append(above, file{home + "/lib/shared-ipc.so", from.sharedIPC, true})
	}
	for _, p := range i.programs {
		above = append(above, file{path.Join(p.folder, p.name), filepath.Join(from.programs, p.name), true})
	}
	return [][]file{below, above}, nil
}

const certificates = "ca-certificates.crt"

// folders returns those that files lie in, each behind the one that it lies in itself.
func folders(files []file) []string {
	found := map[string]bool{}
	for _, f := range files {
		for dir := path.Dir(f.path); dir != "."; dir = path.Dir(dir) {
			found[dir] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
