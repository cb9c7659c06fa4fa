// Command memory is the process that `make bench` captures: it fills memory with pseudo-random data of which half can be compressed away, and
// counts. It is a static binary: an image of it holds nothing else.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

const pageSize = 4096 // bytes

func main() {
	mib := flag.Int("mib", 1024, "how much memory to fill, in MiB")
	every := flag.Duration("every", 100*time.Millisecond, "how long to wait between two numbers")
	flag.Parse()
	// Not on Go's heap, which the garbage collector would walk.
	memory, err := syscall.Mmap(-1, 0, *mib<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		log.Fatalf("get %d MiB: %v", *mib, err)
	}
	fill(memory)
	fmt.Printf("filled %d MiB, process %d\n", *mib, os.Getpid())
	want := sum(memory)
	for count := 1; ; count++ {
		fmt.Println("count", count)
		time.Sleep(*every)
		if count%100 == 0 && sum(memory) != want {
			log.Fatal("the memory is not what it was")
		}
	}
}

// fill makes the first half of each page random and the other half the same everywhere: no page is equal to another, and a compressor gets a
// half of all.
func fill(memory []byte) {
	random := rand.NewChaCha8([32]byte{1})
	for offset := 0; offset < len(memory); offset += pageSize {
		page := memory[offset : offset+pageSize]
		_, _ = random.Read(page[:pageSize/2]) // it never fails
		for i := pageSize / 2; i < pageSize; i++ {
			page[i] = byte(i)
		}
	}
}

// sum reads a word of each page.
func sum(memory []byte) (total uint64) {
	for offset := 0; offset < len(memory); offset += pageSize {
		total = total*31 + uint64(memory[offset]) + uint64(memory[offset+pageSize/2])
	}
	return total
}
