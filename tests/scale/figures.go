package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/transparent-checkpoint/operator/tests/install"
)

// figures are what the managers say of themselves, together.
type figures struct {
	reconciles, sent, waiting, resident float64
	webhook                             map[float64]float64 // the calls that took no longer, by seconds
	calls                               float64
}

// read asks all managers.
func read(ctx context.Context, client *kubernetes.Clientset) (figures, error) {
	f := figures{webhook: map[float64]float64{}}
	pods, err := client.CoreV1().Pods(install.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + install.Manager})
	if err != nil {
		return f, err
	}
	for _, pod := range pods.Items {
		text, err := client.CoreV1().RESTClient().Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name + ":8080").
			SubResource("proxy").Suffix("metrics").DoRaw(ctx)
		if err != nil {
			return f, fmt.Errorf("metrics of %s: %w", pod.Name, err)
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			return f, fmt.Errorf("metrics of %s: %w", pod.Name, err)
		}
		f.add(families)
	}
	return f, nil
}

func (f *figures) add(families map[string]*dto.MetricFamily) {
	sum := func(name string) (total float64) {
		for _, m := range families[name].GetMetric() {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		return total
	}
	f.reconciles += sum("controller_runtime_reconcile_total")
	f.sent += sum("rest_client_requests_total")
	f.waiting += sum("workqueue_depth") + sum("controller_runtime_active_workers")
	f.resident = max(f.resident, sum("process_resident_memory_bytes"))
	for _, m := range families["controller_runtime_webhook_latency_seconds"].GetMetric() {
		if !isOfPods(m) {
			continue
		}
		f.calls += float64(m.GetHistogram().GetSampleCount())
		for _, b := range m.GetHistogram().GetBucket() {
			f.webhook[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
	}
}

// isOfPods tells whether a histogram is of the webhook that admits pods.
func isOfPods(m *dto.Metric) bool {
	for _, label := range m.GetLabel() {
		if label.GetName() == "webhook" {
			return strings.Contains(label.GetValue(), "pod")
		}
	}
	return false
}

// since makes a row of what has come since: admission as the manager has it, by the upper bound of the bucket.
func (f figures) since(before figures) row {
	r := row{ManagerMiB: f.resident / (1 << 20), Admissions: f.calls - before.calls}
	for bound, n := range f.webhook {
		if n-before.webhook[bound] >= 0.99*r.Admissions && (r.WebhookP99 == 0 || bound*1000 < r.WebhookP99) {
			r.WebhookP99 = bound * 1000
		}
	}
	return r
}

func (f figures) requests(before figures) float64 { return f.sent - before.sent }
