package runtime

import (
	"slices"
	"strings"
)

// words is a command line of runc, as far as we look at it.
type words struct {
	// global stand before the verb, those of the log apart.
	global []string
	// log and logFormat say where whoever called looks for errors.
	log, logFormat string
	verb           string
	// rest stands behind the verb.
	rest []string
}

// The flags that take a value in a word of their own. The other flags take none, or have it behind "=".
var (
	globalValues = []string{"root", "log", "log-format", "criu", "rootless"}
	verbValues   = map[string][]string{
		"create": {"bundle", "b", "console-socket", "pidfd-socket", "pid-file", "preserve-fds"},
		"exec": {"console-socket", "pidfd-socket", "cwd", "env", "e", "user", "u", "additional-gids", "g", "process", "p", "pid-file", "process-label",
			"apparmor", "cap", "c", "preserve-fds", "cgroup"},
	}
)

// parse takes a command line apart. What it does not know it leaves where it is.
func parse(args []string) words {
	w := words{}
	for i := 0; i < len(args); i++ {
		name, value, bound := flag(args[i])
		if name == "" {
			w.verb, w.rest = args[i], args[i+1:]
			return w
		}
		taken := args[i : i+1]
		if !bound && slices.Contains(globalValues, name) && i+1 < len(args) {
			i++
			value, taken = args[i], args[i-1:i+1]
		}
		switch name {
		case "log":
			w.log = value
		case "log-format":
			w.logFormat = value
		default:
			w.global = append(w.global, taken...)
		}
	}
	return w
}

// flag returns the name of a flag without hyphens, and its value if that is bound to it by "="; no name for a word that is no flag.
func flag(word string) (name, value string, bound bool) {
	if len(word) < 2 || word[0] != '-' || word == "--" {
		return "", "", false
	}
	name, value, bound = strings.Cut(strings.TrimLeft(word, "-"), "=")
	return name, value, bound
}

// operands returns the words behind the verb that are no flags, and the values of the flags.
func (w words) operands() (operands []string, values map[string]string) {
	values = map[string]string{}
	for i := 0; i < len(w.rest); i++ {
		if w.rest[i] == "--" {
			return append(operands, w.rest[i+1:]...), values
		}
		name, value, bound := flag(w.rest[i])
		if name == "" {
			operands = append(operands, w.rest[i])
			if w.verb == "exec" { // what follows is the command
				return append(operands, w.rest[i+1:]...), values
			}
			continue
		}
		if !bound && slices.Contains(verbValues[w.verb], name) && i+1 < len(w.rest) {
			i++
			value = w.rest[i]
		}
		values[name] = value
	}
	return operands, values
}
