// Command witness is the program that `make chaos` ends at every moment: what it tells the outside proves whether it went on from where it was. It knows
// nothing of checkpoints. It is a static binary: an image of it holds nothing else.
//
// GET /next counts by one and tells the number, after it was written into the journal, a file. Before that it looks whether memory and journal are
// what they have to be at the number before; if they are not, it answers 500 and says what is wrong, from then on.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// Told is an answer.
type Told struct {
	// Life is drawn when the program begins from scratch. Count is how many answers the life has given, with this one.
	Life  string `json:"life"`
	Count int    `json:"count"`
	// Pod is the name of the pod as the container knows it: a restored program has that of the pod that it began in.
	Pod string `json:"pod"`
}

// witness is all that it has.
type witness struct {
	mu      sync.Mutex
	life    string
	count   int
	memory  []byte // of which each number changes a bit
	sum     [sha256.Size]byte
	journal *os.File
	broken  string
}

func main() {
	mib := flag.Int("mib", 24, "how much memory to fill, in MiB")
	path := flag.String("journal", "/journal", "the file that has every number that was told, in 8 bytes each")
	address := flag.String("address", ":8080", "where to listen")
	flag.Parse()
	w := &witness{life: fmt.Sprintf("%016x", rand.Uint64())}
	var err error
	// Not on Go's heap, which the garbage collector would walk.
	if w.memory, err = syscall.Mmap(-1, 0, *mib<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON); err != nil {
		log.Fatalf("get %d MiB: %v", *mib, err)
	}
	random := rand.NewChaCha8(sha256.Sum256([]byte(w.life)))
	_, _ = random.Read(w.memory) // it never fails
	w.sum = sha256.Sum256(w.memory)
	if w.journal, err = os.OpenFile(*path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600); err != nil {
		log.Fatal(err)
	}
	fmt.Println("life", w.life)
	http.HandleFunc("GET /next", w.next)
	server := &http.Server{Addr: *address, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func (w *witness) next(answer http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == "" {
		if err := w.check(); err != nil {
			w.broken = err.Error()
		}
	}
	if w.broken != "" {
		http.Error(answer, w.broken, http.StatusInternalServerError)
		return
	}
	w.count++
	w.memory[w.count%len(w.memory)] ^= 1
	w.sum = sha256.Sum256(w.memory)
	if _, err := w.journal.Write(binary.BigEndian.AppendUint64(nil, uint64(w.count))); err != nil {
		w.broken = err.Error()
	}
	host, _ := os.Hostname()
	_ = json.NewEncoder(answer).Encode(Told{Life: w.life, Count: w.count, Pod: host}) // whoever asked may be gone
}

// check compares what is there with what the last number left.
func (w *witness) check() error {
	if sum := sha256.Sum256(w.memory); sum != w.sum {
		return fmt.Errorf("life %s, %d: memory is %x; it was %x", w.life, w.count, sum[:8], w.sum[:8])
	}
	info, err := w.journal.Stat()
	if err != nil {
		return fmt.Errorf("life %s, %d: %w", w.life, w.count, err)
	}
	if info.Size() != int64(w.count)*8 {
		return fmt.Errorf("life %s, %d: the journal has %d bytes, not %d", w.life, w.count, info.Size(), w.count*8)
	}
	if w.count == 0 {
		return nil
	}
	last := make([]byte, 8)
	if _, err := w.journal.ReadAt(last, info.Size()-8); err != nil {
		return fmt.Errorf("life %s, %d: %w", w.life, w.count, err)
	}
	if n := binary.BigEndian.Uint64(last); n != uint64(w.count) {
		return fmt.Errorf("life %s, %d: the journal ends with %d", w.life, w.count, n)
	}
	return nil
}
