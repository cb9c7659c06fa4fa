package main

import (
	"bufio"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// line is one number that the program counted, with what it says of itself.
type line struct {
	at            time.Time // when the node's container runtime read it
	count         int
	pid, checksum string
	text          string
	isNumber      bool
}

var counted = regexp.MustCompile(`^count=(\d+) pid=(\d+) checksum=([0-9a-f]+)`)

// parse reads a line of a log with time stamps.
func parse(stamped string) (line, error) {
	stamp, text, _ := strings.Cut(stamped, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return line{}, fmt.Errorf("log line %q: %w", stamped, err)
	}
	parsed := line{at: at, text: text}
	if match := counted.FindStringSubmatch(text); match != nil {
		parsed.pid, parsed.checksum, parsed.isNumber = match[2], match[3], true
		parsed.count, err = strconv.Atoi(match[1])
	}
	return parsed, err
}

// output is what a pod writes, read as it comes.
type output struct {
	mu    sync.Mutex
	lines []line
	other []string // lines that are no number
	ended chan struct{}
}

// follow reads the log of a pod from its beginning to its end, which it waits for.
func follow(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) *output {
	o := &output{ended: make(chan struct{})}
	go func() {
		defer close(o.ended)
		for ctx.Err() == nil {
			if o.read(ctx, client, pod) {
				return
			}
			time.Sleep(50 * time.Millisecond) // it does not run yet
		}
	}()
	return o
}

// read reads the log in one stretch and tells whether there was one.
func (o *output) read(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) bool {
	request := client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Follow: true, Timestamps: true})
	stream, err := request.Timeout(time.Hour).Stream(ctx)
	if err != nil {
		return false
	}
	defer stream.Close()
	for scanner := bufio.NewScanner(stream); scanner.Scan(); {
		parsed, err := parse(scanner.Text())
		o.mu.Lock()
		if err == nil && parsed.isNumber {
			o.lines = append(o.lines, parsed)
		} else {
			o.other = append(o.other, scanner.Text())
		}
		o.mu.Unlock()
	}
	return true
}

// numbers returns the numbers that came so far.
func (o *output) numbers() []line {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lines[:len(o.lines):len(o.lines)]
}

// rest returns the last of what the pod wrote besides numbers.
func (o *output) rest() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.other[max(0, len(o.other)-5):]
}
