// What the parts of the program share. It computes with POSIX threads and with OpenMP and answers GET /check on port 8080 like the programs of
// tests/images/scripts.
#ifndef THREADS_H
#define THREADS_H

#include <stddef.h>

// begin gives the program its state: memory of 64 MiB, threads that wait for work.
void begin(void);

// check compares the state with what it was, has all threads work, and writes what is broken into text, or what was done. It returns 0 if all is well.
int check(char *text, size_t size);

// serve answers requests for ever.
void serve(int port);

#endif
