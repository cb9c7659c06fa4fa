/*
 * What the features of this program share. A feature is one kind of kernel object: `setup` makes it and gives it content, `check` compares it with
 * what it was and gives it new content, so that it can be checked again after the next restore. Each feature runs in a process of its own.
 */
#ifndef FIDELITY_H
#define FIDELITY_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct feature {
	const char *name;
	void (*setup)(void);
	void (*check)(void);
	int apart; /* it is no part of "all": it needs a capability, a size of its own, or cannot be captured */
};

/* The features of each file, up to one without a name. */
extern const struct feature thread_features[], lock_features[], wait_features[], process_features[], attribute_features[], priority_features[], signal_features[],
	timer_features[], clock_features[], file_features[], special_file_features[], file_lock_features[], pipe_features[], unix_features[], passing_features[],
	event_features[], notify_features[], memory_features[], mapping_features[], ipc_features[], inet_features[], tcp_features[],
	terminal_features[], large_features[];

/* was_restored tells a check whether the process has been restored since the check before: its namespaces are others. */
extern int was_restored;
/* rounds is how many checks there were before. */
extern int rounds;

/* detail adds words to the answer of a check, broken says what is not as it was, unable ends a feature that cannot be set up. */
void detail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));
void unable(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* must ends the feature when a call returned -1, and returns what it returned. must_zero is for calls that return an error number. */
long must(long result, const char *what);
void must_zero(int error, const char *what);

/* WANT says what is broken unless the condition holds. */
#define WANT(condition, ...) \
	do { \
		if (!(condition)) \
			broken(__VA_ARGS__); \
	} while (0)

/* EVENTUALLY waits at most so many milliseconds for a condition, and returns whether it holds. */
#define EVENTUALLY(condition, milliseconds) \
	({ \
		int64_t end_ = now_ms() + (milliseconds); \
		int held_; \
		while (!(held_ = !!(condition)) && now_ms() < end_) \
			nap(2); \
		held_; \
	})

int64_t now_ms(void); /* of CLOCK_MONOTONIC */
void nap(int milliseconds);

/* fill writes a pattern that depends on the seed; filled compares. */
void fill(void *memory, size_t size, uint32_t seed);
int filled(const void *memory, size_t size, uint32_t seed);

/* write_all and read_some end the feature, or return -1, unless all bytes came. read_some waits at most eight seconds for
 * each part: an idle process of a busy machine has to wait for its turn. */
void write_all(int fd, const void *data, size_t size);
int read_some(int fd, void *data, size_t size);
/* file_says reads a small file as a string. */
const char *file_says(const char *path);

/* A helper is a process, child of the feature, that answers questions of one letter with a line. */
enum { ANSWER = 512 };
struct helper {
	pid_t pid;
	int fd;
};
typedef void answer_function(char question, char *answer);
/* helper_start forks it; it calls prepare first. helper_ask returns "" when there was no answer within eight seconds. */
struct helper helper_start(void (*prepare)(void), answer_function *answer);
const char *helper_ask(const struct helper *helper, char question);
/* helper_serve is the life of a helper that was forked otherwise. */
void helper_serve(int fd, answer_function *answer) __attribute__((noreturn));

/* folder is where features make their files: on the root file system, or where FIDELITY_DIR says. */
extern const char *folder;
/* file_path returns the path of a file of that name in the folder; four results are valid at a time. */
const char *file_path(const char *name);

#endif
