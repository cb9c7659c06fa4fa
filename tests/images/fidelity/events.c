/* Descriptors that tell of events: eventfd, epoll, signalfd, pidfd. */
#include "fidelity.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int counter, semaphore;

static void eventfd_setup(void)
{
	counter = must(eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
}

static void eventfd_check(void)
{
	uint64_t value = 0;

	WANT(read(counter, &value, 8) == 8 && value == 7u + rounds, "the counter is %llu", (unsigned long long)value);
	value = 8 + rounds;
	must(write(counter, &value, 8), "write");
	detail("a counter");
}

static void semaphore_setup(void)
{
	semaphore = must(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK), "eventfd");
}

static void semaphore_check(void)
{
	uint64_t value = 0;

	for (int i = 0; i < 3; i++)
		WANT(read(semaphore, &value, 8) == 8 && value == 1, "the semaphore gives %llu", (unsigned long long)value);
	WANT(read(semaphore, &value, 8) == -1 && errno == EAGAIN, "the semaphore gives a fourth time");
	value = 3;
	must(write(semaphore, &value, 8), "write");
	detail("a semaphore");
}

/* An epoll that watches many things, among them another one; an entry that is disarmed; one whose number was reused. */
enum { WATCHED = 20 };
static int outer, inner, sources[WATCHED], once, moved, reused[2];

static void watch(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};

	must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static void epoll_setup(void)
{
	struct epoll_event event;
	uint64_t value = 1;

	outer = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create");
	inner = must(epoll_create1(0), "epoll_create");
	watch(outer, inner, EPOLLIN, 0xabcdef0123456789);
	for (int i = 0; i < WATCHED; i++) {
		sources[i] = must(eventfd(0, EFD_NONBLOCK), "eventfd");
		watch(inner, sources[i], i % 2 ? EPOLLIN | EPOLLET : EPOLLIN, 1ull << 40 | i);
	}
	once = must(eventfd(0, EFD_NONBLOCK), "eventfd");
	watch(inner, once, EPOLLIN | EPOLLONESHOT, 1ull << 41);
	must(write(once, &value, 8), "write");
	must(epoll_wait(inner, &event, 1, 0), "epoll_wait"); /* from here on it is disarmed */
}

static void epoll_check(void)
{
	struct epoll_event event = {0};
	uint64_t value = 1;
	int n = epoll_wait(outer, &event, 1, 0);

	for (int i = 0; i < WATCHED; i++) { /* an entry that tells of edges may tell once more after a restore, which epoll(7) lets it */
		while (epoll_wait(inner, &event, 1, 0) == 1 && (event.data.u64 & 1ull << 41) == 0 && read(sources[event.data.u64 & 0xff], &value, 8) == -1)
			;
		value = 1;
		must(write(sources[i], &value, 8), "write");
		WANT(epoll_wait(outer, &event, 1, 1000) == 1 && event.data.u64 == 0xabcdef0123456789, "the outer one does not tell of source %d", i);
		WANT(epoll_wait(inner, &event, 1, 1000) == 1 && event.data.u64 == (1ull << 40 | i), "the inner one tells of %#llx, not of source %d", (unsigned long long)event.data.u64, i);
		must(read(sources[i], &value, 8), "read");
	}
	WANT(epoll_wait(inner, &event, 1, 0) == 0, "it tells of %#llx, of which it must not", (unsigned long long)event.data.u64);
	detail("%d sources, nested, %d at first", WATCHED, n);
}

/* An epoll whose entry's descriptor was closed while a copy is open: the entry stays, though its number is gone or another's. */
static void moved_setup(void)
{
	outer = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create");
	must(pipe2(reused, O_NONBLOCK), "pipe");
	watch(outer, reused[0], EPOLLIN, 77);
	moved = must(fcntl(reused[0], F_DUPFD, 100), "F_DUPFD");
	close(reused[0]);
}

static void moved_check(void)
{
	struct epoll_event event = {0};
	char byte;

	write_all(reused[1], "x", 1);
	WANT(epoll_wait(outer, &event, 1, 1000) == 1 && event.data.u64 == 77, "it does not tell of a descriptor that was copied and closed");
	must(read(moved, &byte, 1), "read");
}

static int signals;

static void send_signals(int round)
{
	must(kill(getpid(), SIGUSR2), "kill");
	must(sigqueue(getpid(), SIGRTMIN + 8, (union sigval){.sival_int = round}), "sigqueue");
}

static void signalfd_setup(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 8);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = must(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
	send_signals(0);
}

static void signalfd_check(void)
{
	struct signalfd_siginfo info = {0};
	struct pollfd readable = {.fd = signals, .events = POLLIN};

	WANT(poll(&readable, 1, 0) == 1, "no signal waits");
	WANT(read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR2, "the first signal is %u", info.ssi_signo);
	WANT(read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == (unsigned)SIGRTMIN + 8 && info.ssi_int == rounds, "the second is %u with %d", info.ssi_signo, info.ssi_int);
	WANT(read(signals, &info, sizeof(info)) == -1 && errno == EAGAIN, "there is a third signal");
	send_signals(rounds + 1);
	detail("two signals wait");
}

/* A descriptor of a process. */
static int process;
static pid_t process_pid;

static void pidfd_begin(void)
{
	process_pid = must(fork(), "fork");
	if (process_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	process = must(syscall(SYS_pidfd_open, process_pid, 0), "pidfd_open");
}

static void pidfd_check(void)
{
	struct pollfd ended = {.fd = process, .events = POLLIN};

	WANT(poll(&ended, 1, 0) == 0, "it tells that the process has ended");
	WANT(syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) == 0, "it sends no signal: %s", strerror(errno));
	WANT(poll(&ended, 1, 1000) == 1, "it does not tell that the process has ended");
	waitpid(process_pid, NULL, WNOHANG);
	close(process);
	pidfd_begin();
}

const struct feature event_features[] = {
	{"eventfd", eventfd_setup, eventfd_check, 0}, {"eventfd-semaphore", semaphore_setup, semaphore_check, 1},
	{"epoll", epoll_setup, epoll_check, 0}, {"epoll-copied", moved_setup, moved_check, 0},
	{"signalfd", signalfd_setup, signalfd_check, 0}, {"pidfd", pidfd_begin, pidfd_check, 0}, {0},
};
