/* Unix sockets: data on the way in both directions, addresses, connections that nobody has accepted, descriptors on the way. */
#include "fidelity.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static uint8_t data[20000];

static void pair_send(int type, int *ends, int round)
{
	fill(data, sizeof(data), round);
	if (type == SOCK_STREAM) {
		write_all(ends[0], data, 5000);
		write_all(ends[1], data, 7000);
		return;
	}
	for (int i = 1; i <= 4; i++) {
		write_all(ends[0], data, 100 * i);
		write_all(ends[1], data, 200 * i);
	}
}

static void pair_receive(const char *name, int type, int *ends)
{
	if (type == SOCK_STREAM) {
		WANT(read_some(ends[1], data, 5000) == 0 && filled(data, 5000, rounds), "what went one way over the %s is another", name);
		WANT(read_some(ends[0], data, 7000) == 0 && filled(data, 7000, rounds), "what went the other way over the %s is another", name);
		return;
	}
	for (int i = 1; i <= 4; i++) {
		ssize_t n = recv(ends[1], data, sizeof(data), MSG_DONTWAIT), m;

		WANT(n == 100 * i && filled(data, n, rounds), "message %d of the %s has %zd bytes", i, name, n);
		m = recv(ends[0], data, sizeof(data), MSG_DONTWAIT);
		WANT(m == 200 * i && filled(data, m, rounds), "message %d back over the %s has %zd bytes", i, name, m);
	}
}

static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
static const char *const type_names[] = {"stream", "datagrams", "packets"};
static int pairs[3][2], half[2];

static void pairs_setup(void)
{
	int size = 200000;

	for (int i = 0; i < 3; i++) {
		must(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, pairs[i]), "socketpair");
		must(setsockopt(pairs[i][0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), "SO_SNDBUF");
		pair_send(types[i], pairs[i], 0);
	}
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, half), "socketpair");
	must(shutdown(half[0], SHUT_WR), "shutdown");
}

static void pairs_check(void)
{
	for (int i = 0; i < 3; i++) {
		int size = 0, type = 0;
		socklen_t length = sizeof(int);

		pair_receive(type_names[i], types[i], pairs[i]);
		pair_send(types[i], pairs[i], rounds + 1);
		getsockopt(pairs[i][0], SOL_SOCKET, SO_SNDBUF, &size, &length);
		getsockopt(pairs[i][0], SOL_SOCKET, SO_TYPE, &type, &length);
		WANT(size >= 200000 && type == types[i], "of %s, the buffer is %d and the type %d", type_names[i], size, type);
	}
	WANT(read(half[1], data, 1) == 0 && write(half[1], "x", 1) == 1 && read(half[0], data, 1) == 1, "the half-closed pair is another");
	detail("stream, datagrams, packets, half-closed");
}

/* A listener with a connection that is served, and one that nobody has accepted. */
struct service {
	const char *name, *address;
	int type, listener, client, server, waiting;
};
static struct service services[] = {
	{.name = "stream", .address = "stream.sock", .type = SOCK_STREAM}, {.name = "packets", .address = "packets.sock", .type = SOCK_SEQPACKET},
	{.name = "abstract stream", .address = "@fidelity-stream", .type = SOCK_STREAM},
	{.name = "abstract packets", .address = "@fidelity-packets", .type = SOCK_SEQPACKET},
};
enum { SERVICES = 4 };

static socklen_t unix_address(struct sockaddr_un *address, const char *name)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (name[0] == '@') {
		memcpy(address->sun_path + 1, name + 1, strlen(name) - 1);
		return offsetof(struct sockaddr_un, sun_path) + strlen(name);
	}
	strcpy(address->sun_path, file_path(name));
	return sizeof(*address);
}

static int dial(struct service *s)
{
	struct sockaddr_un address;
	socklen_t length = unix_address(&address, s->address);
	int fd = must(socket(AF_UNIX, s->type | SOCK_CLOEXEC, 0), "socket");

	if (connect(fd, (struct sockaddr *)&address, length))
		broken("connect to the %s: %s", s->name, strerror(errno));
	return fd;
}

static void services_setup(void)
{
	for (int i = 0; i < SERVICES; i++) {
		struct service *s = &services[i];
		struct sockaddr_un address;
		socklen_t length = unix_address(&address, s->address);

		s->listener = must(socket(AF_UNIX, s->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket");
		must(bind(s->listener, (struct sockaddr *)&address, length), "bind");
		if (s->address[0] != '@')
			must(chmod(address.sun_path, 0660), "chmod");
		must(listen(s->listener, 5), "listen");
		s->client = dial(s);
		s->server = must(accept(s->listener, NULL, NULL), "accept");
		write_all(s->client, "0", 1);
		s->waiting = dial(s);
	}
}

static void services_check(void)
{
	for (int i = 0; i < SERVICES; i++) {
		struct service *s = &services[i];
		char text[16] = "";
		struct ucred peer = {0};
		socklen_t length = sizeof(peer);
		int accepted;

		WANT(read_some(s->server, text, 1) == 0 && text[0] == '0' + rounds % 10, "the connection of the %s brought %s", s->name, text);
		text[0] = '0' + (rounds + 1) % 10;
		write_all(s->client, text, 1);
		getsockopt(s->server, SOL_SOCKET, SO_PEERCRED, &peer, &length);
		WANT(peer.pid == getpid() && peer.uid == getuid(), "the peer of the %s is process %d", s->name, peer.pid);
		accepted = accept(s->listener, NULL, NULL);
		memset(text, 0, sizeof(text));
		WANT(accepted != -1, "nobody waits for the %s: %s", s->name, strerror(errno));
		if (accepted != -1)
			WANT(send(s->waiting, "waiting", 7, MSG_NOSIGNAL) == 7 && read_some(accepted, text, 7) == 0 && strcmp(text, "waiting") == 0,
				"who waited for the %s sent %s", s->name, text);
		close(accepted);
		close(s->waiting);
		s->waiting = dial(s);
		if (s->address[0] != '@') {
			struct stat status = {0};

			stat(file_path(s->address), &status);
			WANT(S_ISSOCK(status.st_mode) && (status.st_mode & 0777) == 0660, "the mode of the %s is %#o", s->name, status.st_mode);
		}
	}
	detail("stream and packets, by path and abstract, each with one that waits");
}

/* A connection that nobody has accepted, and that has brought data already; and one that was closed after that. */
static struct service eager = {.name = "eager", .address = "eager.sock", .type = SOCK_STREAM};

static void eager_dial(void)
{
	eager.waiting = dial(&eager);
	write_all(eager.waiting, "early", 5);
}

static void eager_setup(void)
{
	struct sockaddr_un address;
	socklen_t length = unix_address(&address, eager.address);

	eager.listener = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	must(bind(eager.listener, (struct sockaddr *)&address, length), "bind");
	must(listen(eager.listener, 5), "listen");
	eager_dial();
}

static void eager_check(void)
{
	char text[8] = "";
	int accepted = accept(eager.listener, NULL, NULL);

	WANT(read_some(accepted, text, 5) == 0 && strcmp(text, "early") == 0, "who waited sent %s", text);
	close(accepted);
	close(eager.waiting);
	eager_dial();
}

static void hasty_setup(void)
{
	eager.address = "hasty.sock";
	eager_setup();
	close(eager.waiting);
	eager.waiting = -1;
}

static void hasty_check(void)
{
	eager_check();
	close(eager.waiting);
	eager.waiting = -1;
}

/* Datagrams between named sockets, and a connection whose listener's name is gone. */
static int receiver, sender, nameless[2];

static void datagrams_send(int round)
{
	fill(data, sizeof(data), round);
	for (int i = 1; i <= 3; i++)
		write_all(sender, data, 300 * i);
}

static void datagrams_setup(void)
{
	struct service gone = {.name = "gone", .address = "gone.sock", .type = SOCK_STREAM};
	struct sockaddr_un address;
	socklen_t length = unix_address(&address, "receiver.sock");
	int listener;

	receiver = must(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
	must(bind(receiver, (struct sockaddr *)&address, length), "bind");
	sender = must(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
	must(connect(sender, (struct sockaddr *)&address, length), "connect");
	length = unix_address(&address, "@fidelity-sender");
	must(bind(sender, (struct sockaddr *)&address, length), "bind");
	datagrams_send(0);
	listener = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	length = unix_address(&address, gone.address);
	must(bind(listener, (struct sockaddr *)&address, length), "bind");
	must(listen(listener, 1), "listen");
	nameless[0] = dial(&gone);
	nameless[1] = must(accept(listener, NULL, NULL), "accept");
	close(listener);
	unlink(address.sun_path);
}

static void datagrams_check(void)
{
	for (int i = 1; i <= 3; i++) {
		struct sockaddr_un from = {0};
		socklen_t length = sizeof(from);
		ssize_t n = recvfrom(receiver, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from, &length);

		WANT(n == 300 * i && filled(data, n, rounds), "datagram %d has %zd bytes", i, n);
		WANT(strcmp(from.sun_path + 1, "fidelity-sender") == 0, "datagram %d came from another: %s", i, from.sun_path + 1);
	}
	datagrams_send(rounds + 1);
	WANT(write(nameless[0], "x", 1) == 1 && read_some(nameless[1], data, 1) == 0, "the connection to a removed name is gone");
	WANT(access(file_path("gone.sock"), F_OK) == -1, "the removed name is back");
	detail("datagrams, removed name");
}

const struct feature unix_features[] = {
	{"socket-pairs", pairs_setup, pairs_check, 0}, {"unix-services", services_setup, services_check, 0},
	{"unix-datagrams", datagrams_setup, datagrams_check, 0}, {"unix-unaccepted-data", eager_setup, eager_check, 1},
	{"unix-unaccepted-closed", hasty_setup, hasty_check, 1}, {0},
};
