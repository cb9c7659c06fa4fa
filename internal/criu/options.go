package criu

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The options that users may ask for, as CRIU's configuration file has them (https://criu.org/Configuration_files).
const (
	// TCPEstablished keeps connections to the outside of the pod. It is for a pod as a whole: see capture.Settings.
	TCPEstablished = "tcp-established"
	tcpClose       = "tcp-close"
	ghostLimit     = "ghost-limit"
	linkRemap      = "link-remap"
	skipInFlight   = "skip-in-flight"
	fileLocks      = "file-locks"
	extUnixSk      = "ext-unix-sk"
)

// allowed are they, by phase. Some hold already, so that naming them changes nothing: file-locks, and when a container is captured link-remap and
// skip-in-flight. docs/keys.md says why others are not among them.
var allowed = map[Phase][]string{
	Dump:    {extUnixSk, fileLocks, ghostLimit, linkRemap, skipInFlight, tcpClose, TCPEstablished},
	Restore: {fileLocks, linkRemap, skipInFlight, tcpClose, TCPEstablished},
}

// maxGhost bounds the size of a deleted file that may be asked for, in bytes.
const maxGhost = 4 << 30

// ParseOptions reads a list that is separated by commas, as "link-remap,ghost-limit=4M" or "--ghost-limit 4M". It returns the options in the words of
// CRIU's configuration file, sizes in bytes, as "ghost-limit 4194304". An error is for whoever wrote the list: it begins with a verb, as in `names "x"; …`.
func ParseOptions(phase Phase, list string) (words []string, err error) {
	for item := range strings.SplitSeq(list, ",") {
		fields := strings.FieldsFunc(item, func(r rune) bool { return r == ' ' || r == '=' })
		if len(fields) == 0 {
			continue
		}
		name := strings.TrimPrefix(fields[0], "--")
		if !slices.Contains(allowed[phase], name) {
			return nil, fmt.Errorf("names %q; it may name %s", name, said(phase))
		}
		word, err := parseOption(name, fields[1:])
		if err != nil {
			return nil, err
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	if slices.Contains(words, tcpClose) && slices.Contains(words, TCPEstablished) {
		return nil, fmt.Errorf("names %q and %q; it may name one of them", tcpClose, TCPEstablished)
	}
	return words, nil
}

func parseOption(name string, values []string) (word string, err error) {
	switch {
	case name != ghostLimit && len(values) > 0:
		return "", fmt.Errorf("gives %s the value %q; it takes none", name, strings.Join(values, " "))
	case name != ghostLimit:
		return name, nil
	}
	size, err := parseSize(strings.Join(values, " "))
	if err != nil {
		return "", fmt.Errorf("gives %s the value %q; it may be a number of bytes from 1 to 4G, as 64M", name, strings.Join(values, " "))
	}
	return fmt.Sprintf("%s %d", name, size), nil
}

var errSize = errors.New("no size that may be asked for")

// parseSize reads a size as CRIU does: K, M and G are powers of 1024.
func parseSize(text string) (int64, error) {
	digits, factor := text, int64(1)
	if i := strings.IndexAny(text, "KMG"); i >= 0 && i == len(text)-1 {
		digits, factor = text[:i], int64(1024)<<(10*strings.IndexByte("KMG", text[i]))
	}
	size, err := strconv.ParseUint(digits, 10, 40) // which a factor cannot make overflow
	if err != nil || size == 0 || int64(size) > maxGhost/factor {
		return 0, errSize
	}
	return int64(size) * factor, nil
}

// said is what may be named, for a person.
func said(phase Phase) string {
	names := slices.Clone(allowed[phase])
	if i := slices.Index(names, ghostLimit); i >= 0 {
		names[i] += "=SIZE"
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
