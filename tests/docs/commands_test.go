package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"
	"sigs.k8s.io/yaml"
)

// Commands for the reader's own cluster are not run. That they can be run is looked at word by word: the shell would read them, kubectl has such verbs and
// flags, its resources and our fields exist, and so do the tests, verbs and files of this repository.
func TestCommandsInThePages(t *testing.T) {
	c := newCommands(t)
	found := 0
	for _, p := range all(t) {
		for _, b := range p.Blocks {
			script := b.Text
			if b.Language == "" { // what is printed, perhaps behind the command that prints it
				script = strings.Join(prompted.FindAllString(b.Text, -1), "\n")
			} else if b.Language != "sh" {
				continue
			}
			calls, err := callsOf(strings.ReplaceAll("\n"+script, "\n$ ", "\n"))
			if err != nil {
				t.Errorf("%s: %v", p.At(b.Line), err)
			}
			for _, words := range calls {
				found++
				if err := c.check(words); err != nil {
					t.Errorf("%s: `%s`: %v", p.At(b.Line), strings.Join(words, " "), err)
				}
			}
		}
	}
	if found < 80 {
		t.Errorf("%d commands were found", found)
	}
}

// prompted is a line that begins with a command behind a prompt.
var prompted = regexp.MustCompile(`(?m)^\$ .*$`)

func TestWhatIsWrongWithACommandIsFound(t *testing.T) {
	c := newCommands(t)
	for name, test := range map[string]struct{ script, want string }{
		"a verb":             {`kubectl fetch pods`, "no verb fetch"},
		"a flag":             {`kubectl get pods --everywhere`, "no flag --everywhere"},
		"a resource":         {`kubectl get checkpoint,restorepolices`, "no resource restorepolices"},
		"one with a name":    {`kubectl wait deploymnt/app --for=delete`, "no resource deploymnt"},
		"a file":             {`kubectl apply -k manifests/nowhere`, "manifests/nowhere"},
		"a field of a patch": {`kubectl patch csl default --type merge -p '{"spec":{"encrypt":{}}}'`, `unknown field "encrypt"`},
		"a test":             {`go test ./tests/docs -run TestNothingOfTheKind`, "no test TestNothingOfTheKind"},
		"a folder of tests":  {`go test ./tests/dogs`, "./tests/dogs"},
		"a verb of ours":     {`bin/localcluster image lead x`, "no verb lead"},
		"something else":     {`frobnicate`, "frobnicate"},
		"in a substitution":  {`echo "$(kubectl got pods)"`, "no verb got"},
	} {
		t.Run(name, func(t *testing.T) {
			calls, err := callsOf(test.script)
			for _, words := range calls {
				if err == nil {
					err = c.check(words)
				}
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want one with %q", err, test.want)
			}
		})
	}
}

// callsOf returns the commands of a script, each as its words; what only the shell can know of a word is left as it is written.
func callsOf(script string) (calls [][]string, err error) {
	file, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	if err != nil {
		return nil, err
	}
	syntax.Walk(file, func(node syntax.Node) bool {
		switch node := node.(type) {
		case *syntax.FuncDecl:
			return false
		case *syntax.CallExpr:
			var words []string
			for _, word := range node.Args {
				words = append(words, literally(word.Parts))
			}
			if len(words) > 0 {
				calls = append(calls, words)
			}
		}
		return true
	})
	return calls, nil
}

func literally(parts []syntax.WordPart) string {
	var b strings.Builder
	for _, part := range parts {
		switch part := part.(type) {
		case *syntax.Lit:
			b.WriteString(part.Value)
		case *syntax.SglQuoted:
			b.WriteString(part.Value)
		case *syntax.DblQuoted:
			b.WriteString(literally(part.Parts))
		default:
			b.WriteString("$")
		}
	}
	return b.String()
}

// verbs of kubectl that pages name, each with whether a resource is its first argument.
var verbs = map[string]bool{
	"annotate": true, "apply": false, "auth": false, "cordon": false, "create": false, "debug": false, "delete": true, "describe": true, "drain": false,
	"exec": false, "explain": true, "get": true, "kustomize": false, "label": true, "logs": false, "patch": true, "port-forward": false, "rollout": false,
	"run": false, "scale": true, "taint": true, "uncordon": false, "wait": true, "checkpoint": false,
}

// flags of kubectl that pages name, each with whether a value follows as a word of its own.
var flags = map[string]bool{
	"--all": false, "-A": false, "--all-namespaces": false, "-c": true, "--delete-emptydir-data": false, "-f": true, "--follow": false, "--for": true,
	"--from-literal": true, "-i": false, "--image": true, "--ignore-daemonsets": false, "-k": true, "-L": true, "-l": true, "-n": true, "--no-headers": false,
	"-o": true, "--output": true, "-p": true, "--replicas": true, "--server-side": false, "--show-labels": false, "--sort-by": true, "--tail": true,
	"--timeout": true, "--type": true, "-w": false, "--watch": false, "--previous": false, "--grace-period": true, "--force": false, "--overwrite": false,
	"--field-selector": true, "--as": true,
}

// resources are those of Kubernetes that pages name; our own come from their definitions.
var resources = []string{
	"configmap", "cm", "crd", "cronjob", "daemonset", "deployment", "event", "job", "namespace", "ns", "node", "pod", "pvc", "runtimeclass", "secret",
	"service", "statefulset",
}

// others are the programs that pages call beside; what they are told is not looked at.
var others = []string{
	"cd", "crane", "crictl", "ctr", "curl", "echo", "eval", "export", "git", "grep", "helm", "jq", "make", "mkdir", "openssl", "read", "set", "skopeo", "sleep",
	"tar", "systemctl", "mc", "aws", "rclone", "install", "sudo", "flock",
}

type commands struct {
	t         *testing.T
	kinds     kinds
	resources map[string]string // to the kind, where it is one of ours
	verbs     []string          // of localcluster
}

func newCommands(t *testing.T) commands {
	c := commands{t: t, kinds: newKinds(t), resources: map[string]string{}, verbs: []string{"kill", "restart"}}
	for _, name := range resources {
		c.resources[name], c.resources[name+"s"], c.resources[name+"es"] = "", "", ""
	}
	for _, crd := range definitions(t) {
		names := crd.Spec.Names
		for _, name := range append(names.ShortNames, names.Plural, names.Singular) {
			c.resources[name] = names.Kind
		}
	}
	files, err := filepath.Glob(filepath.Join(top, "tests/cluster/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, match := range regexp.MustCompile(`Use:\s+"([a-z]+)`).FindAllStringSubmatch(read(t, strings.TrimPrefix(file, top+"/")), -1) {
			c.verbs = append(c.verbs, match[1])
		}
	}
	return c
}

func (c commands) check(words []string) error {
	switch program := words[0]; {
	case program == "kubectl":
		return c.kubectl(words[1:])
	case program == "bin/localcluster":
		return c.localcluster(words[1:])
	case program == "go":
		return c.tests(words[1:])
	case slices.Contains(others, program), strings.HasPrefix(program, "bin/"), program == ".ci/run":
		return nil
	default:
		return fmt.Errorf("the test knows no program %s; it has a list", program)
	}
}

func (c commands) kubectl(words []string) error {
	given := map[string]string{}
	var arguments []string
	for i := 0; i < len(words) && words[i] != "--"; i++ {
		word := words[i]
		if !strings.HasPrefix(word, "-") || word == "-" {
			arguments = append(arguments, word)
			continue
		}
		flag, value, joined := strings.Cut(word, "=")
		takes, known := flags[flag]
		if !known {
			return fmt.Errorf("the test knows no flag %s of kubectl; it has a list", flag)
		}
		if takes && !joined && i+1 < len(words) {
			i++
			value = words[i]
		}
		given[flag] = value
	}
	if len(arguments) == 0 || arguments[0] == "$" {
		return nil
	}
	named, known := verbs[arguments[0]]
	if !known {
		return fmt.Errorf("the test knows no verb %s of kubectl; it has a list", arguments[0])
	}
	for _, path := range []string{given["-f"], given["-k"]} {
		if inTheTree.MatchString(path) {
			if _, err := os.Stat(filepath.Join(top, path)); err != nil {
				return err
			}
		}
	}
	if !named || len(arguments) < 2 {
		return nil
	}
	kind := ""
	for _, resource := range strings.Split(arguments[1], ",") {
		resource, _, _ = strings.Cut(resource, "/")
		if arguments[0] == "explain" {
			resource, _, _ = strings.Cut(resource, ".")
		}
		var known bool
		if kind, known = c.resources[resource]; !known {
			return fmt.Errorf("the test knows no resource %s; it has a list", resource)
		}
	}
	if patch := given["-p"]; kind != "" && patch != "" && given["--type"] == "merge" {
		text, err := yaml.JSONToYAML([]byte(patch))
		if err != nil {
			return err
		}
		return c.kinds.check(text, kind)
	}
	return nil
}

func (c commands) localcluster(words []string) error {
	for i, word := range words {
		if i > 1 || strings.HasPrefix(word, "-") || i == 1 && !slices.Contains([]string{"image", "node", "component"}, words[0]) {
			break
		}
		if !slices.Contains(c.verbs, word) {
			return fmt.Errorf("localcluster has no verb %s", word)
		}
		if word == "kubectl" && len(words) > 2 {
			return c.kubectl(words[2:])
		}
	}
	return nil
}

// tests looks at `go test FOLDER -run NAME`.
func (c commands) tests(words []string) error {
	for i, word := range words {
		if folder, is := strings.CutPrefix(word, "./"); is && !strings.Contains(folder, "...") {
			if _, err := os.Stat(filepath.Join(top, folder)); err != nil {
				return fmt.Errorf("there is no %s", word)
			}
		}
		if word != "-run" && word != "-fuzz" || i+1 == len(words) {
			continue
		}
		for _, name := range strings.Split(strings.Trim(words[i+1], "^$"), "|") {
			if name, _, _ = strings.Cut(name, "/"); !strings.Contains(allTests(c.t), "func "+name) {
				return fmt.Errorf("there is no test %s", name)
			}
		}
	}
	return nil
}
