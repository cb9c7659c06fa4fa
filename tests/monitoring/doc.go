// Package monitoring holds the tests of manifests/monitoring, in a module of its own, as Prometheus brings along more than the operator needs.
//
// Alerts and dashboard are evaluated by Prometheus' own storage, engine and rule manager: alerts on series that are written for them (alerts_test.go), and
// all expressions on a recording of a real run (run_test.go). names_test.go compares what they name with docs/reference.md.
//
// testdata/run.txt.gz is what the pods of the operator said at /metrics, every 15 s, while tests/e2e had labelled pods be captured, restored and fail on a
// local cluster: TestMetricsTellOfARun writes it anew with RECORD_METRICS=FILE. testdata/rare.txt are the metrics that a run without trouble does not show.
package monitoring
