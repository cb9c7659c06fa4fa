// A server of one request at a time.
#include "threads.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void answer(int connection) {
	char request[4096], text[1024], head[256];
	if (read(connection, request, sizeof request) <= 0)
		return;
	int broken = check(text, sizeof text);
	int length = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", broken ? "500 Broken" : "200 OK", strlen(text));
	if (write(connection, head, length) < 0 || write(connection, text, strlen(text)) < 0)
		perror("answer");
}

void serve(int port) {
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0) {
		perror("listen");
		exit(1);
	}
	for (;;) {
		int connection = accept(listener, NULL, NULL);
		if (connection < 0)
			continue;
		answer(connection);
		close(connection);
	}
}

int main(void) {
	begin();
	serve(8080);
}
