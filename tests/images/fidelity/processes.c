/* Processes: their tree, groups and sessions, and those that have ended or stand still. */
#include "fidelity.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* member is a process of the tree; it knows a child of its own. */
static struct helper child, grandchild, grouped;
static char first_words[3][ANSWER];

static void who(char question, char *answer)
{
	if (question == 'g') {
		strcpy(answer, helper_ask(&grandchild, 'w'));
		return;
	}
	snprintf(answer, ANSWER, "process %d, parent %d, group %d, session %d", getpid(), getppid(), getpgrp(), getsid(0));
}

static void own_session(void)
{
	must(setsid(), "setsid");
}

static void own_group(void)
{
	must(setpgid(0, 0), "setpgid");
}

static void with_grandchild(void)
{
	grandchild = helper_start(own_session, who);
}

static void tree_setup(void)
{
	child = helper_start(with_grandchild, who);
	grouped = helper_start(own_group, who);
	strcpy(first_words[0], helper_ask(&child, 'w'));
	strcpy(first_words[1], helper_ask(&child, 'g'));
	strcpy(first_words[2], helper_ask(&grouped, 'w'));
}

static void tree_check(void)
{
	const char *words[] = {helper_ask(&child, 'w'), helper_ask(&child, 'g'), helper_ask(&grouped, 'w')};
	pid_t brief;
	int status;

	for (int i = 0; i < 3; i++)
		WANT(strcmp(words[i], first_words[i]) == 0, "it was %s; it is %s", first_words[i], words[i]);
	brief = must(fork(), "fork");
	if (brief == 0)
		_exit(42);
	WANT(waitpid(brief, &status, 0) == brief && WEXITSTATUS(status) == 42, "a new child's status is %#x", status);
	detail("child, grandchild in a session, child in a group");
}

/* dead_leader: the leader of a session and of a group has ended, its child lives on. */
static struct helper left;
static char left_words[ANSWER];

static struct helper orphan_start(int session)
{
	struct helper orphan;
	int ends[2], status;
	pid_t leader;

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
	leader = must(fork(), "fork");
	if (leader == 0) {
		if (session)
			must(setsid(), "setsid");
		if (must(fork(), "fork") == 0) {
			if (!EVENTUALLY(getppid() != leader, 8000) || write(ends[0], &(pid_t){getpid()}, sizeof(pid_t)) != sizeof(pid_t))
				_exit(1);
			close(ends[1]);
			helper_serve(ends[0], who);
		}
		nap(20);
		_exit(0);
	}
	waitpid(leader, &status, 0);
	close(ends[0]);
	orphan.fd = ends[1];
	if (read_some(orphan.fd, &orphan.pid, sizeof(pid_t)))
		unable("the orphan does not start");
	return orphan;
}

static void dead_leader_setup(void)
{
	left = orphan_start(1);
	strcpy(left_words, helper_ask(&left, 'w'));
}

static void orphan_setup(void)
{
	left = orphan_start(0);
	strcpy(left_words, helper_ask(&left, 'w'));
	if (!strstr(left_words, "parent 1,"))
		unable("it is no child of process 1: %s", left_words);
}

static void left_check(void)
{
	const char *words = helper_ask(&left, 'w');

	WANT(strcmp(words, left_words) == 0, "it was %s; it is %s", left_words, words);
	detail("%s", words);
}

static void subreaper_setup(void)
{
	must(prctl(PR_SET_CHILD_SUBREAPER, 1), "PR_SET_CHILD_SUBREAPER");
	left = orphan_start(1);
	strcpy(left_words, helper_ask(&left, 'w'));
}

/* The orphan leads a session of its own after a restore, as it cannot be in one without a leader. */
static void subreaper_check(void)
{
	struct helper another;
	const char *words = helper_ask(&left, 'w');
	int is = 0;

	WANT(strncmp(words, left_words, strcspn(left_words, "g")) == 0, "it was %s; it is %s", left_words, words);
	detail("%s", words);
	WANT(prctl(PR_GET_CHILD_SUBREAPER, &is) == 0 && is, "it is no subreaper any more");
	another = orphan_start(0);
	WANT(atoi(strstr(helper_ask(&another, 'w'), "parent ") + 7) == getpid(), "a new orphan is no child of the subreaper");
	kill(another.pid, SIGKILL);
	close(another.fd);
	waitpid(another.pid, NULL, 0);
}

/* Two children have ended, one by itself and one by a signal, and nobody has asked for their status. */
static pid_t exited, killed;

static void zombie_setup(void)
{
	siginfo_t info;

	exited = must(fork(), "fork");
	if (exited == 0)
		_exit(7);
	killed = must(fork(), "fork");
	if (killed == 0) {
		raise(SIGUSR2);
		_exit(0);
	}
	must(waitid(P_PID, exited, &info, WEXITED | WNOWAIT), "waitid");
	must(waitid(P_PID, killed, &info, WEXITED | WNOWAIT), "waitid");
}

static void zombie_check(void)
{
	int status = 0;

	WANT(waitpid(exited, &status, WNOHANG) == exited && WIFEXITED(status) && WEXITSTATUS(status) == 7, "status of the one that ended is %#x", status);
	WANT(waitpid(killed, &status, WNOHANG) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR2, "status of the one that was killed is %#x", status);
	zombie_setup();
	detail("two zombies keep their status");
}

/* A child was stopped. */
static struct helper stopped;

static char state_of(pid_t pid)
{
	char path[64];
	const char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	end = strrchr(file_says(path), ')');
	return end ? end[2] : '-';
}

static void stop(void)
{
	int status;

	kill(stopped.pid, SIGSTOP);
	must(waitpid(stopped.pid, &status, WUNTRACED), "waitpid");
}

static void stopped_setup(void)
{
	stopped = helper_start(NULL, who);
	stop();
}

static void stopped_check(void)
{
	char state = state_of(stopped.pid);

	WANT(state == 'T', "its state is %c, not T", state);
	kill(stopped.pid, SIGCONT);
	WANT(helper_ask(&stopped, 'w')[0], "it does not go on");
	stop();
	detail("stopped, went on, stopped");
}

const struct feature process_features[] = {
	{"process-tree", tree_setup, tree_check, 0}, {"dead-leader", dead_leader_setup, left_check, 0}, {"orphan", orphan_setup, left_check, 0},
	{"subreaper", subreaper_setup, subreaper_check, 0}, {"zombies", zombie_setup, zombie_check, 0}, {"stopped-child", stopped_setup, stopped_check, 0}, {0},
};
