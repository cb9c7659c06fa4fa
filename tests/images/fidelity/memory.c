/* Memory: content of each kind, shared between processes, and files that are memory. */
#include "fidelity.h"

#include <sys/mman.h>
#include <sys/stat.h>

enum { MIB = 1 << 20 };

static void *map(size_t size, int protection, int flags, int fd, off_t offset)
{
	void *at = mmap(NULL, size, protection, flags, fd, offset);

	if (at == MAP_FAILED)
		unable("mmap: %s", strerror(errno));
	return at;
}

/* Private memory: full of data, full of zeroes, reserved, and with holes. */
static uint8_t *heap, *zeroes, *reserved, *holes, *large_pages;
enum { RESERVED = 64 }; /* GiB */

static void private_setup(void)
{
	heap = malloc(4 * MIB);
	fill(heap, 4 * MIB, 1);
	zeroes = map(64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(zeroes, 0, 64 * MIB);
	reserved = map((size_t)RESERVED << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	fill(reserved + (17ul << 30), MIB, 2);
	holes = map(16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 4096; i += 2)
		fill(holes + i * 4096, 4096, i);
	large_pages = map(8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(large_pages, 8 * MIB, MADV_HUGEPAGE);
	fill(large_pages, 8 * MIB, 3);
}

static void private_check(void)
{
	static const uint8_t zero[4096];

	WANT(filled(heap, 4 * MIB, 1), "the heap is another");
	for (int i = 0; i < 64 * MIB; i += 4096)
		if (memcmp(zeroes + i, zero, 4096)) {
			broken("memory of zeroes has something at %d", i);
			break;
		}
	WANT(filled(reserved + (17ul << 30), MIB, 2), "the middle of reserved memory is another");
	WANT(reserved[3ul << 30] == 0, "reserved memory that was not used has something in it");
	for (int i = 0; i < 4096; i++)
		if (i % 2 ? memcmp(holes + i * 4096, zero, 4096) != 0 : !filled(holes + i * 4096, 4096, i)) {
			broken("page %d of memory with holes is another", i);
			break;
		}
	WANT(filled(large_pages, 8 * MIB, 3), "memory of large pages is another");
	detail("data, 64 MiB of zeroes, %d GiB reserved, holes, large pages", RESERVED);
}

/* Memory that a process and its child share, each writing what the other reads. */
static uint8_t *anonymous, *of_file;
static struct helper sharer;

static void change(char question, char *answer)
{
	snprintf(answer, ANSWER, "%d %d", filled(anonymous, MIB, question), filled(of_file, MIB, question));
	fill(anonymous, MIB, question + 1);
	fill(of_file, MIB, question + 1);
}

static void shared_setup(void)
{
	int fd = must(open(file_path("mapped"), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open");

	must(ftruncate(fd, MIB), "ftruncate");
	anonymous = map(MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	of_file = map(MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	sharer = helper_start(NULL, change);
	fill(anonymous, MIB, 'A');
	fill(of_file, MIB, 'A');
}

static void shared_check(void)
{
	char letter = 'A' + rounds % 20;
	static uint8_t content[MIB];
	const char *answer;
	int fd;

	WANT(filled(anonymous, MIB, letter), "shared memory is another");
	WANT(filled(of_file, MIB, letter), "a shared file is another");
	answer = helper_ask(&sharer, letter);
	WANT(strcmp(answer, "1 1") == 0, "the child sees %s", answer);
	WANT(filled(anonymous, MIB, letter + 1), "shared memory is not shared any more");
	WANT(filled(of_file, MIB, letter + 1), "a shared file is not shared any more");
	fd = open(file_path("mapped"), O_RDONLY);
	WANT(read_some(fd, content, MIB) == 0 && filled(content, MIB, letter + 1), "the file does not get what is written to its memory");
	close(fd);
	letter = 'A' + (rounds + 1) % 20;
	fill(anonymous, MIB, letter);
	fill(of_file, MIB, letter);
	detail("anonymous, of a file");
}

/* Files that are only memory. */
static int sealed, growing, executable;
static uint8_t *mapped_growing;

static void memfd_setup(void)
{
	static uint8_t block[MIB];

	fill(block, MIB, 4);
	sealed = must(memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC), "memfd_create");
	write_all(sealed, block, MIB);
	must(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK), "F_ADD_SEALS");
	growing = must(memfd_create("growing", 0), "memfd_create");
	write_all(growing, block, MIB);
	must(lseek(growing, 99, SEEK_SET), "lseek");
	mapped_growing = map(MIB, PROT_READ | PROT_WRITE, MAP_SHARED, growing, 0);
	executable = must(open("/proc/self/exe", O_RDONLY), "open");
}

static void memfd_check(void)
{
	static uint8_t block[MIB];

	WANT(pread(sealed, block, MIB, 0) == MIB && filled(block, MIB, 4), "a sealed one is another");
	WANT(fcntl(sealed, F_GET_SEALS) == (F_SEAL_WRITE | F_SEAL_SHRINK) && write(sealed, "x", 1) == -1, "the seals are %#x", fcntl(sealed, F_GET_SEALS));
	WANT(lseek(growing, 0, SEEK_CUR) == 99, "the offset is %ld", (long)lseek(growing, 0, SEEK_CUR));
	mapped_growing[5000] = rounds;
	WANT(pread(growing, block, 1, 5000) == 1 && block[0] == (uint8_t)rounds, "its memory is not shared any more");
	WANT(fcntl(growing, F_GETFD) == 0 && fcntl(sealed, F_GETFD) == FD_CLOEXEC, "close-on-exec is another");
	WANT(pread(executable, block, 4, 0) == 4 && memcmp(block, "\177ELF", 4) == 0, "the program's own file is another");
	detail("sealed, mapped");
}

const struct feature memory_features[] = {
	{"private-memory", private_setup, private_check, 0}, {"shared-memory", shared_setup, shared_check, 0}, {"memfd", memfd_setup, memfd_check, 0}, {0},
};
