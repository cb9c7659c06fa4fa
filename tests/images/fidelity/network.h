/* What features of the network share: addresses of the pod as it is now. */
#ifndef NETWORK_H
#define NETWORK_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* own_address returns the IPv4 address of the pod, in the order of the network. */
in_addr_t own_address(void);
/* address_of makes an IPv4 address of a word like "127.0.0.1", or of "own". */
struct sockaddr_in address_of(const char *word, int port);
/* address_of_6 makes an IPv6 address. */
struct sockaddr_in6 address_of_6(const char *word, int port);
/* bound opens a socket of that kind, with SO_REUSEADDR, and binds it; "::…" is IPv6. listening listens, too. */
int bound(int kind, const char *word, int port);
int listening(const char *word, int port);
/* dialled opens a connected socket; it ends the feature when it cannot, and returns -1 if `may_fail`. */
int dialled(int kind, const char *word, int port, int may_fail);
/* text_of is how the address of this end of a socket is written. */
const char *text_of(int fd);

#endif
