// Command pair is the program of two containers of one pod, left and right. They play a number back and forth over one TCP connection through
// loopback, each adding one, and keep it in System V shared memory under a semaphore. The left one serves GET /check on port 8080, the right one
// on port 8081: 200 with the number while all is well, 500 with what broke. `pair pause 10s` only waits.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	key       = 0x7069 // of all three objects
	size      = 1 << 20
	ipcNoWait = 0o4000 // IPC_NOWAIT
	letters   = "a message that nobody has read"
)

// player is one of the two.
type player struct {
	conn   net.Conn
	memory []byte
	sem    uintptr
	queue  uintptr
	number atomic.Uint64
	broken atomic.Value // a string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "pause" { // no player: only there
		pause, err := time.ParseDuration(os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		time.Sleep(pause)
		return
	}
	if len(os.Args) != 2 || os.Args[1] != "left" && os.Args[1] != "right" {
		fmt.Fprintln(os.Stderr, "say left or right")
		os.Exit(2)
	}
	left := os.Args[1] == "left"
	p, err := newPlayer(left)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		err := p.play(left)
		fmt.Println("the game is over:", err)
		p.broken.Store(err.Error())
	}()
	port := ":8081"
	if left {
		port = ":8080"
	}
	http.HandleFunc("GET /check", p.check)
	server := &http.Server{Addr: port, ReadHeaderTimeout: 5 * time.Second}
	fmt.Println(server.ListenAndServe())
}

// newPlayer makes or finds the objects of the pod and the connection.
func newPlayer(left bool) (*player, error) {
	p := &player{}
	flags := uintptr(0o666)
	if left {
		flags |= unix.IPC_CREAT
	}
	var id uintptr
	for {
		var first, second, third unix.Errno
		id, _, first = unix.Syscall(unix.SYS_SHMGET, key, size, flags)
		p.sem, _, second = unix.Syscall(unix.SYS_SEMGET, key, 1, flags)
		p.queue, _, third = unix.Syscall(unix.SYS_MSGGET, key, flags, 0)
		if first == 0 && second == 0 && third == 0 {
			break
		}
		if left {
			return nil, fmt.Errorf("make objects: %w, %w, %w", first, second, third)
		}
		time.Sleep(10 * time.Millisecond)
	}
	memory, err := unix.SysvShmAttach(int(id), 0, 0)
	if err != nil {
		return nil, err
	}
	p.memory = memory
	if left {
		if err := p.begin(); err != nil {
			return nil, err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:7000")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		p.conn, err = listener.Accept()
		return p, err
	}
	for {
		if p.conn, err = net.Dial("tcp", "127.0.0.1:7000"); err == nil {
			return p, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// begin gives the objects their first content: the semaphore is free, and a message waits.
func (p *player) begin() error {
	for i := 8; i < size; i++ {
		p.memory[i] = byte(i)
	}
	const setValue = 16 // SETVAL
	if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, p.sem, 0, setValue, 1, 0, 0); errno != 0 {
		return errno
	}
	message := append(binary.NativeEndian.AppendUint64(nil, 1), letters...)
	if _, _, errno := unix.Syscall6(unix.SYS_MSGSND, p.queue, uintptr(unsafe.Pointer(&message[0])), uintptr(len(letters)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// play sends and gets numbers for as long as each is what it has to be.
func (p *player) play(left bool) error {
	for {
		if left {
			time.Sleep(time.Millisecond)
			if err := p.turn(p.number.Load()); err != nil {
				return err
			}
		}
		word := make([]byte, 8)
		if _, err := io.ReadFull(p.conn, word); err != nil {
			return fmt.Errorf("read from the other: %w", err)
		}
		got, last := binary.BigEndian.Uint64(word), p.number.Load()
		if last != 0 && got != last+1 {
			return fmt.Errorf("the other sent %d; it had to be %d", got, last+1)
		}
		p.number.Store(got)
		if !left {
			if err := p.turn(got); err != nil {
				return err
			}
		}
	}
}

// turn adds one to the number, in shared memory and then by the connection.
func (p *player) turn(was uint64) error {
	if err := p.operate(-1); err != nil {
		return err
	}
	if there := binary.NativeEndian.Uint64(p.memory); there != was {
		return fmt.Errorf("shared memory has %d; it had to be %d", there, was)
	}
	binary.NativeEndian.PutUint64(p.memory, was+1)
	if err := p.operate(1); err != nil {
		return err
	}
	p.number.Store(was + 1)
	if _, err := p.conn.Write(binary.BigEndian.AppendUint64(nil, was+1)); err != nil {
		return fmt.Errorf("write to the other: %w", err)
	}
	return nil
}

// operate takes or gives back the semaphore.
func (p *player) operate(by int16) error {
	operation := struct {
		number uint16
		by     int16
		flags  int16
	}{by: by}
	for {
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, p.sem, uintptr(unsafe.Pointer(&operation)), 1)
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return fmt.Errorf("semaphore: %w", errno)
		}
	}
}

// check answers whether the game goes on and the objects hold what nobody has changed.
func (p *player) check(w http.ResponseWriter, _ *http.Request) {
	if why, broken := p.broken.Load().(string); broken {
		http.Error(w, why, http.StatusInternalServerError)
		return
	}
	before := p.number.Load()
	for end := time.Now().Add(10 * time.Second); p.number.Load() == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if p.number.Load() == before {
		http.Error(w, fmt.Sprintf("the game stands still at %d", before), http.StatusInternalServerError)
		return
	}
	for i := 8; i < size; i++ {
		if p.memory[i] != byte(i) {
			http.Error(w, fmt.Sprintf("byte %d of the shared memory is %d", i, p.memory[i]), http.StatusInternalServerError)
			return
		}
	}
	message, copied := make([]byte, 8+len(letters)), uintptr(0o40000) // MSG_COPY
	n, _, errno := unix.Syscall6(unix.SYS_MSGRCV, p.queue, uintptr(unsafe.Pointer(&message[0])), uintptr(len(letters)), 0, copied|ipcNoWait, 0)
	if errno != 0 || string(message[8:8+n]) != letters {
		http.Error(w, fmt.Sprintf("the queue holds %q, %v", message[8:], errno), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, p.number.Load())
}
