// Command counter is the program of `make demo`: it fills memory with pseudo-random data and counts, and with every number it checks whether
// a slice of the data is still what it was. It knows nothing of checkpoints. It is a static binary: an image of it holds nothing else.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	defaultMiB = 256
	// slices is how many numbers it takes until all of the data has been checked.
	slices = 32
	tick   = 250 * time.Millisecond
)

func main() {
	log.SetFlags(0)
	mib := defaultMiB
	if text := os.Getenv("COUNTER_MIB"); text != "" {
		var err error
		if mib, err = strconv.Atoi(text); err != nil || mib < 1 {
			log.Fatalf("COUNTER_MIB is %q; it may be a whole number of MiB from 1 on", text)
		}
	}
	// Not on Go's heap, which the garbage collector would walk.
	data, err := syscall.Mmap(-1, 0, mib<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		log.Fatalf("get %d MiB: %v", mib, err)
	}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data) // it never fails
	sums := sum(data)
	fmt.Printf("filled %d MiB; all of it is checked every %d numbers\n", mib, slices)
	for count := 1; ; count++ {
		time.Sleep(tick)
		i := count % slices
		if got := sha256.Sum256(slice(data, i)); got != sums[i] {
			log.Fatalf("count=%d: the data has changed: slice %d has checksum %x, and had %x", count, i, got[:8], sums[i][:8])
		}
		fmt.Printf("count=%d pid=%d checksum=%x\n", count, os.Getpid(), whole(sums)[:8])
	}
}

// slice returns one of the slices of the data.
func slice(data []byte, i int) []byte {
	size := len(data) / slices
	return data[i*size : (i+1)*size]
}

// sum returns the checksum of every slice.
func sum(data []byte) [][sha256.Size]byte {
	sums := make([][sha256.Size]byte, slices)
	for i := range sums {
		sums[i] = sha256.Sum256(slice(data, i))
	}
	return sums
}

// whole is the checksum of all checksums. It is computed from memory each time, so that it would show if they themselves had changed.
func whole(sums [][sha256.Size]byte) []byte {
	var all bytes.Buffer
	for _, s := range sums {
		all.Write(s[:])
	}
	total := sha256.Sum256(all.Bytes())
	return total[:]
}
