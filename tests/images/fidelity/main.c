/*
 * fidelity FEATURE… has kernel objects of each kind, and tells whether they are what they were: it serves HTTP on :8080, where GET /check returns
 * 200 and "ok" with a line for each feature, or 500 with a line for each that is broken. "all" are all but those that stand apart; -NAME leaves one
 * out; "list" prints the names.
 */
#include "fidelity.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "report.h"

static const struct feature *const topics[] = {
	thread_features, lock_features, wait_features, process_features, attribute_features, priority_features, signal_features, timer_features, clock_features,
	file_features, special_file_features, file_lock_features, pipe_features, unix_features, passing_features, event_features, notify_features, memory_features,
	mapping_features, ipc_features, inet_features, tcp_features, terminal_features, large_features,
};

enum { PORT = 8080, MOST = 200, CHECK_PATIENCE = 20000, SETUP_PATIENCE = 60000 };

/* running is a feature and the process it has. */
static struct running {
	const struct feature *feature;
	pid_t pid;
	int fd, answered;
	struct report report;
} running[MOST];
static int count;

static int to_main = -1; /* a feature's end of its connection to the main process */

void report_send(void)
{
	if (to_main == -1)
		fprintf(stderr, "fidelity: %s\n", report.broken);
	else if (write(to_main, &report, sizeof(report)) != sizeof(report))
		_exit(1);
	memset(&report, 0, sizeof(report));
}

/* identity is what changes with every restore: the namespaces of the container. */
static const char *identity(void)
{
	static char text[256];
	const char *names[] = {"mnt", "net", "pid", "uts", "ipc"};

	text[0] = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[64], link[64];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
		n = readlink(path, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = 0;
		strcat(text, link);
	}
	return text;
}

/* live is the life of a feature's process. */
static void live(const struct feature *feature)
{
	char last[256], question;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	strcpy(last, identity());
	feature->setup();
	report_send();
	while (read(to_main, &question, 1) == 1) {
		was_restored = strcmp(last, identity()) != 0;
		strcpy(last, identity());
		feature->check();
		rounds++;
		report_send();
	}
	_exit(0);
}

static void start(const struct feature *feature)
{
	struct running *r = &running[count++];
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
	r->feature = feature;
	r->fd = ends[0];
	r->pid = must(fork(), "fork");
	if (r->pid == 0) {
		for (int i = 0; i < count; i++)
			close(running[i].fd);
		to_main = ends[1];
		live(feature);
	}
	close(ends[1]);
}

/* ended reaps what has ended and says so of features. */
static void ended(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < count; i++)
			if (running[i].pid == pid) {
				running[i].pid = 0;
				if (!running[i].report.broken[0])
					snprintf(running[i].report.broken, sizeof(running[i].report.broken), "its process has ended, status %#x", status);
			}
}

/* await collects a report of each feature. What was broken once stays so, as a check sets all anew. */
static void await(int patience)
{
	static struct report fresh;
	int64_t end = now_ms() + patience;

	for (int i = 0; i < count; i++) {
		struct running *r = &running[i];
		struct pollfd readable = {.fd = r->fd, .events = POLLIN};
		int64_t rest = end - now_ms();

		if (r->pid == 0)
			continue;
		if (poll(&readable, 1, rest > 0 ? rest : 0) != 1)
			snprintf(r->report.broken, sizeof(r->report.broken), "there is no answer");
		else if (read(r->fd, &fresh, sizeof(fresh)) != sizeof(fresh))
			snprintf(r->report.broken, sizeof(r->report.broken), "its process has ended");
		else if (!r->report.broken[0])
			r->report = fresh;
	}
	ended();
}

static char body[1 << 20];

/* answer writes the body of the answer to GET /check, and returns its status. */
static int answer(void)
{
	size_t used = 0;
	int status = 200;

	body[0] = 0;
	for (int i = 0; i < count; i++)
		if (running[i].report.broken[0]) {
			used += snprintf(body + used, sizeof(body) - used, "%s: %s\n", running[i].feature->name, running[i].report.broken);
			status = 500;
		}
	if (status != 200)
		return status;
	used = snprintf(body, sizeof(body), "ok\n");
	for (int i = 0; i < count; i++)
		used += snprintf(body + used, sizeof(body) - used, "%s: %s\n", running[i].feature->name, running[i].report.details);
	return status;
}

static void serve(int connection)
{
	static char last[256];
	char request[2048] = "", head[256];
	int status = 200;

	if (read(connection, request, sizeof(request) - 1) <= 0)
		return;
	snprintf(body, sizeof(body), "up\n");
	if (strncmp(request, "GET /check", 10) == 0) {
		for (int i = 0; i < count; i++)
			if (running[i].pid && write(running[i].fd, "c", 1) != 1)
				snprintf(running[i].report.broken, sizeof(running[i].report.broken), "its process has ended");
		await(CHECK_PATIENCE);
		status = answer();
	}
	snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status, status == 200 ? "OK" : "Broken", strlen(body));
	if (write(connection, head, strlen(head)) < 0 || write(connection, body, strlen(body)) < 0)
		perror("answer");
	printf("%s%s", strcmp(last, identity()) ? "in new namespaces\n" : "", body);
	strcpy(last, identity());
}

static void listen_and_serve(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int listener = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"), one = 1;

	must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), "SO_REUSEADDR");
	must(bind(listener, (struct sockaddr *)&address, sizeof(address)), "bind");
	must(listen(listener, 16), "listen");
	for (;;) {
		int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		ended();
		if (connection == -1)
			continue;
		serve(connection);
		close(connection);
	}
}

static void end(int number)
{
	_exit(128 + number);
}

/* wanted tells whether the arguments name a feature. */
static int wanted(const struct feature *feature, char **arguments)
{
	int is = 0;

	for (; *arguments; arguments++) {
		if (strcmp(*arguments, feature->name) == 0 || (strcmp(*arguments, "all") == 0 && !feature->apart))
			is = 1;
		if (**arguments == '-' && strcmp(*arguments + 1, feature->name) == 0)
			is = 0;
	}
	return is;
}

int main(int argc, char **argv)
{
	int list = argc == 2 && strcmp(argv[1], "list") == 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("FIDELITY_DIR"))
		folder = getenv("FIDELITY_DIR");
	mkdir(folder, 0755);
	signal(SIGTERM, end);
	signal(SIGINT, end);
	for (size_t topic = 0; topic < sizeof(topics) / sizeof(topics[0]); topic++)
		for (const struct feature *f = topics[topic]; f->name; f++) {
			if (list)
				printf("%s%s\n", f->name, f->apart ? " (apart)" : "");
			else if (wanted(f, argv + 1))
				start(f);
		}
	if (list)
		return 0;
	if (count == 0) {
		fprintf(stderr, "fidelity: the arguments name no feature; `fidelity list` prints them\n");
		return 2;
	}
	await(SETUP_PATIENCE);
	answer();
	printf("%s", body);
	listen_and_serve();
}
