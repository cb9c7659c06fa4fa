package criu

import (
	"bytes"
	"fmt"
	"strings"
)

// BuiltHome is the folder that the CRIU of the agent's image is built for. A program names its loader by an absolute path, and so does this one: the slashes
// at its end mean nothing, and make room for the path of another folder, see Move.
const BuiltHome = "/opt/checkpoint/criu" + room

const room = "////////////////////////////////////////////////////////////////////////////////////////////////////"

// Move returns a program that was built for BuiltHome as it has to be in the folder dir, and whether that program names BuiltHome at all: one that does not
// works where it was built for, and a library works anywhere. It keeps its length. The error says that the path of the folder is too long.
func Move(program []byte, dir string) (moved []byte, names bool, err error) {
	if !bytes.Contains(program, []byte(BuiltHome)) {
		return program, false, nil
	}
	if len(dir) > len(BuiltHome) {
		return nil, true, fmt.Errorf("the folder %s has a path of %d bytes; it may have %d", dir, len(dir), len(BuiltHome))
	}
	return bytes.ReplaceAll(program, []byte(BuiltHome), []byte(dir+strings.Repeat("/", len(BuiltHome)-len(dir)))), true, nil
}
