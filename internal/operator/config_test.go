package operator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// said is a Config as a test compares it.
type said struct {
	Paused, Selector string
	Names            []string
	Quota            int64
}

func say(c Config) said {
	s := said{Paused: c.Paused, Names: c.Names, Quota: c.Quota}
	if c.Selector != nil {
		s.Selector = c.Selector.String()
	}
	return s
}

const pausedByUs = "the whole operator is paused, as ConfigMap checkpoint-operator says"

func TestWhatTheConfigMapSays(t *testing.T) {
	former := &Config{Paused: "it was", Names: []string{"before"}, Quota: 7}
	for name, test := range map[string]struct {
		data   map[string]string
		former *Config
		want   said
		wrong  string // in the error; empty for none
	}{
		"nothing":                    {},
		"nothing, after something":   {former: former},
		"it is paused":               {data: map[string]string{"paused": "true"}, want: said{Paused: pausedByUs}},
		"it is not paused":           {data: map[string]string{"paused": "false"}, former: former},
		"a line's end is no mistake": {data: map[string]string{"paused": "true\n"}, want: said{Paused: pausedByUs}},
		"names":                      {data: map[string]string{"namespaces": "a, b\nc"}, want: said{Names: []string{"a", "b", "c"}}},
		"a selector":                 {data: map[string]string{"namespaceSelector": "team in (blue,red)"}, want: said{Selector: "team in (blue,red)"}},
		"a quota":                    {data: map[string]string{"namespaceQuota": "1Gi"}, want: said{Quota: 1 << 30}},
		"a bad pause changes nothing": {
			data: map[string]string{"paused": "yes"}, former: former, want: said{Paused: "it was"},
			wrong: `paused of ConfigMap checkpoint-operator is "yes"; it may be "true" or "false"`,
		},
		"a bad name changes nothing": {
			data: map[string]string{"namespaces": "A"}, former: former, want: said{Names: []string{"before"}},
			wrong: `namespaces of ConfigMap checkpoint-operator names "A"`,
		},
		"no name at all": {
			data: map[string]string{"namespaces": " "}, former: former, want: said{Names: []string{"before"}},
			wrong: "without the key all are allowed",
		},
		"a bad selector": {
			data: map[string]string{"namespaceSelector": "a=b=c"}, former: former,
			wrong: `namespaceSelector of ConfigMap checkpoint-operator is "a=b=c"`,
		},
		"an empty selector": {data: map[string]string{"namespaceSelector": ""}, former: former, wrong: "a selector of labels"},
		"a bad quota changes nothing": {
			data: map[string]string{"namespaceQuota": "0"}, former: former, want: said{Quota: 7},
			wrong: `is "0"; it may be a quantity of bytes above 0`,
		},
		"a key that there is not": {data: map[string]string{"pause": "true"}, wrong: `has the key "pause"; it may have paused, namespaces`},
		"the others count all the same": {
			data: map[string]string{"namespaceQuota": "much", "paused": "true"}, former: &Config{}, want: said{Paused: pausedByUs},
			wrong: "much",
		},
		"bad, and nothing is known before": {
			data: map[string]string{"namespaces": "A"}, wrong: `names "A"`,
			want: said{Paused: "ConfigMap checkpoint-operator cannot be understood: " +
				`namespaces of ConfigMap checkpoint-operator names "A"; it may name namespaces, separated by commas`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(test.data, test.former)
			if diff := cmp.Diff(test.want, say(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if (err != nil) != (test.wrong != "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestWhatWasSaidLastHoldsUntilSomethingElseIs(t *testing.T) {
	k := &Keeper{}
	if c, known := k.Last(); known {
		t.Errorf("before anything is said: %+v", c)
	}
	for _, step := range []struct {
		paused string
		want   string
		bad    bool
	}{{"true", pausedByUs, false}, {"treu", pausedByUs, true}, {"false", "", false}, {"treu", "", true}} {
		c, err := k.Take(map[string]string{Paused: step.paused})
		if last, known := k.Last(); c.Paused != step.want || (err != nil) != step.bad || !known || last.Paused != step.want {
			t.Errorf("after %q: %+v, %v; %+v is remembered", step.paused, c, err, last)
		}
	}
	k = &Keeper{}
	if c, err := k.Take(map[string]string{Paused: "treu"}); err == nil || c.Paused == "" {
		t.Errorf("with nothing to go on: %+v, %v", c, err)
	}
	if c, _ := k.Take(nil); c.Paused != "" {
		t.Errorf("it stays: %+v", c)
	}
}

func TestWhichNamespacesAreAllowed(t *testing.T) {
	blue := map[string]string{"team": "blue"}
	for name, test := range map[string]struct {
		data   map[string]string
		labels map[string]string
		want   bool
	}{
		"without a word all are":     {want: true},
		"it is named":                {data: map[string]string{"namespaces": "x,one"}, want: true},
		"it is not named":            {data: map[string]string{"namespaces": "x"}},
		"it is selected":             {data: map[string]string{"namespaceSelector": "team=blue"}, labels: blue, want: true},
		"it is not selected":         {data: map[string]string{"namespaceSelector": "team=blue"}},
		"selected, and not named":    {data: map[string]string{"namespaces": "x", "namespaceSelector": "team=blue"}, labels: blue, want: true},
		"neither selected nor named": {data: map[string]string{"namespaces": "x", "namespaceSelector": "team=red"}, labels: blue},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse(test.data, nil)
			if got := c.Allows("one", test.labels); err != nil || got != test.want {
				t.Errorf("%t, %v", got, err)
			}
		})
	}
}

func TestTheQuotaOfANamespace(t *testing.T) {
	c := Config{Quota: 10}
	for name, test := range map[string]struct {
		annotation *string
		want       int64
		wrong      string
	}{
		"that of all": {want: 10},
		"its own":     {annotation: new("1Ki"), want: 1024},
		"a bad one": {
			annotation: new("lots"), want: 10, wrong: `annotation memverge.ai/checkpoint-quota of namespace one is "lots"; it may be a quantity of bytes above 0`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			annotations := map[string]string{}
			if test.annotation != nil {
				annotations[keys.NamespaceQuota] = *test.annotation
			}
			got, err := c.QuotaOf("one", annotations)
			if got != test.want || (err != nil) != (test.wrong != "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("it is %d, %v", got, err)
			}
		})
	}
}
