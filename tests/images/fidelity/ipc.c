/* System V and POSIX shared memory, semaphores and queues. */
#include "fidelity.h"

#include <mqueue.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

enum { SIZE = 1 << 20, KEY = 0x46494445 };

static int attached, kept, removed;
static uint8_t *attached_at, *read_only_at;

static void segments_setup(void)
{
	uint8_t *at;

	attached = must(shmget(KEY, SIZE, IPC_CREAT | IPC_EXCL | 0640), "shmget");
	attached_at = shmat(attached, NULL, 0);
	read_only_at = shmat(attached, NULL, SHM_RDONLY);
	fill(attached_at, SIZE, 1);
	kept = must(shmget(KEY + 1, SIZE, IPC_CREAT | IPC_EXCL | 0600), "shmget"); /* which nobody is attached to */
	at = shmat(kept, NULL, 0);
	fill(at, SIZE, 2);
	shmdt(at);
}

static void segments_check(void)
{
	struct shmid_ds status;
	uint8_t *at;

	WANT(shmget(KEY, 0, 0) == attached && shmget(KEY + 1, 0, 0) == kept, "the numbers are %d and %d, not %d and %d", shmget(KEY, 0, 0), shmget(KEY + 1, 0, 0), attached, kept);
	WANT(filled(attached_at, SIZE, rounds + 1), "the content is another");
	WANT(memcmp(attached_at, read_only_at, SIZE) == 0, "the read-only view is another");
	fill(attached_at, SIZE, rounds + 2);
	WANT(memcmp(attached_at, read_only_at, SIZE) == 0, "the read-only view is not the same any more");
	WANT(shmctl(attached, IPC_STAT, &status) == 0 && (status.shm_perm.mode & 0777) == 0640 && status.shm_nattch == 2,
		"the mode is %#o, %ld are attached", status.shm_perm.mode, (long)status.shm_nattch);
	at = shmat(kept, NULL, 0);
	WANT(at != (void *)-1 && filled(at, SIZE, 2), "the content of the one that nobody is attached to is another");
	shmdt(at);
	detail("attached, kept");
}

/* A segment that was removed goes with the last one that is attached to it. */
static void removed_setup(void)
{
	removed = must(shmget(IPC_PRIVATE, SIZE, 0600), "shmget");
	attached_at = shmat(removed, NULL, 0);
	must(shmctl(removed, IPC_RMID, NULL), "IPC_RMID");
	fill(attached_at, SIZE, 3);
}

static void removed_check(void)
{
	struct shmid_ds status = {0};

	WANT(filled(attached_at, SIZE, 3), "the content is another");
	WANT(shmctl(removed, IPC_STAT, &status) == 0 && status.shm_perm.mode & SHM_DEST, "it is not removed any more, its mode is %#o", status.shm_perm.mode);
	detail("removed and attached");
}

static int semaphores;

static void semaphores_setup(void)
{
	unsigned short values[] = {3, 0, 99};

	semaphores = must(semget(KEY, 3, IPC_CREAT | IPC_EXCL | 0600), "semget");
	must(semctl(semaphores, 0, SETALL, values), "SETALL");
}

static void semaphores_check(void)
{
	unsigned short values[3] = {0};

	WANT(semget(KEY, 0, 0) == semaphores, "the number is %d, not %d", semget(KEY, 0, 0), semaphores);
	WANT(semctl(semaphores, 0, GETALL, values) == 0 && values[0] == 3 && values[1] == rounds && values[2] == 99, "the values are %d %d %d", values[0], values[1], values[2]);
	must(semop(semaphores, &(struct sembuf){1, 1, 0}, 1), "semop");
	detail("values");
}

/* What a process took with SEM_UNDO is given back at its end. */
static void undo_setup(void)
{
	semaphores = must(semget(KEY + 5, 1, IPC_CREAT | IPC_EXCL | 0600), "semget");
	must(semctl(semaphores, 0, SETVAL, 5), "SETVAL");
	must(semop(semaphores, &(struct sembuf){0, -2, SEM_UNDO}, 1), "semop");
}

static void undo_check(void)
{
	WANT(semctl(semaphores, 0, GETVAL) == 3, "the value is %d, not 3", semctl(semaphores, 0, GETVAL));
}

static int queue;
struct message {
	long type;
	char text[200];
};

static void queue_send(int round)
{
	for (int i = 1; i <= 5; i++) {
		struct message m = {.type = i};

		fill(m.text, sizeof(m.text), round * 10 + i);
		must(msgsnd(queue, &m, 40 * i, IPC_NOWAIT), "msgsnd");
	}
}

static void queue_setup(void)
{
	queue = must(msgget(KEY, IPC_CREAT | IPC_EXCL | 0600), "msgget");
	queue_send(0);
}

static void queue_check(void)
{
	struct message m;

	WANT(msgget(KEY, 0) == queue, "the number is %d, not %d", msgget(KEY, 0), queue);
	for (int i = 5; i >= 1; i--) {
		ssize_t n = msgrcv(queue, &m, sizeof(m.text), i, IPC_NOWAIT);

		WANT(n == 40 * i && filled(m.text, n, rounds * 10 + i), "message %d has %zd bytes", i, n);
	}
	queue_send(rounds + 1);
	detail("5 messages");
}

static uint8_t *posix;
static int posix_fd;

static void posix_setup(void)
{
	posix_fd = must(shm_open("/fidelity", O_CREAT | O_EXCL | O_RDWR, 0600), "shm_open");
	must(ftruncate(posix_fd, SIZE), "ftruncate");
	posix = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, posix_fd, 0);
	fill(posix, SIZE, 1);
}

static void posix_check(void)
{
	int again = shm_open("/fidelity", O_RDWR, 0);
	uint8_t byte = 0;

	WANT(again != -1, "shm_open: %s", strerror(errno));
	WANT(filled(posix, SIZE, rounds + 1), "the content is another");
	fill(posix, SIZE, rounds + 2);
	WANT(pread(again, &byte, 1, 1000) == 1 && byte == posix[1000], "the name belongs to another one");
	close(again);
	detail("mapped and by name");
}

static sem_t *by_name, *by_name_again;

static void posix_semaphore_setup(void)
{
	by_name = sem_open("/fidelity", O_CREAT | O_EXCL, 0600, 4);
	if (by_name == SEM_FAILED)
		unable("sem_open: %s", strerror(errno));
}

static void posix_semaphore_check(void)
{
	int value = 0;

	WANT(sem_getvalue(by_name, &value) == 0 && value == 4 + rounds, "the value is %d", value);
	by_name_again = sem_open("/fidelity", 0);
	if (by_name_again == SEM_FAILED) {
		broken("sem_open: %s", strerror(errno));
		return;
	}
	sem_post(by_name_again);
	WANT(sem_getvalue(by_name, &value) == 0 && value == 5 + rounds, "the name belongs to another one");
	sem_close(by_name_again);
	detail("value, by name");
}

static mqd_t posix_queue;

static void posix_queue_setup(void)
{
	struct mq_attr attributes = {.mq_maxmsg = 5, .mq_msgsize = 100};

	posix_queue = must(mq_open("/fidelity", O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attributes), "mq_open");
	must(mq_send(posix_queue, "message", 7, 3), "mq_send");
}

static void posix_queue_check(void)
{
	char text[100] = "";
	unsigned priority = 0;

	WANT(mq_receive(posix_queue, text, sizeof(text), &priority) == 7 && priority == 3 && strcmp(text, "message") == 0, "the message is gone: %s", strerror(errno));
	must(mq_send(posix_queue, "message", 7, 3), "mq_send");
}

const struct feature ipc_features[] = {
	{"sysv-memory", segments_setup, segments_check, 0}, {"sysv-removed", removed_setup, removed_check, 1},
	{"sysv-semaphores", semaphores_setup, semaphores_check, 0}, {"sysv-undo", undo_setup, undo_check, 0},
	{"sysv-queue", queue_setup, queue_check, 0}, {"posix-memory", posix_setup, posix_check, 0},
	{"posix-semaphore", posix_semaphore_setup, posix_semaphore_check, 0}, {"posix-queue", posix_queue_setup, posix_queue_check, 1}, {0},
};
