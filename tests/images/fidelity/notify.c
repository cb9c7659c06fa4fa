/* Watches of files and folders. */
#include "fidelity.h"

#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/stat.h>

static int inotify, file_watch, folder_watch;

static void inotify_setup(void)
{
	inotify = must(inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "inotify_init");
	must(mkdir(file_path("watched"), 0700), "mkdir");
	close(must(open(file_path("watched-file"), O_CREAT | O_WRONLY, 0600), "open"));
	inotify_rm_watch(inotify, must(inotify_add_watch(inotify, folder, IN_CREATE), "inotify_add_watch")); /* a number that is not used any more */
	file_watch = must(inotify_add_watch(inotify, file_path("watched-file"), IN_MODIFY), "inotify_add_watch");
	folder_watch = must(inotify_add_watch(inotify, file_path("watched"), IN_CREATE | IN_DELETE | IN_MOVED_TO), "inotify_add_watch");
}

/* told returns the next event that is not of the removed watch, or nothing. */
static struct inotify_event *told(void)
{
	static char buffer[4096] __attribute__((aligned(8)));
	struct inotify_event *event = (void *)buffer;

	for (int i = 0; i < 3; i++) {
		memset(buffer, 0, sizeof(buffer));
		if (EVENTUALLY(read(inotify, buffer, sizeof(struct inotify_event) + 32) > 0 || errno == EINVAL, 1000) && !(event->mask & IN_IGNORED))
			return event;
	}
	return event;
}

static void inotify_check(void)
{
	struct inotify_event *event;
	int fd = open(file_path("watched-file"), O_WRONLY);

	if (rounds == 0)
		must(read(inotify, &(char[256]){0}, 16), "read"); /* of the watch that was removed */
	WANT(write(fd, "x", 1) == 1, "write: %s", strerror(errno));
	close(fd);
	event = told();
	WANT(event->wd == file_watch && event->mask == IN_MODIFY, "of the file it tells %#x of watch %d, not %d", event->mask, event->wd, file_watch);
	close(open(file_path("watched/new"), O_CREAT | O_WRONLY, 0600));
	event = told();
	WANT(event->wd == folder_watch && event->mask == IN_CREATE && strcmp(event->name, "new") == 0, "of the folder it tells %#x of %s", event->mask, event->name);
	unlink(file_path("watched/new"));
	event = told();
	WANT(event->wd == folder_watch && event->mask == IN_DELETE, "of the folder it tells %#x", event->mask);
	detail("file and folder");
}

/* Events that nobody has read. */
static void unread_setup(void)
{
	inotify = must(inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "inotify_init");
	must(mkdir(file_path("watched-unread"), 0700), "mkdir");
	folder_watch = must(inotify_add_watch(inotify, file_path("watched-unread"), IN_CREATE | IN_DELETE), "inotify_add_watch");
	close(open(file_path("watched-unread/unread"), O_CREAT | O_WRONLY, 0600));
}

static void unread_check(void)
{
	struct inotify_event *event = told();

	WANT(event->mask == IN_CREATE || event->mask == IN_DELETE, "the event that nobody has read is gone");
	if (access(file_path("watched-unread/unread"), F_OK) == 0)
		unlink(file_path("watched-unread/unread"));
	else
		close(open(file_path("watched-unread/unread"), O_CREAT | O_WRONLY, 0600));
	detail("an event waits");
}

/* fanotify needs CAP_SYS_ADMIN. */
static int fanotify;

static void fanotify_setup(void)
{
	fanotify = must(fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY), "fanotify_init");
	close(must(open(file_path("fanotify"), O_CREAT | O_WRONLY, 0600), "open"));
	must(fanotify_mark(fanotify, FAN_MARK_ADD, FAN_MODIFY | FAN_CLOSE_WRITE, AT_FDCWD, file_path("fanotify")), "fanotify_mark");
}

static void fanotify_check(void)
{
	struct fanotify_event_metadata event = {.fd = -1};
	int fd = open(file_path("fanotify"), O_WRONLY);

	WANT(write(fd, "x", 1) == 1, "write: %s", strerror(errno));
	close(fd);
	WANT(EVENTUALLY(read(fanotify, &event, sizeof(event)) == sizeof(event), 1000) && event.mask & FAN_MODIFY, "it tells of nothing");
	if (event.fd != -1)
		close(event.fd);
}

const struct feature notify_features[] = {
	{"inotify", inotify_setup, inotify_check, 0}, {"inotify-unread", unread_setup, unread_check, 1}, {"fanotify", fanotify_setup, fanotify_check, 1}, {0},
};
