// Command web is a Go server together with its clients: connections that are kept alive, streams, timers, goroutines that wait, a mapped file, a
// child. It answers GET /check on port 8080 like the programs of tests/images/scripts. It is a static binary.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "child" {
		child()
		return
	}
	state, err := newState("/work")
	if err != nil {
		log.Fatal(err)
	}
	var turn sync.Mutex
	mux := http.NewServeMux()
	mux.HandleFunc("GET /check", func(w http.ResponseWriter, _ *http.Request) {
		turn.Lock()
		defer turn.Unlock()
		if err := state.check(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "ok\n%d checks, %d ticks\n", state.checks, state.ticks.Load())
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// child answers each line with its number, until its input ends.
func child() {
	lines := bufio.NewScanner(os.Stdin)
	for n := 0; lines.Scan(); n++ {
		fmt.Printf("%d %s\n", n, lines.Text())
	}
}

// local is a listener on the loopback, of a port that is free.
func local() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
