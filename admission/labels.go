package admission

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// CheckLabels refuses values of our labels that mean nothing. A ValidatingAdmissionPolicy says the same of the templates that pods are made from.
func CheckLabels(labels map[string]string) error {
	for _, label := range []string{keys.CheckpointMode, keys.RestoreMode} {
		if value, found := labels[label]; found && value != keys.True && value != keys.False {
			return fmt.Errorf("label %s is %q; it may be %q or %q", label, value, keys.True, keys.False)
		}
	}
	_, err := volumeSize(labels)
	return err
}

// checkAnnotations refuses values of our annotations that mean nothing.
func checkAnnotations(annotations map[string]string) error {
	if value, found := annotations[keys.IOUring]; found && value != keys.IOUringAllow {
		return fmt.Errorf("annotation %s is %q; it may be %q", keys.IOUring, value, keys.IOUringAllow)
	}
	for option := range strings.SplitSeq(annotations[keys.AdvancedOptions], ",") {
		if option = strings.TrimSpace(option); option != "" && option != keys.TCPEstablished {
			return fmt.Errorf("annotation %s names %q; it may name %s", keys.AdvancedOptions, option, keys.TCPEstablished)
		}
	}
	return nil
}

// volumeSize is the bound on what a capture may take, in bytes; 0 is none.
func volumeSize(labels map[string]string) (int64, error) {
	value, found := labels[keys.CheckpointVolumeSize]
	if !found {
		return 0, nil
	}
	size, err := resource.ParseQuantity(value)
	if err != nil || size.Sign() <= 0 {
		return 0, fmt.Errorf("label %s is %q; it may be a quantity of bytes above 0, as 2Gi", keys.CheckpointVolumeSize, value)
	}
	return size.Value(), nil
}
