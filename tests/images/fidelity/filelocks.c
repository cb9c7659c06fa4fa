/* Locks on files, as another process sees them. */
#include "fidelity.h"

#include <sys/file.h>

static int whole, of_process, of_file, leased, shared_lock;
static struct helper other;

/* The other process opens the files anew, since locks that are tied to an open file would be its own. */
static void try(char question, char *answer)
{
	const char *names[] = {"flock", "posix", "ofd", "flock-shared"};
	int number = question - '0', fd = open(file_path(names[number]), O_RDWR | O_CLOEXEC);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};

	if (number == 0)
		snprintf(answer, ANSWER, "%s", flock(fd, LOCK_SH | LOCK_NB) ? "locked" : "free");
	if (number == 3)
		snprintf(answer, ANSWER, "%s %s", flock(fd, LOCK_SH | LOCK_NB) ? "locked" : "free", flock(fd, LOCK_EX | LOCK_NB) ? "locked" : "free");
	if (number == 1 || number == 2) {
		fcntl(fd, F_GETLK, &lock);
		snprintf(answer, ANSWER, "type %d, owner %d, from %ld, %ld bytes", lock.l_type, lock.l_pid == -1 ? -1 : lock.l_pid, (long)lock.l_start, (long)lock.l_len);
	}
	close(fd);
}

static char first[4][ANSWER];

static void file_locks_setup(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 8, .l_len = 100};

	whole = must(open(file_path("flock"), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open");
	of_process = must(open(file_path("posix"), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open");
	of_file = must(open(file_path("ofd"), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open");
	shared_lock = must(open(file_path("flock-shared"), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open");
	other = helper_start(NULL, try);
	must(flock(whole, LOCK_EX), "flock");
	must(flock(shared_lock, LOCK_SH), "flock");
	must(fcntl(of_process, F_SETLK, &lock), "F_SETLK");
	lock.l_type = F_RDLCK;
	must(fcntl(of_file, F_OFD_SETLK, &lock), "F_OFD_SETLK");
	for (int i = 0; i < 4; i++)
		strcpy(first[i], helper_ask(&other, '0' + i));
	if (strcmp(first[0], "locked"))
		unable("flock does not lock: %s", first[0]);
}

static void file_locks_check(void)
{
	const char *names[] = {"flock", "POSIX lock", "OFD lock", "shared flock"};

	for (int i = 0; i < 4; i++) {
		const char *now = helper_ask(&other, '0' + i);

		WANT(strcmp(now, first[i]) == 0, "%s was %s; it is %s", names[i], first[i], now);
	}
	detail("flock, POSIX, OFD, shared");
}

static void lease_setup(void)
{
	leased = must(open(file_path("leased"), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open");
	close(leased);
	leased = must(open(file_path("leased"), O_RDONLY | O_CLOEXEC), "open");
	must(fcntl(leased, F_SETLEASE, F_RDLCK), "F_SETLEASE");
}

static void lease_check(void)
{
	WANT(fcntl(leased, F_GETLEASE) == F_RDLCK, "the lease is %d", fcntl(leased, F_GETLEASE));
	detail("a lease to read");
}

const struct feature file_lock_features[] = {{"file-locks", file_locks_setup, file_locks_check, 0}, {"lease", lease_setup, lease_check, 0}, {0}};
