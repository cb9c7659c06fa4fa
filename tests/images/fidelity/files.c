/* Open files: position, flags, and names that have changed since. */
#include "fidelity.h"

#include <dirent.h>
#include <sys/stat.h>

enum { SIZE = 100000 };

/* made makes a file with a pattern and returns it open, at the offset 1234. */
static int made(const char *path, int flags)
{
	static uint8_t content[SIZE];
	int fd = must(open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC | flags, 0640), path);

	fill(content, SIZE, 1);
	write_all(fd, content, SIZE);
	must(lseek(fd, 1234, SEEK_SET), "lseek");
	return fd;
}

/* right tells whether a file made so is what it was, and leaves it so. */
static void right(const char *name, int fd)
{
	static uint8_t content[SIZE];
	off_t offset = lseek(fd, 0, SEEK_CUR);

	WANT(offset == 1234, "the offset of the %s is %ld", name, (long)offset);
	WANT(pread(fd, content, SIZE, 0) == SIZE && filled(content, SIZE, 1), "the content of the %s is another", name);
}

static int plain, appending, shared_offset, read_only, asynchronous;
static struct helper sharing;

static void offset_of(char question, char *answer)
{
	(void)question;
	snprintf(answer, ANSWER, "%ld", (long)lseek(shared_offset, 0, SEEK_CUR));
}

static void open_setup(void)
{
	plain = made(file_path("plain"), 0);
	appending = made(file_path("appending"), O_APPEND);
	shared_offset = made(file_path("shared"), 0);
	read_only = must(open(file_path("plain"), O_RDONLY), "open");
	asynchronous = made(file_path("asynchronous"), O_NONBLOCK | O_NOATIME | O_SYNC);
	must(fcntl(asynchronous, F_SETOWN, getpid()), "F_SETOWN");
	must(fcntl(asynchronous, F_SETSIG, SIGRTMIN + 7), "F_SETSIG");
	sharing = helper_start(NULL, offset_of);
}

static void open_check(void)
{
	struct stat before, after;
	long offset = 2000 + rounds;

	right("plain file", plain);
	right("shared file", shared_offset);
	right("asynchronous file", asynchronous);
	fstat(appending, &before);
	write_all(appending, "!", 1);
	fstat(appending, &after);
	WANT(after.st_size == before.st_size + 1, "O_APPEND is lost");
	WANT(fcntl(plain, F_GETFD) == FD_CLOEXEC && fcntl(read_only, F_GETFD) == 0, "close-on-exec is another");
	WANT((fcntl(read_only, F_GETFL) & O_ACCMODE) == O_RDONLY && write(read_only, "", 1) == -1, "a file to read can be written");
	WANT((fcntl(asynchronous, F_GETFL) & (O_NONBLOCK | O_NOATIME | O_SYNC)) == (O_NONBLOCK | O_NOATIME | O_SYNC), "the flags are %#x", fcntl(asynchronous, F_GETFL));
	WANT(fcntl(asynchronous, F_GETOWN) == getpid() && fcntl(asynchronous, F_GETSIG) == SIGRTMIN + 7, "the owner is %d", fcntl(asynchronous, F_GETOWN));
	lseek(shared_offset, offset, SEEK_SET);
	WANT(atol(helper_ask(&sharing, 'o')) == offset, "the offset is not shared any more");
	lseek(shared_offset, 1234, SEEK_SET);
	detail("offsets, flags, owner");
}

/* Files whose names are not what they were when they were opened. */
static int deleted, big_deleted, unnamed, renamed, replaced, linked, in_gone_folder, gone_folder;

static void names_setup(void)
{
	static uint8_t block[1 << 20];

	deleted = made(file_path("deleted"), 0);
	must(unlink(file_path("deleted")), "unlink");
	big_deleted = must(open(file_path("big"), O_CREAT | O_RDWR, 0600), "open");
	fill(block, sizeof(block), 9);
	for (int i = 0; i < 8; i++)
		write_all(big_deleted, block, sizeof(block));
	must(unlink(file_path("big")), "unlink");
	renamed = made(file_path("before"), 0);
	must(rename(file_path("before"), file_path("after")), "rename");
	replaced = made(file_path("replaced"), 0);
	must(unlink(file_path("replaced")), "unlink");
	close(must(open(file_path("replaced"), O_CREAT | O_WRONLY, 0600), "open"));
}

static void names_check(void)
{
	static uint8_t block[1 << 20];
	struct stat status;

	right("deleted file", deleted);
	WANT(fstat(deleted, &status) == 0 && status.st_nlink == 0, "the deleted file has %d names", (int)status.st_nlink);
	for (int i = 0; i < 8; i++)
		WANT(pread(big_deleted, block, sizeof(block), (off_t)i << 20) == sizeof(block) && filled(block, sizeof(block), 9), "block %d of the big deleted file is another", i);
	right("renamed file", renamed);
	WANT(access(file_path("after"), F_OK) == 0 && access(file_path("before"), F_OK) == -1, "the renamed file has its former name");
	right("replaced file", replaced);
	WANT(stat(file_path("replaced"), &status) == 0 && status.st_size == 0, "what replaced a file is not there");
	detail("deleted, renamed, replaced");
}

static int listed(const char *part)
{
	DIR *open = opendir(folder);
	struct dirent *entry;
	int found = 0;

	while (open && (entry = readdir(open)))
		found += strstr(entry->d_name, part) != NULL;
	closedir(open);
	return found;
}

static void linked_setup(void)
{
	linked = made(file_path("first-name"), 0);
	must(link(file_path("first-name"), file_path("second-name")), "link");
	must(unlink(file_path("first-name")), "unlink");
}

static void linked_check(void)
{
	struct stat open_one, named_one;

	right("file with another name", linked);
	WANT(fstat(linked, &open_one) == 0 && stat(file_path("second-name"), &named_one) == 0 && open_one.st_ino == named_one.st_ino,
		"the open file and its second name are not the same any more");
	WANT(listed("link_remap") == 0, "files of the capture lie about");
	detail("%d names", (int)open_one.st_nlink);
}

static void unnamed_setup(void)
{
	static uint8_t content[SIZE];

	unnamed = must(open(folder, O_TMPFILE | O_RDWR, 0600), "O_TMPFILE");
	fill(content, SIZE, 1);
	write_all(unnamed, content, SIZE);
	must(lseek(unnamed, 1234, SEEK_SET), "lseek");
}

static void unnamed_check(void)
{
	right("file that never had a name", unnamed);
}

/* gone makes a folder, and removes it while it, or a file in it, is open. */
static void gone(const char *name, int open_folder, int open_file)
{
	char file[64];

	snprintf(file, sizeof(file), "%s/file", name);
	must(mkdir(file_path(name), 0700), "mkdir");
	if (open_folder)
		gone_folder = must(open(file_path(name), O_DIRECTORY | O_RDONLY), "open");
	if (open_file) {
		in_gone_folder = made(file_path(file), 0);
		must(unlink(file_path(file)), "unlink");
	}
	must(rmdir(file_path(name)), "rmdir");
}

static void gone_folder_setup(void)
{
	gone("gone", 1, 0);
}

static void gone_folder_check(void)
{
	struct stat status;

	WANT(fstat(gone_folder, &status) == 0 && S_ISDIR(status.st_mode), "the deleted folder is no folder");
	WANT(access(file_path("gone"), F_OK) == -1, "the deleted folder has a name again");
	detail("a deleted folder");
}

static void gone_file_setup(void)
{
	gone("emptied", 0, 1);
}

static void gone_file_check(void)
{
	right("file in a deleted folder", in_gone_folder);
	WANT(access(file_path("emptied"), F_OK) == -1, "the deleted folder has a name again");
	detail("a file in a deleted folder");
}

static void gone_both_setup(void)
{
	gone("both", 1, 1);
}

static void gone_both_check(void)
{
	right("file in a deleted folder", in_gone_folder);
}

/* Working folders: one that is there, and one that is not any more. */
static void folder_of(char question, char *answer)
{
	mode_t mask = umask(0);

	(void)question;
	umask(mask);
	strcpy(answer, "nowhere");
	if (!getcwd(answer, ANSWER / 2))
		snprintf(answer, ANSWER, "%s", strerror(errno));
	snprintf(answer + strlen(answer), ANSWER / 2, ", umask %#o", mask);
}

static struct helper stands_in;
static char stands_words[ANSWER];

static void go_into_folder(void)
{
	umask(0127);
	must(mkdir(file_path("working"), 0700), "mkdir");
	must(chdir(file_path("working")), "chdir");
}

static void go_into_gone_folder(void)
{
	must(mkdir(file_path("left"), 0700), "mkdir");
	must(chdir(file_path("left")), "chdir");
	must(rmdir(file_path("left")), "rmdir");
}

static void working_setup(void)
{
	stands_in = helper_start(go_into_folder, folder_of);
	strcpy(stands_words, helper_ask(&stands_in, 'w'));
}

static void gone_working_setup(void)
{
	stands_in = helper_start(go_into_gone_folder, folder_of);
	strcpy(stands_words, helper_ask(&stands_in, 'w'));
}

static void working_check(void)
{
	const char *words = helper_ask(&stands_in, 'w');

	WANT(strcmp(words, stands_words) == 0, "it was in %s; it is in %s", stands_words, words);
	detail("%s", words);
}

const struct feature file_features[] = {
	{"open-files", open_setup, open_check, 0}, {"changed-names", names_setup, names_check, 0}, {"second-name", linked_setup, linked_check, 0},
	{"unnamed-file", unnamed_setup, unnamed_check, 0}, {"deleted-folder", gone_folder_setup, gone_folder_check, 0},
	{"file-in-deleted-folder", gone_file_setup, gone_file_check, 0}, {"deleted-folder-and-file", gone_both_setup, gone_both_check, 1},
	{"working-folder", working_setup, working_check, 0}, {"deleted-working-folder", gone_working_setup, working_check, 0}, {0},
};
