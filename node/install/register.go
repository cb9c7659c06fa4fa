package install

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// layout is how a containerd reads its configuration.
type layout struct {
	// path is that of its main file, text what stands in it beside our part, nil where there is none.
	path string
	text []byte
	// dump is the configuration that it would have, as it says itself.
	dump map[string]any
}

// target is a file of the configuration that is to have something of ours.
type target struct {
	path string
	// own: the file is ours as a whole, and this is what stands in it.
	own []byte
	// insert adds our part to one of somebody else's: it returns the file and what was inserted. The file may have an older part of ours, was.
	insert func(text []byte, was string) (changed []byte, inserted string, err error)
}

// fileBegins is what a file of our own begins with.
const fileBegins = "# Written by checkpoint-agent: copies of the node's handlers with our runtime before their own.\n"

// dropInName is that of our file in a folder of drop-ins.
const dropInName = "transparent-checkpoint.toml"

// register says how handlers get into a configuration, by the least that it takes:
//   - a file of our own in a folder that the main file imports;
//   - where it imports none, that file in the folder conf.d beside it, and the import of that;
//   - where an import would take the place of all that the main file says of handlers, as containerd 1 has it, a part at the end of the main file;
//   - where somebody writes the main file anew with every start, as k3s and RKE2 do, a part at the end of the template that they make it from.
func register(l layout, handlers []handler) ([]target, error) {
	var main struct {
		Version int64    `toml:"version"`
		Imports []string `toml:"imports"`
	}
	if err := toml.Unmarshal(l.text, &main); err != nil {
		return nil, fmt.Errorf("read %s: %w", l.path, err)
	}
	old := sectionOf(l.dump) == oldCRIPlugin
	if l.text == nil {
		main.Version = 3
		if old {
			main.Version = 2
		}
	}
	if main.Version < 2 {
		return nil, fmt.Errorf("the version of %s is %d; it may be 2 or more, see `containerd config migrate`", l.path, main.Version)
	}
	version := min(main.Version, 3)
	tables := map[string]map[string]any{}
	for _, h := range handlers {
		tables[h.name] = h.table
	}
	if old && !isGenerated(l.path) { // what k3s and RKE2 write always names runc
		maps.Copy(tables, unspoken(l))
	}
	text, err := renderHandlers(version, tables)
	if err != nil {
		return nil, err
	}
	ours := target{own: append(fmt.Appendf(nil, "%sversion = %d\n\n", fileBegins, version), text...)}
	if folder := importedFolder(main.Imports); folder != "" && !old {
		ours.path = path.Join(folder, dropInName)
		return []target{ours}, nil
	}
	switch {
	case isGenerated(l.path):
		return []target{intoTemplate(l, main.Version, text)}, nil
	case old:
		return []target{{path: l.path, insert: intoMain(main.Version, text)}}, nil
	}
	folder := path.Join(path.Dir(l.path), "conf.d")
	ours.path = path.Join(folder, dropInName)
	return []target{ours, {path: l.path, insert: func(text []byte, was string) ([]byte, string, error) { return addImport(text, was, folder+"/*.toml") }}}, nil
}

// unspoken are the handlers that a containerd 1 has by itself. It forgets them as soon as its file names others, so these are named too.
func unspoken(l layout) map[string]map[string]any {
	var main map[string]any
	_ = toml.Unmarshal(l.text, &main) // which was done before
	spoken := table(main, "plugins", oldCRIPlugin, "containerd", "runtimes")
	found := map[string]map[string]any{}
	for name := range table(l.dump, "plugins", oldCRIPlugin, "containerd", "runtimes") {
		if _, is := spoken[name]; !is && !keys.IsRuntimeClass(name) {
			found[name] = table(l.dump, "plugins", oldCRIPlugin, "containerd", "runtimes", name)
		}
	}
	return found
}

// importedFolder is the first folder of which a main file imports all files, or all of our kind.
func importedFolder(imports []string) string {
	for _, pattern := range imports {
		if fits, err := filepath.Match(filepath.Base(pattern), dropInName); err == nil && fits && strings.Contains(pattern, "*") && path.IsAbs(pattern) {
			return path.Dir(pattern)
		}
	}
	return ""
}

// isGenerated tells of a main file whether k3s or RKE2 writes it anew with every start. Both keep it in the folder agent/etc/containerd of their data.
func isGenerated(main string) bool {
	return strings.HasSuffix(main, "/agent/etc/containerd/config.toml")
}

// intoTemplate is the template from which k3s or RKE2 makes a main file of that version. Where nobody has written one, ours is their own and our part.
func intoTemplate(l layout, version int64, text []byte) target {
	name := "config.toml.tmpl"
	if version >= 3 {
		name = "config-v3.toml.tmpl"
	}
	template := path.Join(path.Dir(l.path), name)
	return target{path: template, insert: func(has []byte, was string) ([]byte, string, error) {
		if bytes.Contains(text, []byte("{{")) {
			return nil, "", errors.New(`a handler's table has "{{", which cannot stand in a template`)
		}
		if has != nil {
			return addPart(has, was, text)
		}
		whole := append([]byte("{{ template \"base\" . }}\n"), part(text)...)
		return whole, string(whole), nil
	}}
}

// intoMain adds our part to a main file, which is made where there is none.
func intoMain(version int64, text []byte) func([]byte, string) ([]byte, string, error) {
	return func(has []byte, was string) ([]byte, string, error) {
		if has == nil {
			whole := append(fmt.Appendf(nil, "version = %d\n", version), part(text)...)
			return whole, string(whole), nil
		}
		changed, inserted, err := addPart(has, was, text)
		if err == nil {
			err = onlyAdds(has, changed, was)
		}
		return changed, inserted, err
	}
}

// The lines between which our part of a file stands.
const (
	partBegins = "# transparent-checkpoint begins: written by checkpoint-agent, and taken out again when that is removed.\n"
	partEnds   = "# transparent-checkpoint ends\n"
)

func part(text []byte) []byte {
	return []byte("\n" + partBegins + string(bytes.TrimSpace(text)) + "\n" + partEnds)
}

// addPart puts our part at the end of a file, or in the place of an older one.
func addPart(has []byte, was string, text []byte) (changed []byte, inserted string, err error) {
	inserted = string(part(text))
	if len(has) > 0 && !bytes.HasSuffix(has, []byte("\n")) && !bytes.Contains(has, []byte(partBegins)) {
		inserted = "\n" + inserted
	}
	if was != "" && bytes.Contains(has, []byte(was)) {
		if strings.Contains(was, "{{") || strings.HasPrefix(was, "version") { // a template or main file that is ours as a whole
			inserted = was[:strings.Index(was, "\n")+1] + inserted
		}
		return bytes.Replace(has, []byte(was), []byte(inserted), 1), inserted, nil
	}
	begin, end := bytes.Index(has, []byte(partBegins)), bytes.Index(has, []byte(partEnds))
	if begin < 0 && end < 0 {
		return append(slices.Clone(has), inserted...), inserted, nil
	}
	if begin < 0 || end < begin {
		return nil, "", errors.New("of the two lines between which our part stands one is missing; take out the other, and what belongs to it")
	}
	inserted = strings.TrimPrefix(inserted, "\n")
	return slices.Concat(has[:begin], []byte(inserted), has[end+len(partEnds):]), inserted, nil
}

// topImports is where the list of imports begins.
var topImports = regexp.MustCompile(`(?m)^[ \t]*imports[ \t]*=[ \t]*\[`)

// firstTable is where the first table begins, and what stands before all tables ends.
var firstTable = regexp.MustCompile(`(?m)^[ \t]*\[`)

// addImport has a main file import files: in the list that it has, or in a line of its own before all others.
func addImport(has []byte, was, pattern string) (changed []byte, inserted string, err error) {
	if was != "" && bytes.Contains(has, []byte(was)) {
		return has, was, nil
	}
	if has == nil {
		whole := fmt.Sprintf("version = 3\nimports = ['%s']\n", pattern)
		return []byte(whole), whole, nil
	}
	inserted = fmt.Sprintf("imports = ['%s'] # transparent-checkpoint\n", pattern)
	at := 0
	before := has
	if table := firstTable.FindIndex(has); table != nil {
		before = has[:table[0]]
	}
	if list := topImports.FindIndex(before); list != nil {
		inserted, at = fmt.Sprintf("'%s', ", pattern), list[1]
	}
	changed = slices.Concat(has[:at], []byte(inserted), has[at:])
	return changed, inserted, onlyImports(has, changed, pattern)
}

// onlyImports checks that a change adds an import, and nothing else.
func onlyImports(has, changed []byte, pattern string) error {
	var before, after map[string]any
	if err := errors.Join(toml.Unmarshal(has, &before), toml.Unmarshal(changed, &after)); err != nil {
		return fmt.Errorf("add imports = ['%s'] to it by hand: %w", pattern, err)
	}
	old, _ := before["imports"].([]any)
	now, _ := after["imports"].([]any)
	delete(before, "imports")
	delete(after, "imports")
	if !reflect.DeepEqual(now, append([]any{pattern}, old...)) || !reflect.DeepEqual(before, after) {
		return fmt.Errorf("its imports cannot be told apart from the rest: add imports = ['%s'] to it by hand", pattern)
	}
	return nil
}

// onlyAdds checks that a change adds handlers, or changes ours, and nothing else.
func onlyAdds(has, changed []byte, was string) error {
	var before, after map[string]any
	before = map[string]any{}
	if was != "" {
		has = bytes.Replace(has, []byte(was), nil, 1)
	}
	if err := errors.Join(toml.Unmarshal(has, &before), toml.Unmarshal(changed, &after)); err != nil {
		return fmt.Errorf("add the handlers to it: %w", err)
	}
	spoken := table(before, "plugins", oldCRIPlugin, "containerd", "runtimes")
	runtimes := table(after, "plugins", oldCRIPlugin, "containerd", "runtimes")
	for name := range runtimes {
		if _, is := spoken[name]; is && !keys.IsRuntimeClass(name) && !reflect.DeepEqual(spoken[name], runtimes[name]) {
			return fmt.Errorf("the handler %s would change by that", name)
		}
	}
	for name := range spoken {
		if _, is := runtimes[name]; !is && !keys.IsRuntimeClass(name) {
			return fmt.Errorf("the handler %s would be lost by that", name)
		}
	}
	return nil
}
