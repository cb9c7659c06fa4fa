/* Timers: what is left of them does not change while the program stands still, and periodic ones go on. */
#include "fidelity.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>

enum { LONG = 10000, TICK = 20 }; /* seconds of a timer that does not end; milliseconds of one that does again and again */

/*
 * left compares what is left of a long timer with what must be. A capture reads timers some time before clocks, and a restore sets them some time
 * after: on a busy machine these are seconds. Two checks come to one restore.
 */
static void left(const char *name, int64_t set_ms, int64_t left_ms)
{
	int64_t expected = LONG * 1000LL - (now_ms() - set_ms);

	WANT(left_ms > expected - 3000 * (1 + rounds) && left_ms < expected + 15000 * (1 + rounds), "%s has %lld ms left, not %lld", name, (long long)left_ms, (long long)expected);
}

static int64_t ms_of(struct timespec t)
{
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* burn uses so many milliseconds of processor time, nearly all of it outside the kernel. */
static void burn(int milliseconds)
{
	struct timespec now, start;
	volatile unsigned work = 0;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	do {
		for (int i = 0; i < 1000000; i++)
			work += i;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	} while (ms_of(now) - ms_of(start) < milliseconds);
}

static atomic_int counts[65];

static void count(int number)
{
	counts[number]++;
}

static void intervals_setup(void)
{
	struct itimerval tick = {{0, TICK * 1000}, {0, TICK * 1000}};

	signal(SIGALRM, count);
	signal(SIGVTALRM, count);
	signal(SIGPROF, count);
	must(setitimer(ITIMER_REAL, &tick, NULL), "ITIMER_REAL");
	must(setitimer(ITIMER_VIRTUAL, &tick, NULL), "ITIMER_VIRTUAL");
	must(setitimer(ITIMER_PROF, &tick, NULL), "ITIMER_PROF");
}

static void intervals_check(void)
{
	const int kinds[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}, numbers[] = {SIGALRM, SIGVTALRM, SIGPROF};
	int before[3];

	for (int i = 0; i < 3; i++)
		before[i] = counts[numbers[i]];
	burn(5 * TICK);
	for (int i = 0; i < 3; i++) {
		struct itimerval now;

		getitimer(kinds[i], &now);
		WANT(now.it_interval.tv_sec == 0 && now.it_interval.tv_usec / 1000 - TICK <= 4, "interval of timer %d is %ld us", i, now.it_interval.tv_usec);
		WANT(EVENTUALLY(counts[numbers[i]] > before[i], 1000), "timer %d stands still", i);
	}
	detail("real, virtual, profiling");
}

static int64_t alarm_set;

static void alarm_setup(void)
{
	struct itimerval once = {{0, 0}, {LONG, 0}};

	alarm_set = now_ms();
	must(setitimer(ITIMER_REAL, &once, NULL), "ITIMER_REAL");
}

static void alarm_check(void)
{
	struct itimerval now;

	getitimer(ITIMER_REAL, &now);
	left("the alarm", alarm_set, now.it_value.tv_sec * 1000LL + now.it_value.tv_usec / 1000);
	detail("%ld s left", now.it_value.tv_sec);
}

/* Timers of timer_create: a long one and a periodic one of each clock, with a gap in their numbers. */
static const struct clock {
	const char *name;
	clockid_t id;
} clocks[] = {
	{"realtime", CLOCK_REALTIME}, {"monotonic", CLOCK_MONOTONIC}, {"boottime", CLOCK_BOOTTIME}, {"processor time", CLOCK_PROCESS_CPUTIME_ID},
};
enum { CLOCKS = 4 };
static timer_t long_timers[CLOCKS], periodic[CLOCKS], of_thread;
static int64_t timers_set;
static atomic_int values[CLOCKS];
static pthread_t ticking;
static pid_t ticking_tid;
static atomic_int thread_ticks, thread_wrong;

static void count_value(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	if (info->si_code == SI_TIMER && info->si_value.sival_int < CLOCKS)
		values[info->si_value.sival_int]++;
}

static void count_in_thread(int number)
{
	(void)number;
	thread_ticks++;
	if (gettid() != ticking_tid)
		thread_wrong++;
}

static void *tick(void *unused)
{
	ticking_tid = gettid();
	for (;;)
		nap(1000);
	return unused;
}

static void timers_setup(void)
{
	struct sigaction action = {.sa_sigaction = count_value, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct itimerspec once = {{0, 0}, {LONG, 0}}, often = {{0, TICK * 1000000L}, {0, TICK * 1000000L}};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
	timer_t gap;

	must(sigaction(SIGRTMIN + 1, &action, NULL), "sigaction");
	signal(SIGRTMIN + 2, count_in_thread);
	must_zero(pthread_create(&ticking, NULL, tick, NULL), "pthread_create");
	EVENTUALLY(ticking_tid, 8000);
	timers_set = now_ms();
	for (int i = 0; i < CLOCKS; i++) {
		struct sigevent none = {.sigev_notify = SIGEV_NONE};

		must(timer_create(clocks[i].id, &none, &long_timers[i]), clocks[i].name);
		must(timer_create(clocks[i].id, &none, &gap), clocks[i].name);
		event.sigev_value.sival_int = i;
		must(timer_create(clocks[i].id, &event, &periodic[i]), clocks[i].name);
		must(timer_delete(gap), "timer_delete");
		must(timer_settime(long_timers[i], 0, &once, NULL), "timer_settime");
		must(timer_settime(periodic[i], 0, &often, NULL), "timer_settime");
	}
	event = (struct sigevent){.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 2};
	event._sigev_un._tid = ticking_tid;
	must(timer_create(CLOCK_MONOTONIC, &event, &of_thread), "timer of a thread");
	must(timer_settime(of_thread, 0, &often, NULL), "timer_settime");
}

static void timers_check(void)
{
	int before[CLOCKS], ticks = thread_ticks;

	for (int i = 0; i < CLOCKS; i++)
		before[i] = values[i];
	burn(5 * TICK);
	for (int i = 0; i < CLOCKS; i++) {
		struct itimerspec now;

		if (timer_gettime(long_timers[i], &now))
			broken("the timer of %s is gone: %s", clocks[i].name, strerror(errno));
		else if (clocks[i].id != CLOCK_PROCESS_CPUTIME_ID)
			left(clocks[i].name, timers_set, ms_of(now.it_value));
		else
			WANT(now.it_value.tv_sec > LONG - 100, "%s has %ld s left", clocks[i].name, now.it_value.tv_sec);
		WANT(EVENTUALLY(values[i] > before[i], 1000), "the periodic timer of %s stands still", clocks[i].name);
	}
	WANT(EVENTUALLY(thread_ticks > ticks, 1000), "the timer of the thread stands still");
	WANT(thread_wrong == 0, "the timer of the thread came to another one");
	detail("%d clocks, one for a thread", CLOCKS);
}

/* Timers that are descriptors. */
static const struct descriptor_timer {
	const char *name;
	clockid_t clock;
	int flags, periodic;
} kinds[] = {
	{"relative", CLOCK_MONOTONIC, 0, 0}, {"absolute", CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, 0}, {"of boottime", CLOCK_BOOTTIME, 0, 0},
	{"of realtime", CLOCK_REALTIME, 0, 0}, {"periodic", CLOCK_MONOTONIC, 0, 1},
	{"absolute periodic", CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, 1}, {"of realtime, cancelled when it is set", CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 0},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
static int descriptors[KINDS];
static int64_t descriptors_set;

static void descriptors_setup(void)
{
	descriptors_set = now_ms();
	for (int i = 0; i < KINDS; i++) {
		struct itimerspec value = {{0, kinds[i].periodic * TICK * 1000000L}, {LONG, 0}};
		struct timespec now;

		if (kinds[i].periodic)
			value.it_value = (struct timespec){0, TICK * 1000000L};
		clock_gettime(kinds[i].clock, &now);
		if (kinds[i].flags & TFD_TIMER_ABSTIME)
			value.it_value.tv_sec += now.tv_sec + 1;
		descriptors[i] = must(timerfd_create(kinds[i].clock, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create");
		must(timerfd_settime(descriptors[i], kinds[i].flags, &value, NULL), kinds[i].name);
	}
	nap(10 * TICK);
}

static void descriptors_check(void)
{
	uint64_t ticks = 0;

	for (int i = 0; i < KINDS; i++) {
		struct itimerspec now;

		if (timerfd_gettime(descriptors[i], &now)) {
			broken("%s is gone: %s", kinds[i].name, strerror(errno));
		} else if (kinds[i].periodic) {
			WANT(EVENTUALLY(read(descriptors[i], &ticks, sizeof(ticks)) == sizeof(ticks), 8000), "%s stands still", kinds[i].name);
			WANT(now.it_interval.tv_nsec == TICK * 1000000L, "%s has an interval of %ld ns", kinds[i].name, now.it_interval.tv_nsec);
		} else if (!(kinds[i].flags & TFD_TIMER_CANCEL_ON_SET)) {
			left(kinds[i].name, descriptors_set + (kinds[i].flags & TFD_TIMER_ABSTIME ? 1000 : 0), ms_of(now.it_value));
		}
	}
	detail("%d kinds, %llu ticks waited", KINDS, (unsigned long long)ticks);
}

const struct feature timer_features[] = {
	{"interval-timers", intervals_setup, intervals_check, 0}, {"alarm", alarm_setup, alarm_check, 0}, {"timers", timers_setup, timers_check, 0},
	{"timerfd", descriptors_setup, descriptors_check, 0}, {0},
};
