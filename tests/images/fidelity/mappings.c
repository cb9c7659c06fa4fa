/* Mappings: of files that are gone or were copied on write, with protections and advice. */
#include "fidelity.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { PAGE = 4096, PAGES = 64 };

/* smaps finds the line of a mapping in /proc/self/smaps that begins with a word, and returns what follows. */
static const char *smaps(const void *address, const char *word)
{
	static char found[256];
	char line[512], start[32];
	FILE *file = fopen("/proc/self/smaps", "r");
	int inside = 0;

	found[0] = 0;
	snprintf(start, sizeof(start), "%lx-", (unsigned long)address);
	while (file && fgets(line, sizeof(line), file)) {
		if (strstr(line, start) == line) {
			inside = 1;
			if (!word[0])
				sscanf(line, "%*s %255s", found);
		} else if (inside && line[0] >= '0' && line[0] <= '9') {
			break;
		} else if (inside && word[0] && strstr(line, word) == line) {
			snprintf(found, sizeof(found), "%s", line + strlen(word));
		}
	}
	if (file)
		fclose(file);
	return found;
}

static uint8_t *copied, *of_deleted, *shared_deleted;

static uint8_t *of_file(const char *name, int flags, int remove)
{
	static uint8_t content[PAGE * PAGES];
	int fd = must(open(file_path(name), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open");
	uint8_t *at;

	fill(content, sizeof(content), 6);
	write_all(fd, content, sizeof(content));
	at = mmap(NULL, sizeof(content), PROT_READ | PROT_WRITE, flags, fd, 0);
	close(fd);
	if (remove)
		must(unlink(file_path(name)), "unlink");
	return at;
}

static void files_setup(void)
{
	copied = of_file("copied", MAP_PRIVATE, 0);
	of_deleted = of_file("mapped-deleted", MAP_PRIVATE, 1);
	shared_deleted = of_file("mapped-shared-deleted", MAP_SHARED, 1);
	copied[10 * PAGE] = of_deleted[10 * PAGE] = 1;
}

static void one_mapping(const char *name, uint8_t *at, int expected)
{
	static uint8_t content[PAGE * PAGES];

	fill(content, sizeof(content), 6);
	content[10 * PAGE] = expected;
	WANT(memcmp(at, content, sizeof(content)) == 0, "%s is another", name);
	at[10 * PAGE] = expected + 1;
}

static void files_check(void)
{
	static uint8_t first;

	if (rounds == 0)
		first = shared_deleted[10 * PAGE];
	one_mapping("a private mapping of a file", copied, (rounds + 1) & 0xff);
	one_mapping("a private mapping of a deleted file", of_deleted, (rounds + 1) & 0xff);
	one_mapping("a shared mapping of a deleted file", shared_deleted, (first + rounds) & 0xff);
	detail("private, of a deleted file, shared of a deleted file");
}

/* Protections and advice of parts of a mapping. */
static uint8_t *area, *downwards, *emptied;

static void protections_setup(void)
{
	area = mmap(NULL, PAGE * 100, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(area, PAGE * 100, 7);
	must(mprotect(area + 10 * PAGE, 10 * PAGE, PROT_READ), "mprotect");
	must(mprotect(area + 20 * PAGE, 10 * PAGE, PROT_NONE), "mprotect");
	must(mprotect(area + 30 * PAGE, 10 * PAGE, PROT_READ | PROT_EXEC), "mprotect");
	must(madvise(area + 40 * PAGE, 10 * PAGE, MADV_DONTFORK), "MADV_DONTFORK");
	must(madvise(area + 50 * PAGE, 10 * PAGE, MADV_DONTDUMP), "MADV_DONTDUMP");
	must(mlock(area + 60 * PAGE, 10 * PAGE), "mlock");
	must(munmap(area + 70 * PAGE, 10 * PAGE), "munmap");
	downwards = mmap(NULL, PAGE * 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	fill(downwards, PAGE * 16, 8);
	emptied = mmap(NULL, PAGE * 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(madvise(emptied, PAGE * 16, MADV_WIPEONFORK), "MADV_WIPEONFORK");
	fill(emptied, PAGE * 16, 9);
}

static void protections_check(void)
{
	const struct {
		int page;
		const char *mode, *flag, *name;
	} parts[] = {
		{0, "rw-p", "", "plain"}, {10, "r--p", "", "read-only"}, {20, "---p", "", "closed"}, {30, "r-xp", "", "executable"},
		{40, "rw-p", " dc", "not forked"}, {50, "rw-p", " dd", "not dumped"}, {60, "rw-p", " lo", "locked"}, {80, "rw-p", "", "last"},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const uint8_t *at = area + parts[i].page * PAGE;
		const char *mode = smaps(at, "");

		WANT(strcmp(mode, parts[i].mode) == 0, "the %s part is %s", parts[i].name, mode);
		mode = smaps(at, "VmFlags:");
		WANT(strstr(mode, parts[i].flag), "the %s part has the flags %s", parts[i].name, mode);
	}
	must(mprotect(area + 20 * PAGE, 10 * PAGE, PROT_READ), "mprotect");
	WANT(smaps(area + 70 * PAGE, "")[0] == 0, "the part that was unmapped is there");
	WANT(strstr(smaps(emptied, "VmFlags:"), " wf"), "what is to be empty in a child is not");
	static uint8_t expected[PAGE * 100];
	fill(expected, sizeof(expected), 7);
	WANT(memcmp(area, expected, 70 * PAGE) == 0 && memcmp(area + 80 * PAGE, expected + 80 * PAGE, 20 * PAGE) == 0, "the content is another");
	WANT(filled(downwards, PAGE * 16, 8) && strstr(smaps(downwards, "VmFlags:"), " gd"), "what grows downwards does not: %s", smaps(downwards, "VmFlags:"));
	WANT(filled(emptied, PAGE * 16, 9), "the content of what is to be empty in a child is another");
	must(mprotect(area + 20 * PAGE, 10 * PAGE, PROT_NONE), "mprotect");
	detail("8 parts, downwards, wiped on fork");
}

const struct feature mapping_features[] = {{"file-mappings", files_setup, files_check, 0}, {"protections", protections_setup, protections_check, 0}, {0}};
