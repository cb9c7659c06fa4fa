/* Threads: what each has of its own, locks between them and between processes. */
#include "fidelity.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

enum { WORKERS = 8 };

static __thread uint64_t local[8];

/* worker is a thread that looks all the time whether it is still itself. */
static struct worker {
	pthread_t thread;
	pid_t tid;
	int index;
	void *head; /* its list of robust locks */
	atomic_ulong turns;
	char wrong[64];
} workers[WORKERS];

static void *robust_head(void)
{
	void *head = NULL;
	size_t size;

	syscall(SYS_get_robust_list, 0, &head, &size);
	return head;
}

static const char *difference(struct worker *w)
{
	char name[16], expected[16];
	sigset_t mask;
	stack_t stack;

	for (int i = 0; i < 8; i++)
		if (local[i] != ((uint64_t)w->index << 32 | (unsigned)i))
			return "thread-local memory";
	snprintf(expected, sizeof(expected), "worker-%d", w->index);
	if (prctl(PR_GET_NAME, name) || strcmp(name, expected))
		return "name";
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	for (int i = 0; i < WORKERS; i++)
		if (sigismember(&mask, SIGRTMIN + i) != (i == w->index))
			return "signal mask";
	if (sigaltstack(NULL, &stack) || stack.ss_flags & SS_DISABLE || stack.ss_size != (size_t)(16384 + 4096 * w->index))
		return "alternate stack";
	if (gettid() != w->tid || !pthread_equal(pthread_self(), w->thread))
		return "number";
	if (robust_head() != w->head)
		return "list of robust locks";
	return NULL;
}

static void *work(void *argument)
{
	struct worker *w = argument;
	char name[16];
	sigset_t mask;
	stack_t stack = {.ss_size = 16384 + 4096 * w->index};

	stack.ss_sp = malloc(stack.ss_size);
	sigaltstack(&stack, NULL);
	for (int i = 0; i < 8; i++)
		local[i] = (uint64_t)w->index << 32 | (unsigned)i;
	snprintf(name, sizeof(name), "worker-%d", w->index);
	prctl(PR_SET_NAME, name);
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + w->index);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	w->tid = gettid();
	w->thread = pthread_self();
	w->head = robust_head();
	for (;; w->turns++) {
		const char *what = difference(w);

		if (what)
			strcpy(w->wrong, what);
		nap(5);
	}
	return NULL;
}

static void threads_setup(void)
{
	for (int i = 0; i < WORKERS; i++) {
		workers[i].index = i;
		must_zero(pthread_create(&workers[i].thread, NULL, work, &workers[i]), "pthread_create");
	}
	for (int i = 0; i < WORKERS; i++)
		if (!EVENTUALLY(workers[i].turns > 2, 8000))
			unable("thread %d does not run", i);
}

static void threads_check(void)
{
	unsigned long all = 0;

	for (int i = 0; i < WORKERS; i++) {
		unsigned long before = workers[i].turns;

		WANT(EVENTUALLY(workers[i].turns > before, 8000), "thread %d stands still", i);
		WANT(!workers[i].wrong[0], "thread %d has another %s", i, workers[i].wrong);
		all += workers[i].turns;
	}
	detail("%d threads, %lu turns", WORKERS, all);
}

/* A restartable sequence's memory is registered with the kernel, which keeps the number of the processor in it. */
static void rseq_setup(void)
{
	if (__rseq_size == 0)
		unable("the C library has registered no restartable sequences");
}

static void rseq_check(void)
{
	const struct rseq *area = (const void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	const volatile uint32_t *number = &area->cpu_id;
	cpu_set_t all, one;
	int moved = 0;

	sched_getaffinity(0, sizeof(all), &all);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all)) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			sched_setaffinity(0, sizeof(one), &one);
			sched_yield();
			WANT(*number == (uint32_t)cpu, "on processor %d the kernel says %d", cpu, (int)*number);
			moved++;
		}
	sched_setaffinity(0, sizeof(all), &all);
	detail("right on %d processors", moved);
}

/* shared are locks that are held or waited for all the time; a child waits for the ones that belong to processes. */
static struct shared {
	struct lock {
		pthread_mutex_t mutex;
		atomic_int got, go;
	} locks[4];
	pthread_cond_t condition;
	pthread_mutex_t guard;
	int ready;
	atomic_int woken;
	pthread_rwlock_t readwrite;
	atomic_int written;
} *shared;
static const char *const lock_names[] = {"mutex", "mutex with inheritance", "mutex between processes", "recursive mutex"};

static void *wait_for_mutex(void *argument)
{
	struct lock *lock = argument;

	for (;;) {
		pthread_mutex_lock(&lock->mutex);
		lock->got++;
		pthread_mutex_unlock(&lock->mutex);
		while (!lock->go)
			nap(1);
		lock->go = 0;
	}
	return NULL;
}

static void *wait_for_condition(void *unused)
{
	pthread_mutex_lock(&shared->guard);
	for (;;) {
		while (!shared->ready)
			pthread_cond_wait(&shared->condition, &shared->guard);
		shared->ready = 0;
		shared->woken++;
	}
	return unused;
}

static void *wait_to_write(void *unused)
{
	for (;;) {
		pthread_rwlock_wrlock(&shared->readwrite);
		shared->written++;
		pthread_rwlock_unlock(&shared->readwrite);
		nap(50);
	}
	return unused;
}

static void locks_setup(void)
{
	pthread_mutexattr_t attributes;
	pthread_t thread;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 4; i++) {
		pthread_mutexattr_init(&attributes);
		if (i == 1)
			must_zero(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT), "PTHREAD_PRIO_INHERIT");
		if (i == 2)
			pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
		if (i == 3)
			pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
		pthread_mutex_init(&shared->locks[i].mutex, &attributes);
		must_zero(pthread_mutex_lock(&shared->locks[i].mutex), lock_names[i]);
	}
	if (must(fork(), "fork") == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_for_mutex(&shared->locks[2]);
	}
	for (int i = 0; i < 4; i++)
		if (i != 2)
			must_zero(pthread_create(&thread, NULL, wait_for_mutex, &shared->locks[i]), "pthread_create");
	pthread_mutex_init(&shared->guard, NULL);
	pthread_cond_init(&shared->condition, NULL);
	pthread_rwlock_init(&shared->readwrite, NULL);
	pthread_rwlock_rdlock(&shared->readwrite);
	must_zero(pthread_create(&thread, NULL, wait_for_condition, NULL), "pthread_create");
	must_zero(pthread_create(&thread, NULL, wait_to_write, NULL), "pthread_create");
	nap(20);
}

static void locks_check(void)
{
	int woken = shared->woken, written = shared->written;

	for (int i = 0; i < 4; i++) {
		struct lock *lock = &shared->locks[i];
		int got = lock->got;

		WANT(got == rounds, "%s was got %d times, not %d", lock_names[i], got, rounds);
		must_zero(pthread_mutex_unlock(&lock->mutex), lock_names[i]);
		WANT(EVENTUALLY(lock->got == got + 1, 8000), "who waits for the %s does not get it", lock_names[i]);
		must_zero(pthread_mutex_lock(&lock->mutex), lock_names[i]);
		lock->go = 1;
	}
	pthread_mutex_lock(&shared->guard);
	shared->ready = 1;
	pthread_cond_signal(&shared->condition);
	pthread_mutex_unlock(&shared->guard);
	WANT(EVENTUALLY(shared->woken == woken + 1, 8000), "who waits for the condition does not wake");
	pthread_rwlock_unlock(&shared->readwrite);
	WANT(EVENTUALLY(shared->written > written, 8000), "who waits to write does not get the lock");
	pthread_rwlock_rdlock(&shared->readwrite);
	detail("4 mutexes, condition, read-write lock");
}

/* A robust lock tells the next one when its owner has died: another thread holds it and dies at the check. */
static pthread_mutex_t robust;
static pthread_t owner;
static atomic_int owns, die;

static void *own(void *unused)
{
	if (pthread_mutex_lock(&robust) == 0)
		owns = 1;
	while (!die)
		nap(5);
	return unused;
}

static void robust_begin(void)
{
	owns = die = 0;
	must_zero(pthread_create(&owner, NULL, own, NULL), "pthread_create");
	if (!EVENTUALLY(owns, 8000))
		unable("the owner does not get the lock");
}

static void robust_setup(void)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attributes);
	robust_begin();
}

static void robust_check(void)
{
	int error = pthread_mutex_trylock(&robust);

	WANT(error == EBUSY, "the lock is not held: %s", strerror(error));
	die = 1;
	pthread_join(owner, NULL);
	error = pthread_mutex_lock(&robust);
	WANT(error == EOWNERDEAD, "after the owner's end it says: %s", strerror(error));
	pthread_mutex_consistent(&robust);
	pthread_mutex_unlock(&robust);
	robust_begin();
	detail("a dead owner is told");
}

const struct feature thread_features[] = {{"threads", threads_setup, threads_check, 0}, {"rseq", rseq_setup, rseq_check, 0}, {0}};
const struct feature lock_features[] = {{"locks", locks_setup, locks_check, 0}, {"robust-locks", robust_setup, robust_check, 0}, {0}};
