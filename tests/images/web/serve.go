package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// connKey is under which a request knows the connection that it came by.
type connKey struct{}

// conn is one of the server's connections.
type conn struct {
	id       int64
	requests atomic.Int64
}

// serveLocal answers GET /conn with the connection's number and that of its requests, and GET /stream with a line for each tick, for ever.
func serveLocal() (base string, err error) {
	listener, err := local()
	if err != nil {
		return "", err
	}
	var conns atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /conn", func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connKey{}).(*conn)
		fmt.Fprintf(w, "%d %d", c.id, c.requests.Add(1))
	})
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		for n := 0; r.Context().Err() == nil; n++ {
			fmt.Fprintln(w, n)
			if err := control.Flush(); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, Protocols: protocols,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, &conn{id: conns.Add(1)})
		},
	}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), nil
}

// user is a client with one connection, which it must never lose.
type user struct {
	client   http.Client
	base     string
	id, sent int64
}

func newUser(base string, second bool) (*user, error) {
	transport := &http.Transport{MaxConnsPerHost: 1, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!second)
	transport.Protocols.SetUnencryptedHTTP2(second)
	u := &user{base: base, client: http.Client{Transport: transport}}
	id, _, err := u.ask()
	u.id, u.sent = id, 1
	return u, err
}

// ask sends a request and returns what the server says of the connection.
func (u *user) ask() (id, requests int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.base+"/conn", nil)
	if err != nil {
		return 0, 0, err
	}
	response, err := u.client.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscan(string(body), &id, &requests)
	return id, requests, err
}

// check sends another request, which must come by the same connection.
func (u *user) check() error {
	id, requests, err := u.ask()
	if err != nil {
		return err
	}
	u.sent++
	if id != u.id || requests != u.sent {
		return fmt.Errorf("request %d came by connection %d as its number %d; the connection was %d", u.sent, id, requests, u.id)
	}
	return nil
}

// stream is a response that never ends.
type stream struct {
	last atomic.Int64
	err  atomic.Value
}

func newStream(ctx context.Context, base string) (*stream, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/stream", nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: &http.Transport{}}).Do(request) //nolint:bodyclose // read closes it
	if err != nil {
		return nil, err
	}
	s := &stream{}
	go func() { s.err.Store(s.read(response.Body)) }()
	return s, nil
}

func (s *stream) read(body io.ReadCloser) error {
	defer body.Close()
	lines := bufio.NewScanner(body)
	for want := int64(0); lines.Scan(); want++ {
		var n int64
		if _, err := fmt.Sscan(lines.Text(), &n); err != nil || n != want {
			return fmt.Errorf("line %d of the stream is %q", want, lines.Text())
		}
		s.last.Store(n)
	}
	return errors.Join(errors.New("the stream has ended"), lines.Err())
}

// check waits for another line.
func (s *stream) check() error {
	before := s.last.Load()
	for range 500 {
		if err, ok := s.err.Load().(error); ok {
			return err
		}
		if s.last.Load() > before {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the stream stands at line %d", before)
}
