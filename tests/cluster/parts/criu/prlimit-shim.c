/*
 * A shim for CRIU on kernels that give root no CAP_SYS_RESOURCE. CRIU asks with prlimit64 for the limits of the processes it dumps, and
 * the kernel refuses that for a process of another user. Where the question only reads, the answer also stands in /proc/PID/limits.
 * CRIU makes the call through libc's syscall(), which this library takes the place of (LD_PRELOAD).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The names of the rows of /proc/PID/limits, by resource number. */
static const char *const rows[] = {
	[RLIMIT_CPU] = "Max cpu time", [RLIMIT_FSIZE] = "Max file size", [RLIMIT_DATA] = "Max data size",
	[RLIMIT_STACK] = "Max stack size", [RLIMIT_CORE] = "Max core file size", [RLIMIT_RSS] = "Max resident set",
	[RLIMIT_NPROC] = "Max processes", [RLIMIT_NOFILE] = "Max open files", [RLIMIT_MEMLOCK] = "Max locked memory",
	[RLIMIT_AS] = "Max address space", [RLIMIT_LOCKS] = "Max file locks", [RLIMIT_SIGPENDING] = "Max pending signals",
	[RLIMIT_MSGQUEUE] = "Max msgqueue size", [RLIMIT_NICE] = "Max nice priority",
	[RLIMIT_RTPRIO] = "Max realtime priority", [RLIMIT_RTTIME] = "Max realtime timeout",
};

static rlim_t value(const char *word)
{
	return strcmp(word, "unlimited") == 0 ? RLIM_INFINITY : strtoull(word, NULL, 10);
}

/* read_limit returns 0 when the limit was found. */
static int read_limit(pid_t pid, unsigned resource, struct rlimit *limit)
{
	char path[64], line[256], soft[32], hard[32];
	FILE *file;
	int found = -1;

	if (resource >= sizeof(rows) / sizeof(rows[0]) || !rows[resource])
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	file = fopen(path, "re");
	if (!file)
		return -1;
	while (found != 0 && fgets(line, sizeof(line), file)) {
		size_t length = strlen(rows[resource]);
		if (strncmp(line, rows[resource], length) != 0 || line[length] != ' ')
			continue;
		if (sscanf(line + length, "%31s %31s", soft, hard) == 2) {
			limit->rlim_cur = value(soft);
			limit->rlim_max = value(hard);
			found = 0;
		}
	}
	fclose(file);
	return found;
}

long syscall(long number, ...)
{
	static long (*next)(long, ...);
	va_list list;
	long a[6], result;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (!next)
		next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	result = next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (result == -1 && errno == EPERM && number == SYS_prlimit64 && !a[2] && a[3]) {
		if (read_limit((pid_t)a[0], (unsigned)a[1], (struct rlimit *)a[3]) == 0)
			return 0;
		errno = EPERM;
	}
	return result;
}
