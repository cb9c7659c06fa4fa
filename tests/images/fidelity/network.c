#include "fidelity.h"

#include "network.h"

#include <ifaddrs.h>
#include <net/if.h>

in_addr_t own_address(void)
{
	struct ifaddrs *all, *one;
	in_addr_t found = 0;

	must(getifaddrs(&all), "getifaddrs");
	for (one = all; one; one = one->ifa_next)
		if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET && !(one->ifa_flags & IFF_LOOPBACK))
			found = ((struct sockaddr_in *)one->ifa_addr)->sin_addr.s_addr;
	freeifaddrs(all);
	if (!found)
		unable("there is no address but that of loopback");
	return found;
}

struct sockaddr_in address_of(const char *word, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (strcmp(word, "own") == 0)
		address.sin_addr.s_addr = own_address();
	else
		inet_pton(AF_INET, word, &address.sin_addr);
	return address;
}

struct sockaddr_in6 address_of_6(const char *word, int port)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	inet_pton(AF_INET6, word, &address.sin6_addr);
	return address;
}

int bound(int kind, const char *word, int port)
{
	int six = word[0] == ':', on = 1, fd = must(socket(six ? AF_INET6 : AF_INET, kind | SOCK_CLOEXEC, 0), "socket");
	struct sockaddr_in address = address_of(word, port);
	struct sockaddr_in6 address_6 = address_of_6(word, port);

	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "SO_REUSEADDR");
	if (six) {
		must(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)), "IPV6_V6ONLY");
		must(bind(fd, (struct sockaddr *)&address_6, sizeof(address_6)), "bind");
	} else {
		must(bind(fd, (struct sockaddr *)&address, sizeof(address)), "bind");
	}
	return fd;
}

int listening(const char *word, int port)
{
	int fd = bound(SOCK_STREAM, word, port);

	must(listen(fd, 17), "listen");
	return fd;
}

int dialled(int kind, const char *word, int port, int may_fail)
{
	int six = word[0] == ':', fd = must(socket(six ? AF_INET6 : AF_INET, kind | SOCK_CLOEXEC, 0), "socket"), failed;
	struct sockaddr_in address = address_of(word, port);
	struct sockaddr_in6 address_6 = address_of_6(word, port);
	struct timeval patience = {2, 0}, none = {0, 0};

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	failed = six ? connect(fd, (struct sockaddr *)&address_6, sizeof(address_6)) : connect(fd, (struct sockaddr *)&address, sizeof(address));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	if (failed && !may_fail)
		unable("connect to %s, port %d: %s", word, port, strerror(errno));
	if (failed) {
		close(fd);
		return -1;
	}
	return fd;
}

const char *text_of(int fd)
{
	static char text[80];
	struct sockaddr_in6 address = {0};
	socklen_t length = sizeof(address);
	char words[64] = "?";

	getsockname(fd, (struct sockaddr *)&address, &length);
	if (address.sin6_family == AF_INET6)
		inet_ntop(AF_INET6, &address.sin6_addr, words, sizeof(words));
	else if (address.sin6_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, words, sizeof(words));
	snprintf(text, sizeof(text), "%s port %d", words, ntohs(address.sin6_port));
	return text;
}
