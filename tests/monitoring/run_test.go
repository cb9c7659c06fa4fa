package monitoring

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

const recording = "testdata/run.txt.gz"

// scrape is what one pod of the operator said at one time.
type scrape struct {
	at     time.Time
	target map[string]string // the labels that Prometheus gives it
	text   string
}

// scrapeBegins is the first word of the line before each scrape: "#scrape 1764300000123 job=checkpoint-agent node=worker-1 …", with milliseconds since 1970.
const scrapeBegins = "#scrape "

// scrapes reads the recording of a run.
func scrapes(t *testing.T) (all []scrape) {
	t.Helper()
	file, err := os.Open(recording)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(unpacked)
	for lines.Scan() {
		rest, begins := strings.CutPrefix(lines.Text(), scrapeBegins)
		if !begins {
			all[len(all)-1].text += lines.Text() + "\n"
			continue
		}
		words := strings.Fields(rest)
		s := scrape{target: map[string]string{}}
		var milliseconds int64
		if _, err := fmt.Sscan(words[0], &milliseconds); err != nil {
			t.Fatal(err)
		}
		s.at = time.UnixMilli(milliseconds)
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			s.target[name] = value
		}
		all = append(all, s)
	}
	if err := lines.Err(); err != nil || len(all) < 20 {
		t.Fatalf("it has %d scrapes, %v", len(all), err)
	}
	return all
}

// load writes scrapes into a database of Prometheus, as it would have: with the labels of its targets, where a series has no such label, and the series up.
func load(t *testing.T, all []scrape) storage.Storage {
	t.Helper()
	data := promqltest.LoadedStorage(t, "")
	for _, s := range all {
		appender := data.Appender(t.Context())
		add := func(series labels.Labels, value float64) {
			builder := labels.NewBuilder(series)
			for name, label := range s.target {
				if series.Get(name) == "" {
					builder.Set(name, label)
				}
			}
			if _, err := appender.Append(0, builder.Labels(), s.at.UnixMilli(), value); err != nil {
				t.Fatal(err)
			}
		}
		add(labels.FromStrings(model.MetricNameLabel, "up"), 1)
		if err := samples(s.text, add); err != nil {
			t.Fatal(err)
		}
		if err := appender.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// samples calls add for each sample of a scrape.
func samples(text string, add func(labels.Labels, float64)) error {
	p, err := textparse.New([]byte(text), "text/plain", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return err
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var series labels.Labels
		_, _, value := p.Series()
		p.Labels(&series)
		add(series, value)
	}
}

// value evaluates an expression at one time.
func value(ctx context.Context, engine *promql.Engine, data storage.Queryable, expr string, at time.Time) (promql.Vector, error) {
	q, err := engine.NewInstantQuery(ctx, data, nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Vector()
}

// without returns an expression without the comparisons that leave nothing of a quiet run: as "x > 0", of which x remains.
func without(expr parser.Expr) parser.Expr {
	switch e := expr.(type) {
	case *parser.BinaryExpr:
		_, isNumber := e.RHS.(*parser.NumberLiteral)
		if e.Op.IsComparisonOperator() && (isNumber || !e.ReturnBool) {
			return without(e.LHS)
		}
	case *parser.ParenExpr:
		return without(e.Expr)
	}
	return expr
}

// namesIn are the metrics that an expression is made of, without what stands for the parts of a histogram.
func namesIn(expr parser.Expr) (names []string) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, is := node.(*parser.VectorSelector); is {
			name := selector.Name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
			names = append(names, name)
		}
		return nil
	})
	return names
}

// Every expression shows something of a real run, or is about what only happens when something goes wrong.
func TestExpressionsShowWhatARunWas(t *testing.T) {
	all := scrapes(t)
	data, engine, seldom := load(t, all), newEngine(t), rare(t)
	check := func(t *testing.T, expr string) {
		t.Helper()
		tree := without(parse(t, expr))
		shown := 0
		for _, s := range all {
			vector, err := value(t.Context(), engine, data, tree.String(), s.at)
			if err != nil {
				t.Fatalf("%s: %v", tree, err)
			}
			shown += len(vector)
		}
		isSeldom := slices.ContainsFunc(namesIn(tree), func(name string) bool { return seldom[name] })
		if shown == 0 && !isSeldom && !strings.HasPrefix(expr, "absent(") {
			t.Errorf("%s shows nothing", tree)
		}
	}
	for _, a := range alerts(t) {
		t.Run(a.Alert, func(t *testing.T) { check(t, a.Expr) })
	}
	for _, q := range queries(t) {
		t.Run(q.panel, func(t *testing.T) { check(t, q.expr) })
	}
}

// quietly are alerts that fire at the end of the recorded run, as they should: the nodes of a local cluster have no logind.
var quietly = []string{}

func TestNoAlertFiresWhenARunIsOver(t *testing.T) {
	all := scrapes(t)
	from, to := all[0].at.Sub(time.Unix(0, 0)), all[len(all)-1].at.Sub(time.Unix(0, 0))
	for name, texts := range firing(t, load(t, all), from, to) {
		if !slices.Contains(quietly, name) {
			t.Errorf("%s fires: %q", name, texts)
		}
	}
}

// What the operator says is what is documented, and what is documented it says.
func TestARunShowsWhatIsDocumented(t *testing.T) {
	said := map[string]bool{}
	for _, s := range scrapes(t) {
		err := samples(s.text, func(series labels.Labels, _ float64) {
			name := series.Get(model.MetricNameLabel)
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
			said[name] = true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	documented, seldom := reference(t), rare(t)
	for name := range documented {
		if !said[name] && !seldom[name] {
			t.Errorf("%s is documented, and was not there: record the run anew, or name it in testdata/rare.txt", name)
		}
	}
	for name := range said {
		if _, is := documented[name]; !is && strings.HasPrefix(name, "checkpoint_") {
			t.Errorf("%s was there, and is not documented: record the run anew", name)
		}
	}
	for name := range ofOthers {
		if !said[name] && name != "up" {
			t.Errorf("%s is not among what controller-runtime said", name)
		}
	}
}

func compare(want, got any) string { return cmp.Diff(want, got) }
