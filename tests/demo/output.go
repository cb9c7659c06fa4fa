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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
			err := o.read(ctx, client, pod)
			live, getErr := client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
			isOver := getErr == nil && (live.Status.Phase == corev1.PodSucceeded || live.Status.Phase == corev1.PodFailed)
			if apierrors.IsNotFound(getErr) || err == nil && (isOver || live.DeletionTimestamp != nil) {
				return
			}
			time.Sleep(200 * time.Millisecond) // it does not run yet, or the node ended the stream for reasons of its own
		}
	}()
	return o
}

// read reads the log in one stretch, from its beginning, which is left out where it is known.
func (o *output) read(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) error {
	request := client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Follow: true, Timestamps: true})
	stream, err := request.Stream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	scanner := bufio.NewScanner(stream)
	for scanner.Scan() {
		o.add(scanner.Text())
	}
	return scanner.Err()
}

func (o *output) add(stamped string) {
	parsed, err := parse(stamped)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil || !parsed.isNumber {
		o.other = append(o.other, stamped)
		return
	}
	if len(o.lines) == 0 || parsed.at.After(o.lines[len(o.lines)-1].at) {
		o.lines = append(o.lines, parsed)
	}
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
