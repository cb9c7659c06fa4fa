/* Calls that wait at the moment of the capture: they go on waiting, and end when it is time, or when what they wait for comes. */
#include "fidelity.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

enum { SHORT = 700 }; /* milliseconds of each wait */

static int quiet[2]; /* a pipe in which nothing comes */
static int epoll;

static struct timespec in_ms(clockid_t clock, int milliseconds)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_nsec += milliseconds % 1000 * 1000000L;
	t.tv_sec += milliseconds / 1000 + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

static int wait_nanosleep(void)
{
	struct timespec t = {0, SHORT * 1000000L}, rest;
	return nanosleep(&t, &rest);
}

static int wait_nanosleep_without_rest(void)
{
	struct timespec t = {0, SHORT * 1000000L};
	return nanosleep(&t, NULL);
}

static int wait_clock_nanosleep(void)
{
	struct timespec t = {0, SHORT * 1000000L}, rest;
	errno = clock_nanosleep(CLOCK_BOOTTIME, 0, &t, &rest);
	return errno ? -1 : 0;
}

static int wait_until(void)
{
	struct timespec t = in_ms(CLOCK_MONOTONIC, SHORT);
	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	return errno ? -1 : 0;
}

static int wait_poll(void)
{
	struct pollfd p = {.fd = quiet[0], .events = POLLIN};
	return poll(&p, 1, SHORT);
}

static int wait_select(void)
{
	struct timeval t = {0, SHORT * 1000};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(quiet[0], &set);
	return select(quiet[0] + 1, &set, NULL, NULL, &t);
}

static int wait_epoll(void)
{
	struct epoll_event event;
	return epoll_wait(epoll, &event, 1, SHORT);
}

static int wait_futex(void)
{
	static int word;
	struct timespec t = {0, SHORT * 1000000L};
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static int wait_futex_until(void)
{
	static int word;
	struct timespec t = in_ms(CLOCK_MONOTONIC, SHORT);
	return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY) == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static int wait_signal(void)
{
	struct timespec t = {0, SHORT * 1000000L};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX);
	return sigtimedwait(&set, NULL, &t) == -1 && errno == EAGAIN ? 0 : -1;
}

/* waiter calls one of them again and again. signal(7) lets `may_interrupt` ones fail with EINTR without a handler, after a SIGCONT. */
static struct waiter {
	const char *name;
	int (*wait)(void);
	int may_interrupt;
	atomic_int turns, interrupted, early, failed;
	atomic_long longest;
} waiters[] = {
	{.name = "nanosleep", .wait = wait_nanosleep}, {.name = "nanosleep without a rest", .wait = wait_nanosleep_without_rest},
	{.name = "clock_nanosleep", .wait = wait_clock_nanosleep}, {.name = "clock_nanosleep until", .wait = wait_until},
	{.name = "poll", .wait = wait_poll}, {.name = "select", .wait = wait_select}, {.name = "epoll_wait", .wait = wait_epoll, .may_interrupt = 1},
	{.name = "futex", .wait = wait_futex}, {.name = "futex until", .wait = wait_futex_until},
	{.name = "sigtimedwait", .wait = wait_signal, .may_interrupt = 1},
};
enum { WAITERS = sizeof(waiters) / sizeof(waiters[0]) };

static void *wait_always(void *argument)
{
	struct waiter *w = argument;
	sigset_t set;

	sigfillset(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (;; w->turns++) {
		int64_t before = now_ms(), passed;

		errno = 0;
		if (w->wait() == -1) {
			if (errno == EINTR)
				w->interrupted++;
			else
				w->failed = errno;
			continue;
		}
		passed = now_ms() - before;
		if (passed < SHORT - 2)
			w->early++;
		if (passed > w->longest)
			w->longest = passed;
	}
	return NULL;
}

static void waits_setup(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	pthread_t thread;

	must(pipe2(quiet, O_CLOEXEC), "pipe");
	epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create");
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, quiet[0], &event), "epoll_ctl");
	for (int i = 0; i < WAITERS; i++)
		must_zero(pthread_create(&thread, NULL, wait_always, &waiters[i]), "pthread_create");
}

static void waits_check(void)
{
	long longest = 0;
	int interrupted = 0;

	for (int i = 0; i < WAITERS; i++) {
		struct waiter *w = &waiters[i];
		int before = w->turns;

		WANT(EVENTUALLY(w->turns > before, 4 * SHORT), "%s does not end", w->name);
		WANT(w->early == 0, "%s ended %d times too early", w->name, w->early);
		WANT(w->failed == 0, "%s failed: %s", w->name, strerror(w->failed));
		WANT(w->interrupted == 0 || w->may_interrupt, "%s was interrupted %d times", w->name, w->interrupted);
		interrupted += w->interrupted;
		if (w->longest > longest)
			longest = w->longest;
		w->longest = w->early = w->failed = w->interrupted = 0;
	}
	detail("%d kinds, the longest took %ld of %d ms, %d interrupted", WAITERS, longest, SHORT, interrupted);
}

/* Threads that wait without an end are woken by the check. */
static int filling[2];
static pthread_t reader, receiver;
static atomic_int got_byte, got_signal, wrong;

static void *read_always(void *unused)
{
	char byte;

	for (;;)
		if (read(filling[0], &byte, 1) == 1)
			got_byte = byte;
		else
			wrong = errno;
	return unused;
}

static void *receive_always(void *unused)
{
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX);
	for (;;)
		if (sigwait(&set, &number) == 0)
			got_signal++;
	return unused;
}

static void blocked_setup(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	must(pipe2(filling, O_CLOEXEC), "pipe");
	must_zero(pthread_create(&reader, NULL, read_always, NULL), "pthread_create");
	must_zero(pthread_create(&receiver, NULL, receive_always, NULL), "pthread_create");
}

static void blocked_check(void)
{
	char byte = 'a' + rounds % 26;
	int before = got_signal;

	write_all(filling[1], &byte, 1);
	WANT(EVENTUALLY(got_byte == byte, 2000), "who reads from a pipe does not wake");
	pthread_kill(receiver, SIGRTMAX);
	WANT(EVENTUALLY(got_signal == before + 1, 2000), "who waits for a signal does not wake");
	WANT(wrong == 0, "read failed: %s", strerror(wrong));
	detail("read and sigwait wake");
}

const struct feature wait_features[] = {{"waits", waits_setup, waits_check, 0}, {"blocked-calls", blocked_setup, blocked_check, 0}, {0}};
