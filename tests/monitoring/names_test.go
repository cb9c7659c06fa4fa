package monitoring

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// ofTargets are the labels that Prometheus gives what it scrapes, by podmonitors.yaml and scrape.yaml.
var ofTargets = []string{"job", "instance", "node", "pod"}

// ofOthers are metrics that are not the operator's own, and their labels: those of Prometheus itself, and of controller-runtime.
var ofOthers = map[string]metric{
	"up": {kind: "gauge"},
	"controller_runtime_reconcile_errors_total": {kind: "counter", labels: []string{"controller"}},
	"controller_runtime_webhook_requests_total": {kind: "counter", labels: []string{"code", "webhook"}},
	"workqueue_depth": {kind: "gauge", labels: []string{"controller", "name", "priority"}},
}

func TestExpressionsNameWhatIsDocumented(t *testing.T) {
	known := reference(t)
	check := func(t *testing.T, expr string) {
		t.Helper()
		parser.Inspect(parse(t, expr), func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.VectorSelector:
				m, is := lookUp(known, n.Name)
				if !is {
					t.Errorf("%s: there is no metric %s", expr, n.Name)
					return nil
				}
				for _, matcher := range n.LabelMatchers {
					if matcher.Name != model.MetricNameLabel && !slices.Contains(m.labels, matcher.Name) {
						t.Errorf("%s: the metric %s has no label %s", expr, n.Name, matcher.Name)
					}
				}
			case *parser.AggregateExpr:
				for _, label := range n.Grouping {
					if !slices.Contains(labelsBelow(known, n.Expr), label) {
						t.Errorf("%s: what is grouped by %s does not have that label", expr, label)
					}
				}
			}
			return nil
		})
	}
	for _, a := range alerts(t) {
		t.Run(a.Alert, func(t *testing.T) { check(t, a.Expr) })
	}
	for _, q := range queries(t) {
		t.Run(q.panel, func(t *testing.T) { check(t, q.expr) })
	}
}

// lookUp returns a metric by the name of one of its series, with all labels that those have.
func lookUp(known map[string]metric, name string) (metric, bool) {
	for _, all := range []map[string]metric{known, ofOthers} {
		if m, is := all[name]; is && m.kind != "histogram" {
			m.labels = slices.Concat(m.labels, ofTargets)
			return m, true
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base, has := strings.CutSuffix(name, suffix)
			if m, is := all[base]; has && is && m.kind == "histogram" {
				m.labels = slices.Concat(m.labels, ofTargets)
				if suffix == "_bucket" {
					m.labels = append(m.labels, labels.BucketLabel)
				}
				return m, true
			}
		}
	}
	return metric{}, false
}

// labelsBelow are those of all series that an expression is made of.
func labelsBelow(known map[string]metric, expr parser.Expr) (all []string) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, is := node.(*parser.VectorSelector); is {
			m, _ := lookUp(known, selector.Name)
			all = append(all, m.labels...)
		}
		return nil
	})
	return all
}

// The dashboard and the alerts are of some use only when they show what there is: each metric is looked at by one of them, but for those that are named here.
func TestEachMetricIsLookedAt(t *testing.T) {
	var text strings.Builder
	for _, a := range alerts(t) {
		text.WriteString(a.Expr + "\n")
	}
	for _, q := range queries(t) {
		text.WriteString(q.expr + "\n")
	}
	for name := range reference(t) {
		if !regexp.MustCompile(`\b` + name + `(_bucket|_sum|_count)?\b`).MatchString(text.String()) {
			t.Errorf("no alert and no panel looks at %s", name)
		}
	}
}

// Names and units are those that Prometheus asks for: base units, and _total for what only grows. See https://prometheus.io/docs/practices/naming/.
func TestNamesFollowTheConvention(t *testing.T) {
	for name, m := range reference(t) {
		if isTotal := strings.HasSuffix(name, "_total"); isTotal != (m.kind == "counter") {
			t.Errorf("%s is a %s: those that end in _total are counters, and all counters do", name, m.kind)
		}
		if m.kind == "histogram" && !strings.HasSuffix(name, "_seconds") && !strings.HasSuffix(name, "_bytes") {
			t.Errorf("%s has no unit", name)
		}
		for _, unit := range []string{"_milliseconds", "_minutes", "_kilobytes", "_mib", "_percent", "_ms"} {
			if strings.Contains(name, unit) {
				t.Errorf("%s is not in a base unit", name)
			}
		}
		for _, label := range m.labels {
			if slices.Contains([]string{"pod", "checkpoint", "uid", "container", "key", "name"}, label) {
				t.Errorf("%s has the label %s, of which there are more and more values", name, label)
			}
		}
	}
	for name := range rare(t) {
		if _, is := reference(t)[name]; !is {
			t.Errorf("testdata/rare.txt has %s, which is not documented", name)
		}
	}
}
