/*
 * CRIU takes the IPC namespace of a container for its own and makes the System V shared memory that it dumped anew. The containers of a pod
 * share one: for the second of them the segments are there already, with the same content, as the first is held since its restore. With this
 * library before it (LD_PRELOAD), CRIU gets the segment that is there in the place of a new one. Which number it is to have, CRIU tells the kernel
 * just before, by kernel.shm_next_id.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

static const char next_id[] = "/proc/sys/kernel/shm_next_id";

/* wanted returns the number that the next segment is to have, or -1. */
static int wanted(void)
{
	char text[16] = "";
	int id = -1, file = open(next_id, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return -1;
	if (read(file, text, sizeof(text) - 1) > 0)
		id = atoi(text);
	close(file);
	return id;
}

/* forget takes that wish back, or the next segment of anybody would have the number after it. */
static void forget(void)
{
	int file = open(next_id, O_WRONLY | O_CLOEXEC);

	if (file < 0)
		return;
	if (write(file, "-1", 2) != 2)
		perror(next_id);
	close(file);
}

int shmget(key_t key, size_t size, int flags)
{
	static int (*make)(key_t, size_t, int);
	struct shmid_ds there;
	int id = flags & IPC_CREAT && flags & IPC_EXCL ? wanted() : -1;

	if (id >= 0 && shmctl(id, IPC_STAT, &there) == 0 && there.shm_segsz == size) {
		forget();
		return id;
	}
	if (!make)
		make = dlsym(RTLD_NEXT, "shmget");
	return make(key, size, flags);
}
