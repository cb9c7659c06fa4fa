/* Open files that are no ordinary ones: devices, folders, files of /proc and /sys, direct I/O. */
#include "fidelity.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int null_device, zero_device, random_device, path_only, direct, directory;
static DIR *half_read;

static void devices_setup(void)
{
	null_device = must(open("/dev/null", O_RDWR), "/dev/null");
	zero_device = must(open("/dev/zero", O_RDONLY), "/dev/zero");
	random_device = must(open("/dev/urandom", O_RDONLY), "/dev/urandom");
}

static void devices_check(void)
{
	char bytes[16] = {1};

	WANT(write(null_device, bytes, 16) == 16 && read(null_device, bytes, 16) == 0, "/dev/null is another");
	WANT(read(zero_device, bytes, 16) == 16 && bytes[0] == 0, "/dev/zero is another");
	WANT(read(random_device, bytes, 16) == 16, "/dev/urandom is another");
	detail("null, zero, urandom");
}

static void folders_setup(void)
{
	must(mkdir(file_path("folder"), 0750), "mkdir");
	for (int i = 0; i < 50; i++) {
		char name[64];

		snprintf(name, sizeof(name), "folder/file-%d", i);
		close(must(open(file_path(name), O_CREAT | O_WRONLY, 0600), "open"));
	}
	directory = must(open(file_path("folder"), O_DIRECTORY | O_RDONLY | O_CLOEXEC), "open");
	path_only = must(open(file_path("folder/file-1"), O_PATH | O_CLOEXEC), "O_PATH");
	half_read = opendir(file_path("folder"));
	readdir(half_read);
}

static void folders_check(void)
{
	struct stat status;
	int fd = openat(directory, "file-7", O_RDONLY), rest = 0;

	WANT(fd != -1, "openat: %s", strerror(errno));
	close(fd);
	WANT(fcntl(path_only, F_GETFL) & O_PATH && fstat(path_only, &status) == 0 && S_ISREG(status.st_mode), "O_PATH is lost");
	rewinddir(half_read);
	errno = 0;
	for (rest = 0; readdir(half_read); rest++)
		;
	WANT(rest == 52, "the folder has %d names, not 52: %s", rest, strerror(errno));
	rewinddir(half_read);
	readdir(half_read);
	detail("folder, half-read folder, O_PATH");
}

static void direct_setup(void)
{
	void *block = aligned_alloc(4096, 8192);

	direct = must(open(file_path("direct"), O_CREAT | O_RDWR | O_DIRECT, 0600), "O_DIRECT");
	fill(block, 8192, 5);
	write_all(direct, block, 8192);
	free(block);
}

static void direct_check(void)
{
	void *block = aligned_alloc(4096, 8192);

	WANT(fcntl(direct, F_GETFL) & O_DIRECT, "O_DIRECT is lost");
	WANT(pread(direct, block, 8192, 0) == 8192 && filled(block, 8192, 5), "the content is another");
	free(block);
	detail("O_DIRECT");
}

/* Files of /proc that programs keep open: their own, and the machine's. */
static int own_status, own_folder, other_folder, load, memory, of_process_1, limit;

static void proc_setup(void)
{
	own_status = must(open("/proc/self/status", O_RDONLY), "/proc/self/status");
	of_process_1 = must(open("/proc/1/stat", O_RDONLY), "/proc/1/stat");
	load = must(open("/proc/loadavg", O_RDONLY), "/proc/loadavg");
	memory = must(open("/proc/meminfo", O_RDONLY), "/proc/meminfo");
	limit = must(open("/proc/sys/kernel/pid_max", O_RDONLY), "/proc/sys");
}

static void proc_check(void)
{
	char text[4096], expected[64];
	ssize_t n = pread(own_status, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = 0;
	snprintf(expected, sizeof(expected), "\nPid:\t%d\n", getpid());
	WANT(strstr(text, expected), "/proc/self/status is not its own");
	WANT(pread(of_process_1, text, 16, 0) > 2 && strncmp(text, "1 (", 3) == 0, "/proc/1/stat is another");
	WANT(pread(load, text, 16, 0) > 0, "/proc/loadavg cannot be read");
	WANT(pread(memory, text, 16, 0) > 0 && strncmp(text, "MemTotal", 8) == 0, "/proc/meminfo is another");
	WANT(pread(limit, text, 16, 0) > 0, "/proc/sys cannot be read");
	detail("own, of process 1, of the machine");
}

static void proc_folder_setup(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", getpid());
	own_folder = must(open(path, O_DIRECTORY | O_RDONLY), path);
	other_folder = must(open("/proc", O_DIRECTORY | O_RDONLY), "/proc");
}

static void proc_folder_check(void)
{
	WANT(faccessat(other_folder, "meminfo", R_OK, 0) == 0, "/proc is another");
	WANT(faccessat(own_folder, "maps", R_OK, 0) == 0, "/proc/PID is not its own");
	detail("/proc and /proc/PID");
}

/* Files of the control group, as language runtimes keep them open to know their limits. */
static const char *const limits[] = {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/memory.max"};
static int limit_files[4];

static void group_setup(void)
{
	int found = 0;

	for (int i = 0; i < 4; i++)
		found += (limit_files[i] = open(limits[i], O_RDONLY)) != -1;
	if (!found)
		unable("no file of a control group can be opened");
}

static void group_check(void)
{
	char text[64];
	int found = 0;

	for (int i = 0; i < 4; i++)
		if (limit_files[i] != -1) {
			WANT(pread(limit_files[i], text, sizeof(text), 0) > 0, "%s cannot be read: %s", limits[i], strerror(errno));
			found++;
		}
	detail("%d files", found);
}

const struct feature special_file_features[] = {
	{"devices", devices_setup, devices_check, 0}, {"folders", folders_setup, folders_check, 0}, {"direct-file", direct_setup, direct_check, 0},
	{"proc-files", proc_setup, proc_check, 0}, {"proc-folders", proc_folder_setup, proc_folder_check, 0},
	{"cgroup-files", group_setup, group_check, 0}, {0},
};
