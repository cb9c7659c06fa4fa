package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const (
	manifests = "../../manifests/monitoring/"
	rulesFile = manifests + "rules.yaml"
)

var language = parser.NewParser(parser.Options{})

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// ruleFile is as much of a file of rules as the tests look at.
type ruleFile struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	} `json:"groups"`
}

type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// alerts are those of the rules, in their order.
func alerts(t *testing.T) (all []rule) {
	t.Helper()
	var file ruleFile
	if err := yaml.UnmarshalStrict([]byte(read(t, rulesFile)), &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("there are %d alerts", len(all))
	}
	return all
}

// query is an expression of the dashboard, of the panel of that title.
type query struct{ panel, expr string }

// variables are what Grafana puts in the place of those of the dashboard, when all is shown.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$__range", "10m", "$node", ".*", "$namespace", ".*")

// queries are the expressions of the dashboard, as Grafana sends them.
func queries(t *testing.T) (all []query) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, manifests+"dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			all = append(all, query{panel.Title, variables.Replace(target.Expr)})
		}
	}
	if len(all) < 30 {
		t.Fatalf("the dashboard has %d expressions", len(all))
	}
	return all
}

// metric is a row of the reference: its kind, and the labels that it has.
type metric struct {
	kind   string
	labels []string
}

var (
	metricRow  = regexp.MustCompile("(?m)^\\| `(checkpoint_[a-z_]+)` \\| ([a-z]+) \\| [a-z ,]+ \\| ([^|]*) \\|")
	backquoted = regexp.MustCompile("`([^`]+)`")
)

// reference are the metrics that docs/reference.md documents.
func reference(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{}
	for _, row := range metricRow.FindAllStringSubmatch(read(t, "../../docs/reference.md"), -1) {
		m := metric{kind: row[2]}
		for _, label := range backquoted.FindAllStringSubmatch(row[3], -1) {
			m.labels = append(m.labels, label[1])
		}
		all[row[1]] = m
	}
	if len(all) < 30 {
		t.Fatalf("the reference has %d metrics", len(all))
	}
	return all
}

// rare are the metrics that a run shows only when something goes wrong, or is done that most do not do.
func rare(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for line := range strings.Lines(read(t, "testdata/rare.txt")) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); name != "" && name != "#" {
			names[name] = true
		}
	}
	return names
}

// parse returns the tree of an expression.
func parse(t *testing.T, expr string) parser.Expr {
	t.Helper()
	tree, err := language.ParseExpr(expr)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", expr, err))
	}
	return tree
}
