package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// column is what a person sees of a column; those that are wide only with -o wide.
type column struct {
	name string
	wide bool
	cell any
}

func TestColumns(t *testing.T) {
	ns := namespace(t)
	removeLocations(t)
	api := client.CheckpointV1alpha1()
	checkpoint := create(t, api.Checkpoints(ns), newCheckpoint, func(c *v1alpha1.Checkpoint) {
		c.Status, c.Labels = completed(), map[string]string{keys.CheckpointPin: keys.True}
	})
	fresh := create(t, api.Checkpoints(ns), newCheckpoint, nil)
	policy := create(t, api.RestorePolicies(ns), newRestorePolicy, func(p *v1alpha1.RestorePolicy) {
		p.Status.Conditions = conditions(v1alpha1.RestorePolicyReady, v1alpha1.RestorePolicyActive)
		p.Status.Restored = 3
	})
	capturing := create(t, api.CheckpointPolicies(ns), newCheckpointPolicy, func(p *v1alpha1.CheckpointPolicy) {
		p.Spec.StorageLocation, p.Status.MatchedPods = "archive", 2
		p.Spec.Retention.MaxSize = new(resource.MustParse("20Gi"))
		p.Status.Conditions = conditions(v1alpha1.CheckpointPolicyReady, v1alpha1.CheckpointPolicyActive)
	})
	location := create(t, api.CheckpointStorageLocations(), newLocation, func(l *v1alpha1.CheckpointStorageLocation) {
		l.Status.Conditions = conditions(v1alpha1.LocationAvailable, v1alpha1.LocationValidated)
		l.Status.LastValidationTime = &metav1.Time{Time: time.Now().Add(-2 * time.Hour)}
	})
	for name, tc := range map[string]struct {
		resource, namespace, object string
		want                        []column
	}{
		"a Checkpoint that is complete and claimed": {
			resource: "checkpoints", namespace: ns, object: checkpoint.Name,
			want: []column{
				{"Name", false, checkpoint.Name}, {"Pod", false, "web-7d9f8c6b5-x2x4z"}, {"State", false, "Completed"}, {"Size", false, "257Mi"},
				{"Frozen", false, "412ms"}, {"Node", false, "worker-1"}, {"Age", false, "AGE"}, {"Owner", true, "web-7d9f8c6b5"},
				{"Location", true, "minio"}, {"Volume", true, nil}, {"Claimed-By", true, "web-7d9f8c6b5-q8r5t"}, {"Trigger", true, "Termination"}, {"Pinned", true, "true"},
			},
		},
		"a Checkpoint that nobody has seen yet": {
			resource: "checkpoints", namespace: ns, object: fresh.Name,
			want: []column{
				{"Name", false, fresh.Name}, {"Pod", false, "web-7d9f8c6b5-x2x4z"}, {"State", false, "Pending"}, {"Size", false, nil},
				{"Frozen", false, nil}, {"Node", false, nil}, {"Age", false, "AGE"}, {"Owner", true, nil},
				{"Location", true, nil}, {"Volume", true, nil}, {"Claimed-By", true, nil}, {"Trigger", true, "Termination"}, {"Pinned", true, nil},
			},
		},
		"a RestorePolicy": {
			resource: "restorepolicies", namespace: ns, object: policy.Name,
			want: []column{
				{"Name", false, policy.Name}, {"Mode", false, "Enabled"}, {"Owner", false, "db"}, {"Fallback", false, "ColdStart"},
				{"Restored", false, int64(3)}, {"Cold", false, int64(0)}, {"Failed", false, int64(0)}, {"Age", false, "AGE"},
				{"State", true, "Active"}, {"Source", true, "Latest"}, {"Checkpoint", true, nil}, {"Template-Changes", true, "ColdStart"},
				{"Wait-For", true, "5m"}, {"Max-Age", true, "24h"}, {"Overruled", true, nil},
			},
		},
		"a CheckpointPolicy": {
			resource: "checkpointpolicies", namespace: ns, object: capturing.Name,
			want: []column{
				{"Name", false, capturing.Name}, {"State", false, "Active"}, {"Pods", false, int64(2)}, {"Keep-Last", false, int64(3)}, {"TTL", false, "168h"},
				{"Location", false, "archive"}, {"Age", false, "AGE"}, {"Max-Size", true, "20Gi"}, {"On-Completed", true, "Delete"}, {"On-Deleted", true, "Delete"},
			},
		},
		"a CheckpointStorageLocation": {
			resource: "checkpointstoragelocations", object: location.Name,
			want: []column{
				{"Name", false, location.Name}, {"State", false, "Validated"}, {"Bucket", false, "checkpoints"}, {"Role", false, "Named"},
				{"Last-Validated", false, "120m"}, {"Age", false, "AGE"}, {"Default", true, nil}, {"Access", true, "ReadWrite"},
				{"Synced", true, nil}, {"Endpoint", true, "https://s3.example.com"}, {"Prefix", true, "clusters/one"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, columns(t, tc.resource, tc.namespace, tc.object), cmp.AllowUnexported(column{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestKubectlKnowsTheShortNames(t *testing.T) {
	ns := namespace(t)
	create(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, nil)
	create(t, client.CheckpointV1alpha1().RestorePolicies(ns), newRestorePolicy, nil)
	create(t, client.CheckpointV1alpha1().CheckpointPolicies(ns), newCheckpointPolicy, nil)
	removeLocations(t)
	create(t, client.CheckpointV1alpha1().CheckpointStorageLocations(), newLocation, nil)
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"checkpoints":           {[]string{"ckpt"}, "NAME POD STATE SIZE FROZEN NODE AGE"},
		"checkpoints, wide":     {[]string{"ckpt", "-o", "wide"}, "NAME POD STATE SIZE FROZEN NODE AGE OWNER LOCATION VOLUME CLAIMED-BY TRIGGER PINNED"},
		"restore policies":      {[]string{"rp"}, "NAME MODE OWNER FALLBACK RESTORED COLD FAILED AGE"},
		"checkpoint policies":   {[]string{"cp"}, "NAME STATE PODS KEEP-LAST TTL LOCATION AGE"},
		"storage locations":     {[]string{"csl"}, "NAME STATE BUCKET ROLE LAST-VALIDATED AGE"},
		"the name in full, too": {[]string{"checkpoints"}, "NAME POD STATE SIZE FROZEN NODE AGE"},
	} {
		t.Run(name, func(t *testing.T) {
			output, err := kubectl(t.Context(), append([]string{"--namespace=" + ns, "get"}, tc.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(output, "\n")
			if diff := cmp.Diff(tc.want, strings.Join(strings.Fields(head), " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// completed is the status of a Checkpoint that was restored.
func completed() v1alpha1.CheckpointStatus {
	size := int64(256<<20 + 4096)
	return v1alpha1.CheckpointStatus{
		Conditions: conditions(v1alpha1.CheckpointReady, v1alpha1.StateCompleted), Source: newSource(),
		Containers: []v1alpha1.CheckpointContainer{{Name: "web", Image: "registry.example.com/web:1"}},
		SizeBytes:  &size, Size: v1alpha1.ReadableSize(size), Frozen: v1alpha1.ReadableDuration(412345678), LocationName: "minio",
		ManifestDigest: digest, Claim: newClaim(v1alpha1.ClaimConsumed),
	}
}

func conditions(kind, reason string) []metav1.Condition {
	return []metav1.Condition{
		{Type: "Another", Status: metav1.ConditionTrue, Reason: "NotShown", LastTransitionTime: metav1.Now()},
		{Type: kind, Status: metav1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.Now()},
	}
}

// columns asks the API server for an object as a table, as kubectl does. An age is there as AGE.
func columns(t *testing.T, resource, ns, name string) (all []column) {
	t.Helper()
	table := &metav1.Table{}
	err := client.CheckpointV1alpha1().RESTClient().Get().SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").
		NamespaceIfScoped(ns, ns != "").Resource(resource).Name(name).Do(t.Context()).Into(table)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 {
		t.Fatalf("the table has %d rows", len(table.Rows))
	}
	for i, definition := range table.ColumnDefinitions {
		all = append(all, column{name: definition.Name, wide: definition.Priority > 0, cell: table.Rows[0].Cells[i]})
	}
	if i := slices.IndexFunc(all, func(c column) bool { return c.name == "Age" }); i >= 0 {
		all[i].cell = "AGE"
	}
	return all
}
