package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestABucketHasMoods: what MinIO has got, and what whoever asked has got.
func TestABucketHasMoods(t *testing.T) {
	stored := bytes.Repeat([]byte("true"), 100)
	for m, test := range map[mood]struct {
		put, get string // what came of each
		arrives  bool
	}{
		honest:    {"200", "200 as stored", true},
		full:      {"507", "200 as stored", false},
		forgetful: {"EOF", "200 as stored", true},
		lying:     {"200", "200 and not as stored", true},
		failing:   {"500", "500 and not as stored", false},
	} {
		arrived := false
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			arrived = arrived || r.Method == http.MethodPut
			_, _ = w.Write(stored)
		}))
		b := newBucket(strings.TrimPrefix(server.URL, "http://"))
		b.set(m)
		between := httptest.NewServer(b)
		ask := func(method string) string {
			request, err := http.NewRequestWithContext(t.Context(), method, between.URL+"/bucket/key", nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				return "EOF"
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			status := strings.Fields(answer.Status)[0]
			switch {
			case method == http.MethodPut:
				return status
			case bytes.Equal(body, stored):
				return status + " as stored"
			}
			return status + " and not as stored"
		}
		if put, get := ask(http.MethodPut), ask(http.MethodGet); put != test.put || get != test.get || arrived != test.arrives {
			t.Errorf("a bucket that %q: PUT %s, GET %s, arrived: %t; it should be %+v", m, put, get, arrived, test)
		}
		if met := b.set(honest); m != honest && met == 0 {
			t.Errorf("a bucket that %q has met nobody", m)
		}
		between.Close()
		server.Close()
	}
}
