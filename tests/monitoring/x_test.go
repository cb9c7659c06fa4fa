package monitoring
import (
	_ "github.com/prometheus/prometheus/promql"
	_ "github.com/prometheus/prometheus/promql/parser"
	_ "github.com/prometheus/prometheus/promql/promqltest"
	_ "github.com/prometheus/prometheus/rules"
	_ "github.com/prometheus/prometheus/tsdb"
	_ "github.com/prometheus/prometheus/model/textparse"
	_ "sigs.k8s.io/yaml"
	_ "github.com/google/go-cmp/cmp"
)
