/* Pipes and named pipes with data in them. */
#include "fidelity.h"

#include <sys/stat.h>

enum { DATA = 50000 };

static int stream[2], packets[2], closing[2], fifo_read, fifo_write;
static uint8_t data[DATA];

static void fill_pipes(int round)
{
	fill(data, DATA, round);
	write_all(stream[1], data, DATA);
	write_all(fifo_write, data, 3000);
	must(pipe2(closing, O_CLOEXEC), "pipe");
	write_all(closing[1], data, 2000);
	close(closing[1]);
}

static void pipes_setup(void)
{
	must(pipe2(stream, O_CLOEXEC | O_NONBLOCK), "pipe");
	must(fcntl(stream[1], F_SETPIPE_SZ, 262144), "F_SETPIPE_SZ");
	must(mkfifo(file_path("fifo"), 0600), "mkfifo");
	fifo_read = must(open(file_path("fifo"), O_RDONLY | O_NONBLOCK), "open");
	fifo_write = must(open(file_path("fifo"), O_WRONLY), "open");
	fill_pipes(0);
}

static void pipes_check(void)
{
	WANT(read_some(stream[0], data, DATA) == 0 && filled(data, DATA, rounds), "the data of the pipe is another");
	WANT(read(stream[0], data, 1) == -1 && errno == EAGAIN, "the pipe has too much data");
	WANT(fcntl(stream[0], F_GETPIPE_SZ) == 262144, "the size of the pipe is %d", fcntl(stream[0], F_GETPIPE_SZ));
	WANT(fcntl(stream[0], F_GETFL) & O_NONBLOCK && fcntl(stream[0], F_GETFD) == FD_CLOEXEC, "the flags of the pipe are others");
	WANT(read_some(fifo_read, data, 3000) == 0 && filled(data, 3000, rounds), "the data of the named pipe is another");
	WANT(read_some(closing[0], data, 2000) == 0 && filled(data, 2000, rounds), "the data of the closed pipe is another");
	WANT(read(closing[0], data, 1) == 0, "the closed pipe does not end");
	close(closing[0]);
	fill_pipes(rounds + 1);
	detail("stream, named, closed");
}

/* A pipe that keeps the bounds of what is written. */
static void packets_setup(void)
{
	must(pipe2(packets, O_DIRECT), "pipe of packets");
	write_all(packets[1], "one", 3);
	write_all(packets[1], "other", 5);
}

static void packets_check(void)
{
	WANT(read(packets[0], data, DATA) == 3 && read(packets[0], data, DATA) == 5, "the bounds of packets are lost");
	write_all(packets[1], "one", 3);
	write_all(packets[1], "other", 5);
}

const struct feature pipe_features[] = {{"pipes", pipes_setup, pipes_check, 0}, {"packet-pipe", packets_setup, packets_check, 1}, {0}};
