package v1alpha1

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDefaultLocation(t *testing.T) {
	location := func(name string, role LocationRole, age time.Duration) CheckpointStorageLocation {
		return CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))},
			Spec:       CheckpointStorageLocationSpec{Role: role},
		}
	}
	leaving := location("leaving", RoleDefault, 3*time.Hour)
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Unix(1e9, 0)}
	for name, tc := range map[string]struct {
		locations []CheckpointStorageLocation
		want      string
	}{
		"without a location there is none": {},
		"one that must be named is not taken": {
			locations: []CheckpointStorageLocation{location("a", RoleNamed, 0)},
		},
		"the oldest of several is taken": {
			locations: []CheckpointStorageLocation{location("a", RoleDefault, time.Hour), location("b", RoleDefault, 2*time.Hour), leaving},
			want:      "b",
		},
		"of equally old ones the first by name is taken": {
			locations: []CheckpointStorageLocation{location("b", RoleDefault, 0), location("a", RoleDefault, 0), location("0", RoleNamed, 0)},
			want:      "a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if l := DefaultLocation(tc.locations); l != nil {
				got = l.Name
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestUploadLocation(t *testing.T) {
	locations := []CheckpointStorageLocation{
		{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: CheckpointStorageLocationSpec{Role: RoleDefault}},
		{ObjectMeta: metav1.ObjectMeta{Name: "archive"}, Spec: CheckpointStorageLocationSpec{Role: RoleNamed}},
		{ObjectMeta: metav1.ObjectMeta{Name: "museum"}, Spec: CheckpointStorageLocationSpec{AccessMode: AccessReadOnly}},
	}
	naming := func(name string) *CheckpointPolicy {
		return &CheckpointPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: CheckpointPolicySpec{StorageLocation: name}}
	}
	for name, tc := range map[string]struct {
		policy       *CheckpointPolicy
		locations    []CheckpointStorageLocation
		want, reason string
	}{
		"without a policy it is the default":     {locations: locations, want: "main"},
		"a policy that names none has that, too": {policy: naming(""), locations: locations, want: "main"},
		"the one that is named":                  {policy: naming("archive"), locations: locations, want: "archive"},
		"one that is only read":                  {policy: naming("museum"), locations: locations, reason: ReasonLocationReadOnly},
		"one that there is not":                  {policy: naming("attic"), locations: locations, reason: ReasonLocationNotFound},
		"there is no default":                    {locations: locations[1:], reason: ReasonNoStorageLocation},
	} {
		t.Run(name, func(t *testing.T) {
			location, reason, message := UploadLocation(tc.policy, tc.locations)
			got := ""
			if location != nil {
				got = location.Name
			}
			if got != tc.want || reason != tc.reason || (message == "") != (reason == "") {
				t.Errorf("it is %q for the reason %q: %s", got, reason, message)
			}
		})
	}
}
