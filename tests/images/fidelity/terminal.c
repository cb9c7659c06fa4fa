/* Pseudo terminals: their settings, the session that they control, and what was typed and not read. */
#include "fidelity.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

/* A session leader has a job in the foreground, which counts what the terminal sends, as a shell has. The feature has the other end. */
static int master, slave, keeps_both, asks_job;
static struct helper leader, job;
static volatile sig_atomic_t interrupts, resizes;

static void count(int number)
{
	if (number == SIGINT)
		interrupts++;
	else
		resizes++;
}

static void job_answer(char question, char *answer)
{
	(void)question;
	snprintf(answer, ANSWER, "%d interrupts, %d resizes, foreground %d, own group %d, session %d", interrupts, resizes, tcgetpgrp(slave), getpgrp(), getsid(0));
}

static void be_job(void)
{
	struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};

	setpgid(0, 0);
	signal(SIGTTOU, SIG_IGN);
	must(tcsetpgrp(slave, getpid()), "tcsetpgrp");
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGWINCH, &action, NULL);
}

static void leader_answer(char question, char *answer)
{
	switch (question) {
	case 'j':
		strcpy(answer, helper_ask(&job, 'j'));
		break;
	case 'o':
		write_all(slave, "out", 3);
		break;
	case 'f':
		snprintf(answer, ANSWER, "foreground %d", tcgetpgrp(slave));
		break;
	default:
		snprintf(answer, ANSWER, "session %d, terminal of session %d", getsid(0), tcgetsid(slave));
	}
}

static void be_leader(void)
{
	must(setsid(), "setsid");
	must(ioctl(slave, TIOCSCTTY, 0), "TIOCSCTTY");
	close(master);
	job = helper_start(be_job, job_answer);
}

static struct termios settings;
static char leader_words[ANSWER];
static int job_group;

static void terminal_setup(void)
{
	struct winsize size = {.ws_row = 31, .ws_col = 97};

	must(openpty(&master, &slave, NULL, NULL, &size), "openpty");
	must(tcgetattr(slave, &settings), "tcgetattr");
	settings.c_cc[VINTR] = 5;
	settings.c_lflag &= ~ECHO;
	settings.c_cc[VERASE] = 8;
	must(tcsetattr(slave, TCSANOW, &settings), "tcsetattr");
	leader = helper_start(be_leader, leader_answer);
	strcpy(leader_words, helper_ask(&leader, 'w'));
	sscanf(strstr(helper_ask(&leader, 'f'), "foreground"), "foreground %d", &job_group);
	if (!keeps_both)
		close(slave);
}

static void terminal_both_setup(void)
{
	keeps_both = 1;
	terminal_setup();
}

static void terminal_job_setup(void)
{
	asks_job = 1;
	terminal_setup();
}

/* job_count returns how many interrupts or resizes the job has seen. */
static int job_count(int resize)
{
	int interrupted = -1, resized = -1;

	sscanf(helper_ask(&leader, 'j'), "%d interrupts, %d resizes", &interrupted, &resized);
	return resize ? resized : interrupted;
}

static void terminal_check(void)
{
	struct termios now = {0};
	struct winsize size = {0};
	int before = job_count(0), resized = job_count(1), foreground = 0;
	const char *words = helper_ask(&leader, 'w');
	char text[64] = "";

	WANT(strcmp(words, leader_words) == 0, "it was %s; it is %s", leader_words, words);
	tcgetattr(master, &now);
	WANT(now.c_lflag == settings.c_lflag && memcmp(now.c_cc, settings.c_cc, NCCS) == 0, "the settings are others");
	ioctl(master, TIOCGWINSZ, &size);
	WANT(size.ws_row == 31 + rounds && size.ws_col == 97, "the size is %dx%d", size.ws_row, size.ws_col);
	sscanf(strstr(helper_ask(&leader, asks_job ? 'j' : 'f'), "foreground"), "foreground %d", &foreground);
	WANT(foreground == job_group, "the foreground is %d, not %d", foreground, job_group);
	write_all(master, "\005", 1);
	WANT(EVENTUALLY(job_count(0) == before + 1, 1000), "the key for an interrupt interrupts nobody");
	size.ws_row++;
	ioctl(master, TIOCSWINSZ, &size);
	WANT(EVENTUALLY(job_count(1) == resized + 1, 1000), "a change of size is told to nobody");
	helper_ask(&leader, 'o');
	WANT(read_some(master, text, 3) == 0 && strcmp(text, "out") == 0, "what is written comes as %s", text);
	detail("settings, size, session, foreground job");
}

/* What was written and typed, and nobody has read. */
static void unread_write(void)
{
	write_all(slave, "written", 7);
	write_all(master, "typed\n", 6);
}

static void unread_setup(void)
{
	must(openpty(&master, &slave, NULL, NULL, NULL), "openpty");
	must(tcgetattr(slave, &settings), "tcgetattr");
	cfmakeraw(&settings);
	must(tcsetattr(slave, TCSANOW, &settings), "tcsetattr");
	unread_write();
}

static void unread_check(void)
{
	char text[16] = "";

	WANT(read_some(master, text, 7) == 0 && strcmp(text, "written") == 0, "what was written came as %s", text);
	memset(text, 0, sizeof(text));
	WANT(read_some(slave, text, 6) == 0 && strcmp(text, "typed\n") == 0, "what was typed came as %s", text);
	unread_write();
	detail("written and typed");
}

const struct feature terminal_features[] = {
	{"terminal", terminal_setup, terminal_check, 0}, {"terminal-both-ends", terminal_both_setup, terminal_check, 1},
	{"terminal-job", terminal_job_setup, terminal_check, 1},
	{"terminal-unread", unread_setup, unread_check, 0}, {0},
};
