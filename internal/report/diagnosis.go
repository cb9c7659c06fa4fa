package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// Diagnosis is how it stands with an installation.
type Diagnosis struct {
	Level    inspect.Level `json:"level"`
	Sections []Section     `json:"sections"`
}

// Section is a part of it.
type Section struct {
	// Title is what was looked at: cluster, manager POD or node NAME.
	Title  string          `json:"title"`
	Checks []inspect.Check `json:"checks"`
}

// Counts are how many checks have each level.
func (d *Diagnosis) Counts() map[inspect.Level]int {
	counts := map[inspect.Level]int{}
	for _, s := range d.Sections {
		for _, c := range s.Checks {
			counts[c.Level]++
		}
	}
	return counts
}

// Write prints it for a person. What is well of managers and nodes is counted only, unless all is asked for: there may be a thousand of them.
func (d *Diagnosis) Write(out io.Writer, all bool) error {
	p := &description{out: out}
	well := 0
	for _, s := range d.Sections {
		isNode := strings.HasPrefix(s.Title, nodeTitle)
		if isNode && !all && inspect.Worst(s.Checks) == inspect.OK {
			well++
			continue
		}
		p.say("%s", strings.ToUpper(s.Title[:1])+s.Title[1:])
		hidden := 0
		for _, c := range s.Checks {
			if !all && isNode && c.Level == inspect.OK {
				hidden++
				continue
			}
			p.check(c)
		}
		if hidden > 0 {
			p.say("  OK    %d other checks", hidden)
		}
	}
	if well > 0 {
		p.say("%d nodes are well in all that was looked at (-o wide shows it)", well)
	}
	counts := d.Counts()
	p.say("\n%d FAIL, %d WARN, %d OK", counts[inspect.Fail], counts[inspect.Warn], counts[inspect.OK])
	return p.err
}

// checkIndent is where the text of a check begins.
const checkIndent = "        "

// check prints one.
func (d *description) check(c inspect.Check) {
	text := wrapped(c.Name+": "+c.Says, checkIndent)
	d.say("  %-4s  %s", c.Level, strings.TrimPrefix(text, checkIndent))
	if c.Mend != "" {
		text := wrapped(c.Mend, checkIndent+"→ ")
		d.say("%s", strings.ReplaceAll(text, "\n"+checkIndent+"→ ", "\n"+checkIndent+"  "))
	}
}

// fail, warn and ok are checks by what came of them.
func fail(name, mend, says string, args ...any) inspect.Check {
	return inspect.Check{Name: name, Level: inspect.Fail, Says: fmt.Sprintf(says, args...), Mend: mend}
}

func warn(name, mend, says string, args ...any) inspect.Check {
	return inspect.Check{Name: name, Level: inspect.Warn, Says: fmt.Sprintf(says, args...), Mend: mend}
}

func ok(name, says string, args ...any) inspect.Check {
	return inspect.Check{Name: name, Level: inspect.OK, Says: fmt.Sprintf(says, args...)}
}
