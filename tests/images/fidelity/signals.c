/* Signals: what waits to be delivered, what is done about each, and a handler that is being run. */
#include "fidelity.h"

#include <pthread.h>
#include <sys/syscall.h>

/* Signals of the process and of a thread that are blocked, with the words that came along. */
enum { QUEUED = 5 };
static pthread_t holder;
static pid_t holder_tid;
static atomic_int holder_asked, holder_done;
static char holder_wrong[256];

static sigset_t one(int number)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, number);
	return set;
}

/* take takes a pending signal, and says what is wrong with it, or returns nothing. */
static const char *take(int number, int code, int value)
{
	static char text[4][128];
	static int turn;
	char *wrong = text[turn++ % 4];
	sigset_t set = one(number);
	siginfo_t info = {0};

	if (sigtimedwait(&set, &info, &(struct timespec){0}) != number)
		snprintf(wrong, sizeof(text[0]), "signal %d is not pending", number);
	else if (info.si_code != code || info.si_pid != getpid() || info.si_uid != getuid())
		snprintf(wrong, sizeof(text[0]), "signal %d has code %d from process %d", number, info.si_code, info.si_pid);
	else if (code == SI_QUEUE && info.si_value.sival_int != value)
		snprintf(wrong, sizeof(text[0]), "signal %d came with %d, not %d", number, info.si_value.sival_int, value);
	else
		return NULL;
	return wrong;
}

static void send_to_thread(int number, int value)
{
	siginfo_t info = {.si_code = SI_QUEUE};

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	must(syscall(SYS_rt_tgsigqueueinfo, getpid(), holder_tid, number, &info), "rt_tgsigqueueinfo");
}

static void *hold(void *unused)
{
	holder_tid = gettid();
	holder_done = 1;
	for (;; nap(2)) {
		if (!holder_asked)
			continue;
		holder_wrong[0] = 0;
		for (int i = 0; i < QUEUED; i++) {
			const char *wrong = take(SIGRTMIN + 3, SI_QUEUE, 100 * rounds + i);

			if (wrong)
				strcpy(holder_wrong, wrong);
		}
		holder_asked = 0;
		holder_done = 1;
	}
	return unused;
}

static void send_all(int round)
{
	for (int i = 0; i < QUEUED; i++)
		must(sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = 100 * round + i}), "sigqueue");
	must(kill(getpid(), SIGUSR1), "kill");
	must(kill(getpid(), SIGTERM), "kill");
	for (int i = 0; i < QUEUED; i++)
		send_to_thread(SIGRTMIN + 3, 100 * round + i);
}

static void pending_setup(void)
{
	sigset_t set;

	sigfillset(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	must_zero(pthread_create(&holder, NULL, hold, NULL), "pthread_create");
	if (!EVENTUALLY(holder_done, 8000))
		unable("the thread does not start");
	send_all(0);
}

static void pending_check(void)
{
	const char *wrong = NULL;

	for (int i = 0; i < QUEUED; i++)
		if ((wrong = take(SIGRTMIN + 2, SI_QUEUE, 100 * rounds + i)))
			broken("%s", wrong);
	if ((wrong = take(SIGUSR1, SI_USER, 0)))
		broken("%s", wrong);
	if ((wrong = take(SIGTERM, SI_USER, 0)))
		broken("%s", wrong);
	holder_done = 0;
	holder_asked = 1;
	WANT(EVENTUALLY(holder_done, 8000), "the thread does not answer");
	WANT(!holder_wrong[0], "of the thread, %s", holder_wrong);
	send_all(rounds + 1);
	detail("%d of the process, %d of a thread", QUEUED + 2, QUEUED);
}

/* What is done about each signal. */
static struct sigaction first_actions[65];
static void *handler_stack;
static volatile int handled, handled_value;
static volatile uintptr_t handled_at;

static void handle(int number, siginfo_t *info, void *context)
{
	(void)context;
	handled = number;
	handled_value = info->si_value.sival_int;
	handled_at = (uintptr_t)__builtin_frame_address(0);
}

static void handlers_setup(void)
{
	struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

	handler_stack = malloc(65536);
	must(sigaltstack(&(stack_t){.ss_sp = handler_stack, .ss_size = 65536}, NULL), "sigaltstack");
	sigaddset(&action.sa_mask, SIGUSR1);
	sigaddset(&action.sa_mask, SIGRTMIN + 9);
	must(sigaction(SIGUSR2, &action, NULL), "sigaction");
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	must(sigaction(SIGRTMIN + 4, &action, NULL), "sigaction");
	action.sa_flags = SA_SIGINFO | SA_RESETHAND;
	must(sigaction(SIGRTMIN + 5, &action, NULL), "sigaction");
	signal(SIGHUP, SIG_IGN);
	signal(SIGRTMIN + 6, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	for (int i = 1; i < 65; i++)
		sigaction(i, NULL, &first_actions[i]);
}

static void handlers_check(void)
{
	for (int i = 1; i < 65; i++) {
		struct sigaction now;

		if (sigaction(i, NULL, &now))
			continue;
		WANT(now.sa_sigaction == first_actions[i].sa_sigaction && now.sa_flags == first_actions[i].sa_flags
			&& memcmp(&now.sa_mask, &first_actions[i].sa_mask, 8) == 0, "the action of signal %d is another", i);
	}
	handled = 0;
	must(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 17}), "sigqueue");
	WANT(handled == SIGUSR2 && handled_value == 17, "the handler got signal %d with %d", handled, handled_value);
	WANT(handled_at - (uintptr_t)handler_stack < 65536, "the handler did not run on its stack");
	raise(SIGHUP);
	detail("64 actions, alternate stack");
}

/* A thread is in a handler at the moment of the capture, and comes back from it after. */
static atomic_int leave, inside, came_back;

static void stay(int number)
{
	(void)number;
	inside = 1;
	while (!leave)
		nap(5);
	inside = 0;
}

static void *interrupted(void *unused)
{
	sigset_t set;

	for (;;) {
		volatile double number = 1.25;
		uint64_t sum = 0;

		leave = 0;
		raise(SIGUSR1);
		sigemptyset(&set);
		pthread_sigmask(SIG_BLOCK, NULL, &set);
		for (int i = 0; i < 1000; i++)
			sum += i;
		if (number == 1.25 && sum == 499500 && !sigismember(&set, SIGUSR1))
			came_back++;
	}
	return unused;
}

static void in_handler_setup(void)
{
	pthread_t thread;

	signal(SIGUSR1, stay);
	must_zero(pthread_create(&thread, NULL, interrupted, NULL), "pthread_create");
	if (!EVENTUALLY(inside, 8000))
		unable("the handler is not called");
}

static void in_handler_check(void)
{
	int before = came_back;

	WANT(inside, "the handler has ended by itself");
	leave = 1;
	WANT(EVENTUALLY(came_back == before + 1, 8000), "the handler does not come back");
	WANT(EVENTUALLY(inside, 8000), "the handler is not called again");
	detail("came back %d times", came_back);
}

const struct feature signal_features[] = {
	{"pending-signals", pending_setup, pending_check, 0}, {"signal-actions", handlers_setup, handlers_check, 0},
	{"in-handler", in_handler_setup, in_handler_check, 0}, {0},
};
