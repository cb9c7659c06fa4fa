/* Sockets that wait on the network: TCP listeners, UDP, raw ones. */
#include "fidelity.h"

#include "network.h"

#include <linux/if_ether.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/ip_icmp.h>
#include <poll.h>

/* Each listener is dialled at an address that reaches it. */
static struct listener {
	const char *at, *reached;
	int port, fd;
} listeners[] = {
	{"0.0.0.0", "own", 9001, 0}, {"::", "::1", 9002, 0}, {"own", "own", 9003, 0}, {"127.0.0.1", "127.0.0.1", 9004, 0}, {"::1", "::1", 9005, 0},
};
enum { LISTENERS = 5 };

static void listeners_setup(void)
{
	for (int i = 0; i < LISTENERS; i++)
		listeners[i].fd = listening(listeners[i].at, listeners[i].port);
}

static void listeners_check(void)
{
	for (int i = 0; i < LISTENERS; i++) {
		struct listener *l = &listeners[i];
		int client = dialled(SOCK_STREAM, l->reached, l->port, 1), server;
		char byte = 0;

		if (client == -1) {
			broken("nobody listens on %s: %s", l->at, strerror(errno));
			continue;
		}
		server = accept(l->fd, NULL, NULL);
		WANT(write(client, "x", 1) == 1 && read_some(server, &byte, 1) == 0, "a connection to %s brings nothing", l->at);
		close(client);
		close(server);
	}
	detail("IPv4, IPv6, own address, loopback; own is %s", text_of(listeners[2].fd));
}

/* A listener with a connection that nobody has accepted: the one who dialled must not hang. */
static int crowded, waiting;

static void crowded_setup(void)
{
	crowded = listening("127.0.0.1", 9010);
	waiting = dialled(SOCK_STREAM, "127.0.0.1", 9010, 0);
	write_all(waiting, "waiting", 7);
}

static void crowded_check(void)
{
	struct pollfd readable = {.fd = crowded, .events = POLLIN}, end = {.fd = waiting, .events = POLLIN};
	char text[8] = "";

	if (poll(&readable, 1, 0) == 1) {
		int server = accept(crowded, NULL, NULL);

		WANT(read_some(server, text, 7) == 0 && strcmp(text, "waiting") == 0, "the one who waited sent %s", text);
		close(server);
		detail("it still waited");
	} else {
		WANT(send(waiting, "x", 1, MSG_NOSIGNAL) == -1 || poll(&end, 1, 1000) == 1, "the one who waited hangs");
		detail("it was reset");
	}
	close(waiting);
	waiting = dialled(SOCK_STREAM, "127.0.0.1", 9010, 1);
	WANT(waiting != -1, "nobody listens any more");
	if (waiting != -1)
		write_all(waiting, "waiting", 7);
}

/* UDP sockets, of which some have a peer. */
static int any, own, any_6, to_own, to_outside;

static void udp_setup(void)
{
	any = bound(SOCK_DGRAM, "0.0.0.0", 9101);
	own = bound(SOCK_DGRAM, "own", 9102);
	any_6 = bound(SOCK_DGRAM, "::", 9103);
	to_own = dialled(SOCK_DGRAM, "own", 9102, 0);
	to_outside = dialled(SOCK_DGRAM, getenv("KUBERNETES_SERVICE_HOST") ? getenv("KUBERNETES_SERVICE_HOST") : "own", 9999, 0);
}

/* heard sends a datagram to a socket and takes it. */
static void heard(const char *name, int from, const char *word, int port, int fd)
{
	struct sockaddr_in address = address_of(word, port);
	struct sockaddr_in6 address_6 = address_of_6(word, port);
	char byte = 0;

	if (word[0] == ':')
		sendto(from, "d", 1, 0, (struct sockaddr *)&address_6, sizeof(address_6));
	else
		sendto(from, "d", 1, 0, (struct sockaddr *)&address, sizeof(address));
	WANT(read_some(fd, &byte, 1) == 0 && byte == 'd', "the UDP socket on %s hears nothing", name);
}

static void udp_check(void)
{
	struct sockaddr_in name = {0};
	socklen_t length = sizeof(name);
	char byte = 0;

	heard("0.0.0.0", any, "own", 9101, any);
	heard("the own address", any, "own", 9102, own);
	heard("::", any_6, "::1", 9103, any_6);
	WANT(write(to_own, "c", 1) == 1 && read_some(own, &byte, 1) == 0 && byte == 'c', "the UDP socket with a peer in the pod is mute: %s", strerror(errno));
	getsockname(to_own, (struct sockaddr *)&name, &length);
	WANT(name.sin_addr.s_addr == own_address(), "the UDP socket with a peer in the pod has the address %s", text_of(to_own));
	getsockname(to_outside, (struct sockaddr *)&name, &length);
	WANT(name.sin_addr.s_addr == own_address(), "the UDP socket with a peer outside has the address %s", text_of(to_outside));
	detail("any, own, IPv6, with peers");
}

/* Sockets for which a capability is needed, or that are not for data. */
static int raw, packets, route, ping;

static uint16_t sum(const void *data, size_t size)
{
	const uint16_t *words = data;
	uint32_t total = 0;

	for (size_t i = 0; i < size / 2; i++)
		total += words[i];
	total = (total >> 16) + (total & 0xffff);
	return ~(total + (total >> 16));
}

static void echo(const char *name, int fd)
{
	struct icmphdr request = {.type = ICMP_ECHO, .un.echo.id = 77};
	struct sockaddr_in address = address_of("127.0.0.1", 0);
	char answer[128];

	request.checksum = sum(&request, sizeof(request));
	WANT(sendto(fd, &request, sizeof(request), 0, (struct sockaddr *)&address, sizeof(address)) == sizeof(request), "send by the %s: %s", name, strerror(errno));
	WANT(EVENTUALLY(recv(fd, answer, sizeof(answer), MSG_DONTWAIT) > 0, 1000), "the %s hears nothing", name);
	while (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) > 0)
		;
}

static void raw_setup(void)
{
	raw = must(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP), "raw socket");
}

static void raw_check(void)
{
	echo("raw socket", raw);
}

static void ping_setup(void)
{
	ping = must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP), "ping socket");
}

static void ping_check(void)
{
	echo("ping socket", ping);
}

static void packets_setup(void)
{
	packets = must(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)), "packet socket");
}

static void packets_check(void)
{
	char packet[2048];
	int udp = bound(SOCK_DGRAM, "127.0.0.1", 9150);

	while (recv(packets, packet, sizeof(packet), MSG_DONTWAIT) > 0)
		;
	heard("127.0.0.1", udp, "127.0.0.1", 9150, udp);
	WANT(EVENTUALLY(recv(packets, packet, sizeof(packet), MSG_DONTWAIT) > 0, 1000), "it hears nothing");
	close(udp);
}

static void route_setup(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR};

	route = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "netlink");
	must(bind(route, (struct sockaddr *)&address, sizeof(address)), "bind");
}

static void route_check(void)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg body;
	} request = {{.nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = rounds}, {.ifi_index = 1}};
	struct sockaddr_nl address = {0};
	socklen_t length = sizeof(address);
	char answer[8192];

	WANT(send(route, &request, sizeof(request), 0) == sizeof(request), "send: %s", strerror(errno));
	WANT(EVENTUALLY(recv(route, answer, sizeof(answer), MSG_DONTWAIT) > 0, 1000), "it answers nothing");
	getsockname(route, (struct sockaddr *)&address, &length);
	WANT(address.nl_groups == RTMGRP_IPV4_IFADDR, "its groups are %#x", address.nl_groups);
}

const struct feature inet_features[] = {
	{"listeners", listeners_setup, listeners_check, 0}, {"unaccepted-tcp", crowded_setup, crowded_check, 0}, {"udp", udp_setup, udp_check, 0},
	{"raw-socket", raw_setup, raw_check, 0}, {"ping-socket", ping_setup, ping_check, 1}, {"packet-socket", packets_setup, packets_check, 0},
	{"netlink", route_setup, route_check, 0}, {0},
};
