package monitoring

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"

	"sigs.k8s.io/yaml"
)

// cases are, for each alert, series on which it has to fire, and series of a cluster in which all is well, both as promtool has them, a value each minute.
var cases = map[string]struct{ fires, rests string }{
	"CheckpointManagerDown": {
		fires: `up{job="checkpoint-manager",pod="a"} 0x120`,
		rests: `up{job="checkpoint-manager",pod="a"} 0x120
			up{job="checkpoint-manager",pod="b"} 1x120`,
	},
	"CheckpointAgentDown": {
		fires: `up{job="checkpoint-agent",node="worker-1",pod="a"} 1x30 0x90`,
		rests: `up{job="checkpoint-agent",node="worker-1",pod="a"} 1x60 0x3 1x57`,
	},
	"CheckpointNodeNotReady": {
		fires: `checkpoint_node_ready{node="worker-1"} 0x120`,
		rests: `checkpoint_node_ready{node="worker-1"} 0x5 1x115`,
	},
	"CheckpointCapturesFail": {
		fires: `checkpoint_captures_total{node="worker-1",outcome="NoSpace"} 0x115 1x5`,
		rests: `checkpoint_captures_total{node="worker-1",outcome="NoSpace"} 7x120
			checkpoint_captures_total{node="worker-1",outcome="Captured"} 0+1x120
			checkpoint_captures_total{node="worker-1",outcome="SourceTerminated"} 0+1x120`,
	},
	"CheckpointNotUploaded": {
		fires: `checkpoint_queue_oldest_timestamp_seconds{node="worker-1",queue="upload"} 60x120`,
		rests: `checkpoint_queue_oldest_timestamp_seconds{node="worker-1",queue="upload"} 0+60x120
			checkpoint_queue_oldest_timestamp_seconds{node="worker-1",queue="publish"} _x120`,
	},
	"CheckpointCaptureHangs": {
		fires: `checkpoint_queue_oldest_timestamp_seconds{node="worker-1",queue="capture"} 60x120`,
		rests: `checkpoint_queue_oldest_timestamp_seconds{node="worker-1",queue="capture"} 0+60x120`,
	},
	"CheckpointVolumeFails": {
		fires: `checkpoint_volume_failures_total{node="worker-1"} 0x115 1x5`,
		rests: `checkpoint_volume_failures_total{node="worker-1"} 3x120`,
	},
	"CheckpointPodsUnprotected": {
		fires: `checkpoint_unprotected_pods_total{reason="NotAdmitted"} 0x115 1x5`,
		rests: `checkpoint_unprotected_pods_total{reason="NotAdmitted"} 3x120
			checkpoint_unprotected_pods_total{reason="HostNetwork"} 0+1x120`,
	},
	"CheckpointRestoresFail": {
		fires: `checkpoint_restores_total{node="worker-1",outcome="RestoreFailed"} 0x115 1x5`,
		rests: `checkpoint_restores_total{node="worker-1",outcome="RestoreFailed"} 2x120
			checkpoint_restores_total{node="worker-1",outcome="RestoredFromCheckpoint"} 0+1x120`,
	},
	"CheckpointRestoreRefused": {
		fires: `checkpoint_restores_total{node="worker-1",outcome="RestoreRefused"} 0x115 1x5`,
		rests: `checkpoint_restores_total{node="worker-1",outcome="RestoreRefused"} 2x120`,
	},
	"CheckpointPodWaits": {
		fires: `checkpoint_queue_oldest_timestamp_seconds{node="worker-1",queue="restore"} 60x120`,
		rests: `checkpoint_queue_oldest_timestamp_seconds{node="worker-1",queue="restore"} 0+60x120
			checkpoint_queue_oldest_timestamp_seconds{node="worker-2",queue="upload"} 60x120`,
	},
	"CheckpointLocationUnavailable": {
		fires: `checkpoint_location_available{location="main"} 1x60 0x60`,
		rests: `checkpoint_location_available{location="main"} 1x115 0x5`,
	},
	"CheckpointStoreErrors": {
		fires: `checkpoint_store_errors_total{location="main",method="Put",reason="Unavailable",node="worker-1"} 0+2x120
			checkpoint_store_request_seconds_count{location="main",method="Put",node="worker-1"} 0+10x120`,
		rests: `checkpoint_store_errors_total{location="main",method="Put",reason="Unavailable",node="worker-1"} 0+1x120
			checkpoint_store_request_seconds_count{location="main",method="Put",node="worker-1"} 0+100x120
			checkpoint_store_request_seconds_count{location="idle",method="Put",node="worker-1"} 5x120`,
	},
	"CheckpointStalled": {
		fires: `checkpoint_stalled_objects{namespace="apps",reason="NoStorageLocation"} 2x120`,
		rests: `checkpoint_stalled_objects{namespace="apps",reason="NoStorageLocation"} _x60 1x10 _x50
			checkpoint_stalled_objects{namespace="apps",reason="QuotaExceeded"} 1x120`,
	},
	"CheckpointQuotaExceeded": {
		fires: `checkpoint_quota_waiting{namespace="apps"} 1x120`,
		rests: `checkpoint_quota_waiting{namespace="apps"} 0x120`,
	},
	"CheckpointDataLeftBehind": {
		fires: `checkpoint_leftovers{location="main"} 3x120`,
		rests: `checkpoint_leftovers{location="main"} 3x30 0x90`,
	},
	"CheckpointDiskFull": {
		fires: `checkpoint_disk_free_bytes{node="worker-1"} 5e9x120
			checkpoint_disk_size_bytes{node="worker-1"} 100e9x120`,
		rests: `checkpoint_disk_free_bytes{node="worker-1"} 50e9x120
			checkpoint_disk_size_bytes{node="worker-1"} 100e9x120`,
	},
	"CheckpointDiskBudgetExceeded": {
		fires: `checkpoint_disk_bytes{node="worker-1",what="waiting"} 30e9x120
			checkpoint_disk_budget_bytes{node="worker-1"} 20e9x120`,
		rests: `checkpoint_disk_bytes{node="worker-1",what="waiting"} 10e9x120
			checkpoint_disk_bytes{node="worker-1",what="cached"} 15e9x120
			checkpoint_disk_budget_bytes{node="worker-1"} 20e9x120
			checkpoint_disk_bytes{node="worker-2",what="waiting"} 10e9x120
			checkpoint_disk_budget_bytes{node="worker-2"} 0x120`,
	},
	"CheckpointNoGracefulShutdown": {
		fires: `checkpoint_shutdown_grace_seconds{node="worker-1",pods="usual"} 0x120`,
		rests: `checkpoint_shutdown_grace_seconds{node="worker-1",pods="usual"} 120x120`,
	},
	"CheckpointOperatorPaused": {
		fires: `checkpoint_operator_paused{pod="a"} 1x120`,
		rests: `checkpoint_operator_paused{pod="a"} 0x90 1x30`,
	},
	"CheckpointConfigInvalid": {
		fires: `checkpoint_operator_config_invalid{pod="a"} 1x120`,
		rests: `checkpoint_operator_config_invalid{pod="a"} 0x120`,
	},
	"CheckpointCertificateExpires": {
		fires: `checkpoint_webhook_certificate_expiry_timestamp_seconds{pod="a"} 300000x120
			checkpoint_webhook_certificate_expiry_timestamp_seconds{pod="b"} 900000x120`,
		rests: `checkpoint_webhook_certificate_expiry_timestamp_seconds{pod="a"} 900000x120
			checkpoint_webhook_certificate_expiry_timestamp_seconds{pod="b"} 0x120`,
	},
}

// end is when the alerts are looked at; Prometheus' own tests begin at the time 0.
const end = 120 * time.Minute

func TestAlertsFireWhenTheyShould(t *testing.T) {
	named := map[string]bool{}
	for _, a := range alerts(t) {
		named[a.Alert] = true
		test, is := cases[a.Alert]
		if !is {
			t.Errorf("the alert %s has no case", a.Alert)
			continue
		}
		t.Run(a.Alert, func(t *testing.T) {
			t.Parallel()
			fires := firing(t, promqltest.LoadedStorage(t, "load 1m\n"+test.fires), 0, end)
			if _, is := fires[a.Alert]; !is {
				t.Errorf("it does not fire on\n%s", test.fires)
			}
			for _, text := range fires[a.Alert] {
				if strings.Contains(text, "error expanding") || strings.Contains(text, "no value") {
					t.Errorf("it says %q", text)
				}
			}
			if text, is := firing(t, promqltest.LoadedStorage(t, "load 1m\n"+test.rests), 0, end)[a.Alert]; is {
				t.Errorf("it fires on\n%s\nand says %q", test.rests, text)
			}
		})
	}
	for name := range cases {
		if !named[name] {
			t.Errorf("there is a case for %s, which is no alert", name)
		}
	}
}

// firing has a rule manager of Prometheus evaluate the alerts each minute, and returns those that fire at the end, with their annotations.
func firing(t *testing.T, data storage.Storage, from, to time.Duration) map[string][]string {
	t.Helper()
	engine := newEngine(t)
	manager := rules.NewManager(&rules.ManagerOptions{
		Context: t.Context(), Appendable: data, Queryable: data, QueryFunc: rules.EngineQueryFunc(engine, data),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, FeatureRegistry: features.NewRegistry(), Parser: language,
	})
	groups, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, rulesFile)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	texts := map[string][]string{}
	for _, group := range groups {
		for at := from; at <= to; at += time.Minute {
			group.Eval(t.Context(), time.Unix(0, 0).Add(at))
		}
		for _, r := range group.AlertingRules() {
			if err := r.LastError(); err != nil {
				t.Errorf("%s: %v", r.Name(), err)
			}
			r.ForEachActiveAlert(func(a *rules.Alert) {
				if a.State == rules.StateFiring {
					a.Annotations.Range(func(l labels.Label) { texts[r.Name()] = append(texts[r.Name()], l.Value) })
				}
			})
		}
	}
	return texts
}

func newEngine(t *testing.T) *promql.Engine {
	t.Helper()
	return promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, EnableAtModifier: true, Parser: language})
}

const operations = "https://github.com/transparent-checkpoint/operator/blob/main/docs/operations.md#"

var heading = regexp.MustCompile(`(?m)^#+ (.+)$`)

// anchors are those of the headings of a page, as GitHub makes them.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		anchor := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(match[1]), "")
		all[strings.ReplaceAll(anchor, " ", "-")] = true
	}
	return all
}

func TestAlertsSayWhatToDo(t *testing.T) {
	page := read(t, "../../docs/operations.md")
	there := anchors(page)
	for _, a := range alerts(t) {
		switch a.Labels["severity"] {
		case "critical", "warning", "info":
		default:
			t.Errorf("%s has the severity %q; it may be critical, warning or info", a.Alert, a.Labels["severity"])
		}
		if a.Annotations["summary"] == "" || len(a.Annotations["description"]) < 60 {
			t.Errorf("%s does not say what is and what to do", a.Alert)
		}
		anchor, is := strings.CutPrefix(a.Annotations["runbook_url"], operations)
		if !is || !there[anchor] {
			t.Errorf("%s leads to %q, which is no heading of docs/operations.md", a.Alert, a.Annotations["runbook_url"])
		}
		if !strings.Contains(page, "`"+a.Alert+"`") {
			t.Errorf("docs/operations.md does not name %s", a.Alert)
		}
	}
	for _, match := range regexp.MustCompile("`(Checkpoint[A-Z][A-Za-z]+)`").FindAllStringSubmatch(alertsOf(page), -1) {
		if _, is := cases[match[1]]; !is {
			t.Errorf("docs/operations.md names the alert %s, which there is not", match[1])
		}
	}
}

// alertsOf is the section "Alerts" of a page.
func alertsOf(page string) string {
	_, rest, _ := strings.Cut(page, "\n### Alerts\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	return section
}

func TestTheOperatorsRuleIsTheSame(t *testing.T) {
	var object struct{ Spec, Metadata any }
	var plain any
	err := yaml.Unmarshal([]byte(read(t, manifests+"prometheusrule.yaml")), &object)
	if err == nil {
		err = yaml.Unmarshal([]byte(read(t, rulesFile)), &plain)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := compare(plain, object.Spec); diff != "" {
		t.Errorf("make manifests (-rules.yaml +prometheusrule.yaml)\n%s", diff)
	}
}
