package keys

import "testing"

func TestClaimsOfTwoPodsHaveTwoFieldManagers(t *testing.T) {
	one, other := ClaimFields("0f2d4c1a-93c1-4f7e-8a3d-5b8f3f6f1c2e"), ClaimFields("7a1be2d0-93c1-4f7e-8a3d-5b8f3f6f1c2e")
	if one == other {
		t.Errorf("both are %s", one)
	}
	if len(one) > 128 {
		t.Errorf("%s has %d characters, the API server takes 128", one, len(one))
	}
}
