/* Large numbers of threads, children, descriptors and mappings. */
#include "fidelity.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { THREADS = 1000, CHILDREN = 500, DESCRIPTORS = 500, MAPPINGS = 20000, PAGE = 4096 };

static atomic_int turns[THREADS], wrong_threads;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int round_number;

static void *thread(void *argument)
{
	int number = (intptr_t)argument, seen = 0;
	static __thread int own;

	own = number;
	pthread_mutex_lock(&gate);
	for (;;) {
		while (seen == round_number)
			pthread_cond_wait(&opened, &gate);
		seen = round_number;
		turns[number]++;
		if (own != number)
			wrong_threads++;
	}
	return NULL;
}

static void threads_setup(void)
{
	pthread_attr_t attributes;
	pthread_t one;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	for (intptr_t i = 0; i < THREADS; i++)
		must_zero(pthread_create(&one, &attributes, thread, (void *)i), "pthread_create");
}

static void threads_check(void)
{
	int late = 0;

	pthread_mutex_lock(&gate);
	round_number++;
	pthread_cond_broadcast(&opened);
	pthread_mutex_unlock(&gate);
	for (int i = 0; i < THREADS; i++)
		late += !EVENTUALLY(turns[i] == rounds + 1, late ? 0 : 5000);
	WANT(late == 0, "%d of %d threads do not wake", late, THREADS);
	WANT(wrong_threads == 0, "%d threads have the memory of others", wrong_threads);
	detail("%d threads", THREADS);
}

static struct helper children[CHILDREN];

static void say_number(char question, char *answer)
{
	(void)question;
	snprintf(answer, ANSWER, "%d of %d", getpid(), getppid());
}

static void children_setup(void)
{
	for (int i = 0; i < CHILDREN; i++)
		children[i] = helper_start(NULL, say_number);
}

static void children_check(void)
{
	int wrong = 0;

	for (int i = 0; i < CHILDREN; i++) {
		char expected[64];

		snprintf(expected, sizeof(expected), "%d of %d", children[i].pid, getpid());
		wrong += strcmp(helper_ask(&children[i], 'n'), expected) != 0;
	}
	WANT(wrong == 0, "%d of %d children are not who they were", wrong, CHILDREN);
	detail("%d children", CHILDREN);
}

/* Pipes, pairs of sockets, events and files, each with something of its own in it. */
static int pipes[DESCRIPTORS / 2][2], sockets[DESCRIPTORS / 2][2], events[DESCRIPTORS], files[DESCRIPTORS];

static void put_content(int round)
{
	for (int i = 0; i < DESCRIPTORS; i++) {
		uint64_t value = 1 + i + round;

		if (i < DESCRIPTORS / 2) {
			write_all(pipes[i][1], &value, 8);
			write_all(sockets[i][1], &value, 8);
		}
		write_all(events[i], &value, 8);
		must(pwrite(files[i], &value, 8, 0), "pwrite");
	}
}

static void descriptors_setup(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &limit), "RLIMIT_NOFILE");
	for (int i = 0; i < DESCRIPTORS; i++) {
		char name[32];

		if (i < DESCRIPTORS / 2) {
			must(pipe(pipes[i]), "pipe");
			must(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets[i]), "socketpair");
		}
		events[i] = must(eventfd(0, 0), "eventfd");
		snprintf(name, sizeof(name), "many-%d", i);
		files[i] = must(open(file_path(name), O_CREAT | O_RDWR, 0600), "open");
	}
	put_content(0);
}

static void descriptors_check(void)
{
	int wrong = 0;

	for (int i = 0; i < DESCRIPTORS; i++) {
		uint64_t expected = 1 + i + rounds, value = 0;

		if (i < DESCRIPTORS / 2) {
			wrong += read_some(pipes[i][0], &value, 8) || value != expected;
			wrong += read_some(sockets[i][0], &value, 8) || value != expected;
		}
		wrong += read_some(events[i], &value, 8) || value != expected;
		wrong += pread(files[i], &value, 8, 0) != 8 || value != expected;
	}
	WANT(wrong == 0, "%d of %d descriptors are not what they were", wrong, 3 * DESCRIPTORS);
	put_content(rounds + 1);
	detail("%d descriptors", 4 * DESCRIPTORS);
}

static uint8_t *many;

static void mappings_setup(void)
{
	many = mmap(NULL, (size_t)MAPPINGS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < MAPPINGS; i++) {
		*(int *)(many + (size_t)i * PAGE) = i;
		if (i % 2)
			must(mprotect(many + (size_t)i * PAGE, PAGE, PROT_READ), "mprotect");
	}
}

static void mappings_check(void)
{
	int wrong = 0, count = 0, c;
	FILE *maps = fopen("/proc/self/maps", "r");

	for (int i = 0; i < MAPPINGS; i++)
		wrong += *(int *)(many + (size_t)i * PAGE) != i;
	while ((c = fgetc(maps)) != EOF)
		count += c == '\n';
	fclose(maps);
	WANT(wrong == 0, "%d of %d mappings have another content", wrong, MAPPINGS);
	WANT(count > MAPPINGS, "there are %d mappings", count);
	detail("%d mappings", count);
}

const struct feature large_features[] = {
	{"many-threads", threads_setup, threads_check, 1}, {"many-children", children_setup, children_check, 1},
	{"many-descriptors", descriptors_setup, descriptors_check, 1}, {"many-mappings", mappings_setup, mappings_check, 1}, {0},
};
