package capture

import "path/filepath"

// Line is the file line-CONTAINER.json of a pod whose containers are restored again when they have ended: what the container that is now there goes on
// from. It is written before a container of that name is created.
type Line struct {
	// Containers are the IDs of those of that name since one last began from scratch, or with the pod. States of theirs, and of no others, may be gone on
	// from: going back before that would undo what was done since.
	Containers []string `json:"containers"`
	// Afresh is true where the first of them began from scratch.
	Afresh bool `json:"afresh,omitempty"`
	// Why says, in a sentence, why it was not restored, where there was something to go on from.
	Why string `json:"why,omitempty"`
}

// Line reads the line of a container; fs.ErrNotExist says that none was created yet, or that it is not to be restored again.
func (n Node) Line(podUID, container string) (*Line, error) {
	l := &Line{}
	return l, readJSON(n.lineFile(podUID, container), l)
}

// SetLine writes the line of a container.
func (n Node) SetLine(podUID, container string, l Line) error {
	return WriteJSON(n.lineFile(podUID, container), l)
}

func (n Node) lineFile(podUID, container string) string {
	return filepath.Join(n.Restores(podUID), "line-"+container+".json")
}
