/* How a feature's process tells the main process what it found. */
#ifndef REPORT_H
#define REPORT_H

/* report is the answer that a check is writing: it is fine when nothing is broken. */
struct report {
	char details[2048], broken[4096];
};
extern struct report report;

/* report_send gives the report to the main process, and begins a new one. */
void report_send(void);

#endif
