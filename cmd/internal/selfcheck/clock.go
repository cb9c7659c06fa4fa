package selfcheck

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"k8s.io/client-go/rest"

	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// What a clock may differ by. Ages of Checkpoints and the order of captures are told by the clocks of the nodes; services of buckets refuse what was signed 15
// minutes ago.
const (
	someSkew = 5 * time.Second
	tooMuch  = 5 * time.Minute
)

// Clock compares the clock with that of the API server, which says its time to the second.
func Clock(ctx context.Context, config *rest.Config) inspect.Check {
	check := inspect.Check{Name: "clock", Level: inspect.OK}
	skew, exact, err := measure(ctx, config)
	if err != nil {
		check.Level, check.Says = inspect.Warn, "it cannot be compared with that of the API server: "+err.Error()
		return check
	}
	return judge(check, skew, exact)
}

func judge(check inspect.Check, skew, exact time.Duration) inspect.Check {
	size, direction := skew, "ahead of"
	if skew < 0 {
		size, direction = -skew, "behind"
	}
	if size <= exact {
		check.Says = fmt.Sprintf("as that of the API server, to %s", exact.Round(100*time.Millisecond))
		return check
	}
	check.Says = fmt.Sprintf("%s %s that of the API server, to %s", size.Round(100*time.Millisecond), direction, exact.Round(100*time.Millisecond))
	switch {
	case size-exact > tooMuch:
		check.Level = inspect.Fail
	case size-exact > someSkew:
		check.Level = inspect.Warn
	}
	if check.Level != inspect.OK {
		check.Mend = "set the clocks of the node and of the control plane by NTP (chrony, systemd-timesyncd)"
	}
	return check
}

// measure returns by how much the clock is ahead of the API server's, and how exactly that is known.
func measure(ctx context.Context, config *rest.Config) (skew, exact time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	web, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, 0, err
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return 0, 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.JoinPath("version").String(), nil)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	response, err := web.Do(request)
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	defer response.Body.Close()
	theirs, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return 0, 0, fmt.Errorf("its answer %s has no time: %w", response.Status, err)
	}
	const second = time.Second // the rest of a second, which they do not say, is half of one as a rule
	return began.Add(took / 2).Sub(theirs.Add(second / 2)), took/2 + second/2, nil
}
