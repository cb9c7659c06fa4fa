#include "fidelity.h"

#include <poll.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "report.h"

int was_restored, rounds;
const char *folder = "/state";
struct report report;

static void add(char *text, size_t size, const char *format, va_list arguments)
{
	size_t used = strlen(text);

	if (used > 0 && used + 2 < size) {
		strcat(text, ", ");
		used += 2;
	}
	vsnprintf(text + used, size - used, format, arguments);
}

void detail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(report.details, sizeof(report.details), format, arguments);
	va_end(arguments);
}

void broken(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(report.broken, sizeof(report.broken), format, arguments);
	va_end(arguments);
}

void unable(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	strcpy(report.broken, "cannot be set up");
	add(report.broken, sizeof(report.broken), format, arguments);
	va_end(arguments);
	report_send();
	_exit(1);
}

long must(long result, const char *what)
{
	if (result == -1)
		unable("%s: %s", what, strerror(errno));
	return result;
}

void must_zero(int error, const char *what)
{
	if (error)
		unable("%s: %s", what, strerror(error));
}

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void nap(int milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};

	while (nanosleep(&time, &time) == -1 && errno == EINTR)
		;
}

static uint32_t next(uint32_t *state)
{
	return *state = *state * 1664525u + 1013904223u;
}

void fill(void *memory, size_t size, uint32_t seed)
{
	uint8_t *bytes = memory;
	uint32_t state = seed * 2654435761u + 1;

	for (size_t i = 0; i < size; i++)
		bytes[i] = next(&state) >> 24;
}

int filled(const void *memory, size_t size, uint32_t seed)
{
	const uint8_t *bytes = memory;
	uint32_t state = seed * 2654435761u + 1;

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != next(&state) >> 24)
			return 0;
	return 1;
}

void write_all(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;)
		done += must(write(fd, (const char *)data + done, size - done), "write");
}

int read_some(int fd, void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		struct pollfd readable = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&readable, 1, 8000) != 1)
			return -1;
		n = read(fd, (char *)data + done, size - done);
		if (n <= 0)
			return -1;
		done += n;
	}
	return 0;
}

const char *file_says(const char *path)
{
	static char text[4][4096];
	static int turn;
	char *into = text[turn++ % 4];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd == -1 ? -1 : read(fd, into, sizeof(text[0]) - 1);

	into[n > 0 ? n : 0] = 0;
	if (fd != -1)
		close(fd);
	return into;
}

const char *file_path(const char *name)
{
	static char paths[4][256];
	static int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

void helper_serve(int fd, answer_function *answer)
{
	char question, text[ANSWER];

	while (read(fd, &question, 1) == 1) {
		memset(text, 0, sizeof(text));
		answer(question, text);
		if (write(fd, text, sizeof(text)) != sizeof(text))
			break;
	}
	_exit(0);
}

struct helper helper_start(void (*prepare)(void), answer_function *answer)
{
	struct helper helper;
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
	helper.pid = must(fork(), "fork");
	if (helper.pid == 0) {
		close(ends[1]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (prepare)
			prepare();
		if (write(ends[0], "", 1) != 1) /* it is ready */
			_exit(1);
		helper_serve(ends[0], answer);
	}
	close(ends[0]);
	helper.fd = ends[1];
	if (read_some(helper.fd, &(char){0}, 1))
		unable("a helper process does not start");
	return helper;
}

const char *helper_ask(const struct helper *helper, char question)
{
	static char answers[4][ANSWER];
	static int turn;
	char *answer = answers[turn++ % 4];

	answer[0] = 0;
	if (write(helper->fd, &question, 1) != 1 || read_some(helper->fd, answer, ANSWER))
		answer[0] = 0;
	return answer;
}
