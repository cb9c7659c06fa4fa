/* What belongs to a process beside its memory and files: rights, limits, switches. */
#include "fidelity.h"

#include "notes.h"

#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* The lines of /proc/PID/status that tell of rights. */
static void rights(char question, char *answer)
{
	const char *const names[] = {"Uid:", "Gid:", "Groups:", "NoNewPrivs:", "Seccomp:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"};
	const char *status = file_says("/proc/self/status");

	(void)question;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *line = strstr(status, names[i]);

		if (line)
			snprintf(answer + strlen(answer), ANSWER - strlen(answer), "%.*s\n", (int)strcspn(line, "\n"), line);
	}
}

static struct helper other_user;

static void become_another(void)
{
	gid_t groups[] = {5, 60, 7000};

	must(setgroups(3, groups), "setgroups");
	must(setresgid(1001, 1002, 1003), "setresgid");
	must(prctl(PR_SET_KEEPCAPS, 1), "PR_SET_KEEPCAPS");
	must(setresuid(2001, 2002, 2003), "setresuid");
}

static void write_rights(void)
{
	char own[ANSWER] = "";

	rights('r', own);
	note("%s%s", own, helper_ask(&other_user, 'r'));
}

static void credentials_setup(void)
{
	other_user = helper_start(become_another, rights);
	first_notes(write_rights);
	if (!strstr(helper_ask(&other_user, 'r'), "2001\t2002\t2003"))
		unable("the helper is not who it should be");
}

static void credentials_check(void)
{
	check_notes(write_rights);
	detail("users, groups and capabilities of two processes");
}

static void write_prctl(void)
{
	char name[16] = "";
	int value = 0;

	prctl(PR_GET_NAME, name);
	prctl(PR_GET_PDEATHSIG, &value);
	note("name %s\nsignal of the parent's death %d\n", name, value);
	note("dumpable %d\nno_new_privs %d\nkeepcaps %d\nsecurebits %#x\nTHP disabled %d\n", prctl(PR_GET_DUMPABLE), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
		prctl(PR_GET_KEEPCAPS), prctl(PR_GET_SECUREBITS), prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
}

static void prctl_setup(void)
{
	must(prctl(PR_SET_NAME, "the name"), "PR_SET_NAME");
	must(prctl(PR_SET_PDEATHSIG, SIGUSR1), "PR_SET_PDEATHSIG");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	must(prctl(PR_SET_KEEPCAPS, 1), "PR_SET_KEEPCAPS");
	must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), "PR_SET_THP_DISABLE");
	must(prctl(PR_SET_DUMPABLE, 0), "PR_SET_DUMPABLE");
	first_notes(write_prctl);
}

static void prctl_check(void)
{
	check_notes(write_prctl);
	detail("7 attributes");
}

static void write_slack(void)
{
	note("timer slack %d\n", prctl(PR_GET_TIMERSLACK));
}

static void slack_setup(void)
{
	must(prctl(PR_SET_TIMERSLACK, 123456), "PR_SET_TIMERSLACK");
	first_notes(write_slack);
}

static void slack_check(void)
{
	check_notes(write_slack);
}

static void write_limits(void)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit limit;

		getrlimit(i, &limit);
		note("limit %d %llu/%llu\n", i, (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	}
}

static void limits_setup(void)
{
	must(setrlimit(RLIMIT_NOFILE, &(struct rlimit){777, 999}), "RLIMIT_NOFILE");
	must(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 1 << 20}), "RLIMIT_CORE");
	must(setrlimit(RLIMIT_STACK, &(struct rlimit){3 << 20, 64 << 20}), "RLIMIT_STACK");
	must(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 30, 1l << 40}), "RLIMIT_FSIZE");
	must(setrlimit(RLIMIT_CPU, &(struct rlimit){100000, 200000}), "RLIMIT_CPU");
	must(setrlimit(RLIMIT_AS, &(struct rlimit){1l << 40, 1l << 41}), "RLIMIT_AS");
	first_notes(write_limits);
}

static void limits_check(void)
{
	check_notes(write_limits);
	detail("%d limits", RLIM_NLIMITS);
}

const struct feature attribute_features[] = {
	{"credentials", credentials_setup, credentials_check, 0}, {"prctl", prctl_setup, prctl_check, 0}, {"timer-slack", slack_setup, slack_check, 1},
	{"limits", limits_setup, limits_check, 0}, {0},
};
