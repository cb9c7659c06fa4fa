// Command vulncheck looks for known vulnerabilities in what the operator calls, with govulncheck (https://go.dev/doc/security/vuln) of the version in
// go.mod. GOVULNDB says where the database of vulnerabilities is, https://vuln.go.dev where it does not. A machine that cannot reach it is told so, and
// nothing has failed: whoever builds without the internet gets no further checks, and no false alarm.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/vuln/scan"
)

const (
	publicDatabase = "https://vuln.go.dev"
	patience       = 10 * time.Second
)

func main() {
	database := cmp.Or(os.Getenv("GOVULNDB"), publicDatabase)
	if err := reach(context.Background(), database); err != nil {
		fmt.Printf("govulncheck: not run: the vulnerability database cannot be reached: %v\n", err)
		return
	}
	if err := check(context.Background(), append([]string{"-db", database}, os.Args[1:]...)); err != nil {
		fmt.Fprintln(os.Stderr, "govulncheck:", err)
		os.Exit(1)
	}
}

// reach asks the database for the smallest file that each has.
func reach(ctx context.Context, database string) error {
	where, err := url.Parse(database)
	if err != nil {
		return err
	}
	if where.Scheme == "file" {
		_, err := os.Stat(filepath.Join(where.Path, "index/modules.json"))
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where.JoinPath("index/db.json").String(), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// check fails when a vulnerability is in something that the packages call.
func check(ctx context.Context, words []string) error {
	command := scan.Command(ctx, words...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Start(); err != nil {
		return err
	}
	return command.Wait()
}
