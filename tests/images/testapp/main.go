// Command testapp is the program that the cluster's tests run in pods. It has no state but what it counts in memory, so that a number
// that goes on is a process that goes on. It is a static binary: an image of it holds nothing else.
package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: testapp {serve|write|webhook|echo|count|append|sleep|leave|processes|lines|parent|feed|lock} [flags]")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	address := flags.String("address", ":8080", "where to listen")
	certificate := flags.String("certificates", "/certificates", "folder with tls.crt and tls.key")
	mib := flags.Int("mib", 0, "of memory that nothing compresses, to hold while serving")
	pages := flags.Int("touch-mib", 0, "of memory with a number in each page, to hold while serving")
	deaf := flags.Bool("ignore-term", false, "outlive SIGTERM while serving")
	undumpable := flags.Bool("undumpable", false, "hold something that CRIU cannot dump while serving")
	connections := flags.String("connections", "", "where else to listen, for connections that stay open")
	endLog := flags.String("end-log", "", "file to write to when the stop signal comes")
	noteSignals := flags.String("note-signals", "", "file to write the names of signals to that come while serving")
	input := flags.Bool("lines", false, "count the lines of the input, too, while serving")
	upTo := flags.Int("up-to", 5, "the last number to count to")
	path := flags.String("file", "", "a file to write; while serving, end with 1 unless it is there, and make it")
	text := flags.String("text", "", "what to write into it")
	if err := flags.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	var err error
	switch os.Args[1] {
	case "write":
		err = os.WriteFile(*path, []byte(*text), 0o644)
	case "serve":
		if *path != "" {
			if _, err := os.Stat(*path); err != nil {
				log.Fatal(errors.Join(err, os.WriteFile(*path, nil, 0o644)))
			}
		}
		if *deaf {
			ignoreTerm()
		}
		if *endLog != "" {
			endSlowly(*endLog)
		}
		if *noteSignals != "" {
			noteStopSignals(*noteSignals)
		}
		if *input {
			go func() { _ = lines() }()
		}
		if err = errors.Join(hold(*mib, *undumpable), touch(*pages), surround(*connections)); err == nil {
			err = serve(*address)
		}
	case "webhook":
		err = webhook(*address, *certificate)
	case "count":
		for i := 1; i <= *upTo; i++ {
			fmt.Println(i)
		}
	default:
		err = verb(os.Args[1], flags.Args())
	}
	if err != nil {
		log.Fatal(err)
	}
}

// verb does what has no flags.
func verb(name string, words []string) (err error) {
	arguments := append(slices.Clip(words), "", "")
	switch name {
	case "echo":
		_, err = io.Copy(os.Stdout, os.Stdin)
	case "append":
		err = appendLine(arguments[0], arguments[1])
	case "sleep":
		time.Sleep(time.Hour)
	case "leave":
		err = leave(arguments[0])
	case "processes":
		err = processes()
	case "lines":
		err = lines()
	case "parent":
		parent(words)
	case "feed":
		err = feed(arguments[0])
	case "lock":
		err = lockAndSleep(arguments[0])
	default:
		err = fmt.Errorf("verb is %q; it may be serve, write, webhook, echo, count, append, sleep, leave, processes, lines, parent, feed or lock", name)
	}
	return err
}

// held is memory and a descriptor that the process keeps.
var held struct {
	memory []byte
	fd     uintptr
}

// userModeOnly is UFFD_USER_MODE_ONLY of linux/userfaultfd.h, with which anybody may have one.
const userModeOnly = 1

func hold(mib int, undumpable bool) error {
	held.memory = make([]byte, mib<<20)
	if _, err := rand.Read(held.memory); err != nil {
		return err
	}
	if !undumpable {
		return nil
	}
	var errno syscall.Errno
	if held.fd, _, errno = syscall.Syscall(unix.SYS_USERFAULTFD, userModeOnly, 0, 0); errno != 0 {
		return fmt.Errorf("userfaultfd: %w", errno)
	}
	return nil
}

// Answer is what GET /count returns.
type Answer struct {
	Count int64  `json:"count"`
	PID   int    `json:"pid"`
	UID   int    `json:"uid"`
	Host  string `json:"host"`
}

// serve counts ten times a second and answers GET /count, GET /fetch?url=… (what the pod gets from there) and PUT and GET /file/PATH.
func serve(address string) error {
	var count atomic.Int64
	go func() {
		for range time.Tick(100 * time.Millisecond) {
			if n := count.Add(1); n%10 == 0 {
				fmt.Println("count", n)
			}
		}
	}()
	http.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		_ = json.NewEncoder(w).Encode(Answer{Count: count.Load(), PID: os.Getpid(), UID: os.Getuid(), Host: host})
	})
	http.HandleFunc("GET /fetch", func(w http.ResponseWriter, r *http.Request) {
		body, err := fetch(r.URL.Query().Get("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(body)
	})
	http.HandleFunc("/file/", file)
	http.HandleFunc("/list/", list)
	http.HandleFunc("GET /io_uring", ioUring)
	http.HandleFunc("GET /checksum", checksum)
	http.HandleFunc("GET /spin", spin)
	for path, handler := range map[string]http.HandlerFunc{
		"/look": look, "/build": build, "/hold": holdFile, "/held": heldFiles, "/write": writeHeld, "/rights": rights,
		"/raise": raise, "/grow": grow, "/healthy": healthy, "/sicken": sicken, "/terminal": terminal,
		"/pipe": makePipe, "/piped": piped, "/lock": lockFile, "/locked": locked,
	} {
		http.HandleFunc("GET "+path, handler)
	}
	server := &http.Server{Addr: address, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}

// fetch gets a URL; the API server of the cluster gets the pod's own token.
func fetch(url string) ([]byte, error) {
	request, err := http.NewRequest(http.MethodGet, os.ExpandEnv(url), nil)
	if err != nil {
		return nil, err
	}
	if token, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/token"); err == nil && request.URL.Scheme == "https" {
		request.Header.Set("Authorization", "Bearer "+string(token))
	}
	unverified := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // a test in its own network
	client := &http.Client{Timeout: 5 * time.Second, Transport: unverified}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}

func file(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/file")
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err = errors.Join(err, os.WriteFile(path, data, 0o644)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_, _ = w.Write(data)
}

// list answers with the names in a folder.
func list(w http.ResponseWriter, r *http.Request) {
	entries, err := os.ReadDir(strings.TrimPrefix(r.URL.Path, "/list"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	for _, entry := range entries {
		fmt.Fprintln(w, entry.Name())
	}
}

// webhook answers admission reviews: it lets everything pass and adds the annotation testapp/seen.
func webhook(address, certificates string) error {
	http.HandleFunc("/mutate", func(w http.ResponseWriter, r *http.Request) {
		var review map[string]any
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		request, ok := review["request"].(map[string]any)
		if !ok {
			http.Error(w, "the review has no request", http.StatusBadRequest)
			return
		}
		patch := []byte(`[{"op":"add","path":"/metadata/annotations","value":{"testapp/seen":"true"}}]`)
		review["response"] = map[string]any{"uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch}
		_ = json.NewEncoder(w).Encode(review)
	})
	server := &http.Server{Addr: address, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServeTLS(certificates+"/tls.crt", certificates+"/tls.key")
}
