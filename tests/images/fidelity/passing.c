/* What comes along with a message over a Unix socket. */
#include "fidelity.h"

#include <sys/socket.h>

/* A descriptor that was sent and not received yet. */
static int carrier[2];

static void carry(int round)
{
	int ends[2];
	char control[CMSG_SPACE(sizeof(int))] = "", byte = 'f', content = 'a' + round % 26;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	must(pipe2(ends, O_CLOEXEC), "pipe");
	write_all(ends[1], &content, 1);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &ends[0], sizeof(int));
	must(sendmsg(carrier[0], &message, 0), "sendmsg");
	close(ends[0]);
	close(ends[1]);
}

static void carried_setup(void)
{
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, carrier), "socketpair");
	carry(0);
}

static void carried_check(void)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte = 0, content = 0;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *head;
	int fd = -1;

	WANT(recvmsg(carrier[1], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) == 1 && byte == 'f', "the message is gone: %s", strerror(errno));
	head = CMSG_FIRSTHDR(&message);
	if (head && head->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(head), sizeof(int));
	WANT(fd != -1 && read(fd, &content, 1) == 1 && content == 'a' + rounds % 26, "the descriptor that came along is another");
	close(fd);
	carry(rounds + 1);
	detail("a pipe on its way");
}

/* A message that brings the sender's credentials along. */
static int credentials[2];

static void credentials_setup(void)
{
	must(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, credentials), "socketpair");
	must(setsockopt(credentials[1], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)), "SO_PASSCRED");
	write_all(credentials[0], "who", 3);
}

static void credentials_check(void)
{
	char text[8] = "";
	int on = 0;
	socklen_t length = sizeof(on);

	WANT(read_some(credentials[1], text, 3) == 0 && strcmp(text, "who") == 0, "the message is %s", text);
	getsockopt(credentials[1], SOL_SOCKET, SO_PASSCRED, &on, &length);
	WANT(on, "SO_PASSCRED is lost");
	write_all(credentials[0], "who", 3);
}

const struct feature passing_features[] = {
	{"passed-descriptors", carried_setup, carried_check, 0}, {"passed-credentials", credentials_setup, credentials_check, 1}, {0},
};
