/* Clocks: those that count from the start of the machine neither jump nor go back while the program is away. */
#include "fidelity.h"

#include <pthread.h>
#include <sys/resource.h>

/*
 * Milliseconds that a clock may advance from one look to the next. On a busy machine a capture itself takes longer, in which clocks go on; then it
 * must be less, by a second, than what has passed for the world.
 */
enum { JUMP = 2500, LESS = 1000 };

static struct clock {
	const char *name;
	clockid_t id;
	int64_t last, most, least;
} clocks[] = {
	{"monotonic", CLOCK_MONOTONIC, 0, 0, 0}, {"coarse", CLOCK_MONOTONIC_COARSE, 0, 0, 0}, {"raw", CLOCK_MONOTONIC_RAW, 0, 0, 0},
	{"boottime", CLOCK_BOOTTIME, 0, 0, 0}, {"realtime", CLOCK_REALTIME, 0, 0, 0},
};
enum { CLOCKS = 5, REALTIME = 4 };
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static int64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void *watch(void *unused)
{
	for (;; nap(5)) {
		pthread_mutex_lock(&guard);
		for (int i = 0; i < CLOCKS; i++) {
			struct clock *c = &clocks[i];
			int64_t now = read_clock(c->id), step = now - c->last;

			if (c->last && step > c->most)
				c->most = step;
			if (c->last && step < c->least)
				c->least = step;
			c->last = now;
		}
		pthread_mutex_unlock(&guard);
	}
	return unused;
}

static void clocks_setup(void)
{
	pthread_t thread;

	must_zero(pthread_create(&thread, NULL, watch, NULL), "pthread_create");
}

static void clocks_check(void)
{
	pthread_mutex_lock(&guard);
	for (int i = 0; i < CLOCKS; i++) {
		struct clock *c = &clocks[i];

		WANT(c->least >= 0, "%s went back by %lld ms", c->name, (long long)-c->least);
		WANT(i == REALTIME || c->most < JUMP || c->most + LESS < clocks[REALTIME].most, "%s jumped by %lld ms", c->name, (long long)c->most);
		detail("%s %lld ms", c->name, (long long)c->most);
		c->most = c->least = 0;
	}
	pthread_mutex_unlock(&guard);
}

/* The processor time that a process has used. */
static int64_t used, used_by_rusage;

static int64_t rusage_ms(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000LL + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static void processor_setup(void)
{
	while (read_clock(CLOCK_PROCESS_CPUTIME_ID) < 200)
		;
	used = read_clock(CLOCK_PROCESS_CPUTIME_ID);
	used_by_rusage = rusage_ms();
}

static void processor_check(void)
{
	int64_t now = read_clock(CLOCK_PROCESS_CPUTIME_ID), now_by_rusage = rusage_ms();

	WANT(now >= used, "processor time went back from %lld to %lld ms", (long long)used, (long long)now);
	WANT(now_by_rusage >= used_by_rusage, "used time went back from %lld to %lld ms", (long long)used_by_rusage, (long long)now_by_rusage);
	used = now;
	used_by_rusage = now_by_rusage;
	detail("%lld ms", (long long)now);
}

const struct feature clock_features[] = {{"clocks", clocks_setup, clocks_check, 0}, {"processor-time", processor_setup, processor_check, 1}, {0}};
