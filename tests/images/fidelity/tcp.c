/* TCP connections inside the pod, which go on, and to the outside, which end. */
#include "fidelity.h"

#include "network.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>

enum { UNSENT = 300000 };

/* pair is a connection of the process with itself, with data that nobody has read on both ways, and some that could not even be sent. */
struct pair {
	const char *name, *word;
	int port, listener, client, server;
	uint32_t sent[2], got[2]; /* bytes, by direction: to the server, to the client */
};
static struct pair pairs[] = {
	{.name = "loopback", .word = "127.0.0.1", .port = 9201}, {.name = "IPv6 loopback", .word = "::1", .port = 9202},
	{.name = "own address", .word = "own", .port = 9203},
};

static uint8_t byte_at(uint32_t position)
{
	return position * 2654435761u >> 24;
}

static void send_until_full(struct pair *p, int direction)
{
	static uint8_t data[UNSENT];
	int fd = direction == 0 ? p->client : p->server;
	ssize_t n;

	for (int i = 0; i < UNSENT; i++)
		data[i] = byte_at(p->sent[direction] + i);
	n = send(fd, data, direction == 0 ? UNSENT : 5000, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		p->sent[direction] += n;
	else
		broken("send over %s: %s", p->name, strerror(errno));
}

static void receive_all(struct pair *p, int direction)
{
	int fd = direction == 0 ? p->server : p->client;
	uint8_t data[4096];

	while (p->got[direction] != p->sent[direction]) {
		uint32_t rest = p->sent[direction] - p->got[direction], want = rest < sizeof(data) ? rest : sizeof(data);
		struct pollfd readable = {.fd = fd, .events = POLLIN};
		ssize_t n = poll(&readable, 1, 8000) == 1 ? read(fd, data, want) : -1;

		if (n <= 0) {
			broken("over %s, %u bytes of %u do not come", p->name, rest, p->sent[direction]);
			return;
		}
		for (ssize_t i = 0; i < n; i++)
			if (data[i] != byte_at(p->got[direction] + i)) {
				broken("over %s, byte %u is another", p->name, p->got[direction]);
				return;
			}
		p->got[direction] += n;
	}
}

static void pair_setup(struct pair *p)
{
	p->listener = listening(p->word, p->port);
	p->client = dialled(SOCK_STREAM, p->word, p->port, 0);
	p->server = must(accept4(p->listener, NULL, NULL, SOCK_CLOEXEC), "accept");
	send_until_full(p, 0);
	send_until_full(p, 1);
}

static void pair_check(struct pair *p)
{
	for (int i = 0; i < 2; i++) { /* what was on the way, and then some more */
		receive_all(p, 0);
		receive_all(p, 1);
		send_until_full(p, 0);
		send_until_full(p, 1);
	}
	detail("%s: %u and %u bytes", p->name, p->sent[0], p->sent[1]);
}

static void loopback_setup(void)
{
	pair_setup(&pairs[0]);
	pair_setup(&pairs[1]);
}

static void loopback_check(void)
{
	pair_check(&pairs[0]);
	pair_check(&pairs[1]);
}

static void own_setup(void)
{
	pair_setup(&pairs[2]);
}

static void own_check(void)
{
	struct sockaddr_in name = {0}, peer = {0};
	socklen_t length = sizeof(name);

	pair_check(&pairs[2]);
	getsockname(pairs[2].client, (struct sockaddr *)&name, &length);
	getpeername(pairs[2].client, (struct sockaddr *)&peer, &length);
	WANT(name.sin_addr.s_addr == own_address() && peer.sin_addr.s_addr == own_address(), "its address is %s", text_of(pairs[2].client));
}

/* A connection of which one direction has ended, with data before the end. */
static struct pair half = {.name = "half-closed", .word = "127.0.0.1", .port = 9210};

static void half_begin(void)
{
	half.client = dialled(SOCK_STREAM, half.word, half.port, 0);
	half.server = must(accept4(half.listener, NULL, NULL, SOCK_CLOEXEC), "accept");
	half.sent[0] = half.got[0] = half.sent[1] = half.got[1] = 0;
	send_until_full(&half, 1);
	write_all(half.client, "end", 3);
	must(shutdown(half.client, SHUT_WR), "shutdown");
}

static void half_setup(void)
{
	half.listener = listening(half.word, half.port);
	half_begin();
}

static void half_check(void)
{
	char text[8] = "";

	WANT(read_some(half.server, text, 3) == 0 && strcmp(text, "end") == 0, "before the end came %s", text);
	WANT(read(half.server, text, 1) == 0, "the direction that has ended does not end");
	receive_all(&half, 1);
	send_until_full(&half, 1);
	receive_all(&half, 1);
	close(half.client);
	close(half.server);
	half_begin();
	detail("one direction has ended, the other goes on");
}

/* Options of a connection and of a listener. */
static struct pair with_options = {.name = "with options", .word = "127.0.0.1", .port = 9220};
static const struct option {
	const char *name;
	int level, number, value;
} options[] = {
	{"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1}, {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 77}, {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 11},
	{"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 5}, {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1}, {"IP_TOS", IPPROTO_IP, IP_TOS, 0x10},
	{"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 2}, {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1}, {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, 3},
	{"IP_TTL", IPPROTO_IP, IP_TTL, 33}, {"SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, 1}, {0},
};
static const struct option rare_options[] = {
	{"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 54321}, {"TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, 4},
	{"SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, 1}, {"SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, 1}, {0},
};

static int value_of(int fd, const struct option *o)
{
	int value = -1;
	socklen_t length = sizeof(value);

	getsockopt(fd, o->level, o->number, &value, &length);
	return value;
}

static void options_setup(void)
{
	struct linger linger = {1, 7};

	pair_setup(&with_options);
	receive_all(&with_options, 0);
	receive_all(&with_options, 1);
	for (const struct option *o = options; o->name; o++)
		must(setsockopt(with_options.client, o->level, o->number, &o->value, sizeof(int)), o->name);
	must(setsockopt(with_options.client, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), "SO_LINGER");
	must(setsockopt(with_options.client, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){5, 0}, sizeof(struct timeval)), "SO_RCVTIMEO");
}

static void options_check(void)
{
	struct linger linger = {0, 0};
	struct timeval patience = {0, 0};
	socklen_t length = sizeof(linger);
	char congestion[16] = "";

	for (const struct option *o = options; o->name; o++)
		WANT(value_of(with_options.client, o) == o->value, "%s is %d, not %d", o->name, value_of(with_options.client, o), o->value);
	getsockopt(with_options.client, SOL_SOCKET, SO_LINGER, &linger, &length);
	WANT(linger.l_onoff == 1 && linger.l_linger == 7, "SO_LINGER is %d, %d s", linger.l_onoff, linger.l_linger);
	length = sizeof(patience);
	getsockopt(with_options.client, SOL_SOCKET, SO_RCVTIMEO, &patience, &length);
	WANT(patience.tv_sec == 5, "SO_RCVTIMEO is %ld s", patience.tv_sec);
	length = sizeof(congestion);
	getsockopt(with_options.client, IPPROTO_TCP, TCP_CONGESTION, congestion, &length);
	detail("keep-alive, no delay, linger, buffers, time-outs, %s", congestion);
}

static void rare_setup(void)
{
	with_options.port = 9221;
	pair_setup(&with_options);
	for (const struct option *o = rare_options; o->name; o++)
		must(setsockopt(with_options.client, o->level, o->number, &o->value, sizeof(int)), o->name);
	must(setsockopt(with_options.listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){3}, sizeof(int)), "TCP_DEFER_ACCEPT");
}

static void rare_check(void)
{
	for (const struct option *o = rare_options; o->name; o++)
		WANT(value_of(with_options.client, o) == o->value, "%s is %d, not %d", o->name, value_of(with_options.client, o), o->value);
	WANT(value_of(with_options.listener, &(struct option){"", IPPROTO_TCP, TCP_DEFER_ACCEPT, 0}) > 0, "TCP_DEFER_ACCEPT is lost");
}

/* A connection to the outside, which somebody reads: after a restore he gets an error at once, and can connect again. */
static int outside = -1;
static atomic_int outside_ended, outside_error;
static pthread_t outside_reader;

static void *read_outside(void *unused)
{
	char data[4096];
	ssize_t n;

	while ((n = read(outside, data, sizeof(data))) > 0)
		;
	outside_error = n == 0 ? 0 : errno;
	outside_ended = 1;
	return unused;
}

static void outside_begin(void)
{
	const char *host = getenv("FIDELITY_PEER"), *port = getenv("FIDELITY_PEER_PORT");

	if (!host)
		host = getenv("KUBERNETES_SERVICE_HOST");
	if (!host)
		unable("neither FIDELITY_PEER nor KUBERNETES_SERVICE_HOST is set");
	outside_ended = 0;
	outside = dialled(SOCK_STREAM, host, port ? atoi(port) : 443, 0);
	must_zero(pthread_create(&outside_reader, NULL, read_outside, NULL), "pthread_create");
}

static void outside_check(void)
{
	if (was_restored) {
		WANT(EVENTUALLY(outside_ended, 1000), "who reads hangs");
		WANT(send(outside, "x", 1, MSG_NOSIGNAL) == -1, "who writes is not told");
		detail("the reader was told: %s", strerror(outside_error));
	}
	shutdown(outside, SHUT_RDWR);
	if (was_restored && !outside_ended)
		return;
	if (EVENTUALLY(outside_ended, 1000))
		pthread_join(outside_reader, NULL);
	close(outside);
	outside_begin();
}

const struct feature tcp_features[] = {
	{"tcp-loopback", loopback_setup, loopback_check, 0}, {"tcp-own-address", own_setup, own_check, 0}, {"tcp-half-closed", half_setup, half_check, 0},
	{"tcp-options", options_setup, options_check, 0}, {"tcp-rare-options", rare_setup, rare_check, 1},
	{"tcp-outside", outside_begin, outside_check, 0}, {0},
};
