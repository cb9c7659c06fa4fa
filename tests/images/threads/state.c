// The state: numbers in memory, and threads that have work between two barriers, hold variables of their own, wait at a condition, a semaphore, a
// lock, a timer, and poll.
#include "threads.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <omp.h>

enum { WORKERS = 8, WAITERS = 50, NUMBERS = 8 << 20 };

static uint64_t *numbers, sum;
static double integral;
static pthread_t workers[WORKERS];
static uint64_t parts[WORKERS];
static pthread_barrier_t opening, closing;
static __thread uint64_t turns; // a thread's own
static pthread_key_t key;

static pthread_mutex_t mutex;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static uint64_t round_number, woken, posted, passed, ticks, piped;
static int ends[2];
static uint64_t checks;

static uint64_t mix(uint64_t x) {
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	return x ^ x >> 29;
}

static void *work(void *argument) {
	uintptr_t me = (uintptr_t)argument;
	pthread_setspecific(key, (void *)(me + 1));
	for (;;) {
		pthread_barrier_wait(&opening);
		uint64_t part = 0;
		for (size_t i = me; i < NUMBERS; i += WORKERS)
			part += mix(numbers[i]);
		turns++;
		parts[me] = turns == checks + 1 && pthread_getspecific(key) == (void *)(me + 1) ? part : 0;
		pthread_barrier_wait(&closing);
	}
	return NULL;
}

static void *wait_condition(void *unused) {
	(void)unused;
	pthread_mutex_lock(&mutex);
	for (uint64_t seen = 0;; seen++) {
		while (round_number == seen)
			pthread_cond_wait(&condition, &mutex);
		woken++;
	}
	return NULL;
}

static void *wait_semaphore(void *unused) {
	(void)unused;
	for (;;) {
		while (sem_wait(&semaphore) < 0 && errno == EINTR)
			;
		__atomic_add_fetch(&posted, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void *wait_lock(void *unused) {
	pthread_rwlock_rdlock(&lock);
	__atomic_add_fetch(&passed, 1, __ATOMIC_SEQ_CST);
	pthread_rwlock_unlock(&lock);
	return unused;
}

static void *tick(void *unused) {
	(void)unused;
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		next.tv_nsec += 10000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		__atomic_add_fetch(&ticks, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void *read_pipe(void *unused) {
	(void)unused;
	for (;;) {
		struct pollfd ready = {.fd = ends[0], .events = POLLIN};
		char byte;
		if (poll(&ready, 1, -1) == 1 && read(ends[0], &byte, 1) == 1)
			__atomic_add_fetch(&piped, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static pthread_t start(void *(*run)(void *), void *argument) {
	pthread_t thread;
	if (pthread_create(&thread, NULL, run, argument) != 0) {
		perror("pthread_create");
		exit(1);
	}
	return thread;
}

// integrate returns pi, computed by the threads of OpenMP, which live from one parallel region to the next.
static double integrate(void) {
	double total = 0;
#pragma omp parallel for reduction(+ : total) num_threads(4) schedule(static)
	for (int i = 0; i < 1 << 20; i++) {
		double x = (i + 0.5) / (1 << 20);
		total += 4 / (1 + x * x);
	}
	return total / (1 << 20);
}

// arm leaves a thread waiting at the lock, and bytes for the one that polls.
static void arm(void) {
	pthread_rwlock_wrlock(&lock);
	pthread_detach(start(wait_lock, NULL));
}

void begin(void) {
	pthread_mutexattr_t kind;
	pthread_mutexattr_init(&kind);
	pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&mutex, &kind);
	pthread_key_create(&key, NULL);
	pthread_barrier_init(&opening, NULL, WORKERS + 1);
	pthread_barrier_init(&closing, NULL, WORKERS + 1);
	sem_init(&semaphore, 0, 0);
	numbers = malloc(NUMBERS * sizeof *numbers);
	for (size_t i = 0; i < NUMBERS; i++) {
		numbers[i] = mix(i + 1);
		sum += mix(numbers[i]);
	}
	integral = integrate();
	if (pipe(ends) < 0)
		exit(1);
	for (uintptr_t i = 0; i < WORKERS; i++)
		workers[i] = start(work, (void *)i);
	for (int i = 0; i < WAITERS; i++) {
		start(wait_condition, NULL);
		start(wait_semaphore, NULL);
	}
	start(tick, NULL);
	start(read_pipe, NULL);
	arm();
}

// reach waits until a counter has a value, at most 5 s.
static int reach(uint64_t *counter, uint64_t value) {
	for (int i = 0; i < 500; i++) {
		if (__atomic_load_n(counter, __ATOMIC_SEQ_CST) >= value)
			return 1;
		usleep(10000);
	}
	return 0;
}

int check(char *text, size_t size) {
	uint64_t total = 0;
	pthread_barrier_wait(&opening);
	pthread_barrier_wait(&closing);
	for (int i = 0; i < WORKERS; i++)
		total += parts[i];
	const char *broken = NULL;
	if (total != sum)
		broken = "sum of the threads";
	double now = integrate();
	if (now < integral - 1e-12 || now > integral + 1e-12)
		broken = "integral by OpenMP";
	pthread_mutex_lock(&mutex);
	round_number++;
	pthread_cond_broadcast(&condition);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < WAITERS; i++)
		sem_post(&semaphore);
	pthread_rwlock_unlock(&lock);
	if (write(ends[1], "x", 1) != 1)
		broken = "pipe";
	checks++;
	if (!reach(&woken, WAITERS * checks))
		broken = "threads that wait at a condition";
	if (!reach(&posted, WAITERS * checks))
		broken = "threads that wait at a semaphore";
	if (!reach(&passed, checks))
		broken = "a thread that waits at a lock";
	if (!reach(&piped, checks))
		broken = "a thread that polls";
	if (!reach(&ticks, __atomic_load_n(&ticks, __ATOMIC_SEQ_CST) + 1))
		broken = "a thread that sleeps";
	arm();
	if (broken)
		snprintf(text, size, "broken: %s\n", broken);
	else
		snprintf(text, size, "ok\n%lu checks, %lu ticks, %d threads of OpenMP\n", checks, ticks, omp_get_max_threads());
	return broken != NULL;
}
