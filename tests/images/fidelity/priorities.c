/* How a process is treated by the kernel, and what it was called with. */
#include "fidelity.h"

#include "notes.h"

#include <linux/ioprio.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static struct helper nice_one, batch, idle;

static void be_nice(void)
{
	must(setpriority(PRIO_PROCESS, 0, 7), "setpriority");
}

static void be_batch(void)
{
	must(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}), "SCHED_BATCH");
}

static void be_idle(void)
{
	must(sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}), "SCHED_IDLE");
}

static void priority(char question, char *answer)
{
	(void)question;
	snprintf(answer, ANSWER, "policy %d, nice %d\n", sched_getscheduler(0), getpriority(PRIO_PROCESS, 0));
}

static void write_priorities(void)
{
	note("%s%s%s", helper_ask(&nice_one, 'p'), helper_ask(&batch, 'p'), helper_ask(&idle, 'p'));
}

static void scheduling_setup(void)
{
	nice_one = helper_start(be_nice, priority);
	batch = helper_start(be_batch, priority);
	idle = helper_start(be_idle, priority);
	first_notes(write_priorities);
}

static void scheduling_check(void)
{
	check_notes(write_priorities);
	detail("nice, batch, idle");
}

static void write_affinity(void)
{
	cpu_set_t set;

	sched_getaffinity(0, sizeof(set), &set);
	note("processors %#lx\n", set.__bits[0]);
}

static void affinity_setup(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	must(sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
	first_notes(write_affinity);
}

static void affinity_check(void)
{
	check_notes(write_affinity);
}

static void write_io_priority(void)
{
	note("I/O priority %#lx\n", syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0));
}

static void io_priority_setup(void)
{
	must(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6)), "ioprio_set");
	first_notes(write_io_priority);
}

static void io_priority_check(void)
{
	check_notes(write_io_priority);
}

static void write_score(void)
{
	note("oom_score_adj %s", file_says("/proc/self/oom_score_adj"));
}

static void score_setup(void)
{
	int fd = must(open("/proc/self/oom_score_adj", O_WRONLY), "oom_score_adj");

	must(write(fd, "901", 3), "write oom_score_adj");
	close(fd);
	first_notes(write_score);
}

static void score_check(void)
{
	check_notes(write_score);
}

static struct helper unusual;

static void be_unusual(void)
{
	must(personality(ADDR_NO_RANDOMIZE | UNAME26), "personality");
}

static void persona(char question, char *answer)
{
	(void)question;
	snprintf(answer, ANSWER, "personality %#x\n", personality(0xffffffff));
}

static void write_persona(void)
{
	note("%s", helper_ask(&unusual, 'p'));
}

static void persona_setup(void)
{
	unusual = helper_start(be_unusual, persona);
	first_notes(write_persona);
}

static void persona_check(void)
{
	check_notes(write_persona);
}

/* Words are what the program was called with, and what the kernel tells of it. */
static void write_words(void)
{
	extern char **environ;
	char exe[256] = "", memory[4096] = "";
	int fd = open("/proc/self/cmdline", O_RDONLY);
	ssize_t n = read(fd, memory, sizeof(memory));
	uint32_t sum = 0;

	close(fd);
	for (ssize_t i = 0; i < n; i++)
		sum = sum * 31 + memory[i];
	note("%zd bytes of arguments, sum %u\n", n, sum);
	fd = open("/proc/self/environ", O_RDONLY);
	n = read(fd, memory, sizeof(memory));
	close(fd);
	for (ssize_t i = 0; i < n; i++)
		sum = sum * 31 + memory[i];
	note("%zd bytes of environment, sum %u\n", n, sum);
	fd = open("/proc/self/auxv", O_RDONLY);
	n = read(fd, memory, sizeof(memory));
	close(fd);
	note("%zd bytes of auxv\n", n);
	must(readlink("/proc/self/exe", exe, sizeof(exe) - 1), "readlink");
	note("program %s\n", exe);
	for (char **e = environ; *e; e++)
		note("%s\n", *e);
}

static void words_setup(void)
{
	first_notes(write_words);
}

static void words_check(void)
{
	check_notes(write_words);
}

const struct feature priority_features[] = {
	{"scheduling", scheduling_setup, scheduling_check, 0}, {"affinity", affinity_setup, affinity_check, 1},
	{"io-priority", io_priority_setup, io_priority_check, 1}, {"oom-score", score_setup, score_check, 0},
	{"personality", persona_setup, persona_check, 1}, {"words", words_setup, words_check, 0}, {0},
};
