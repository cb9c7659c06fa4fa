/* What a process says of itself, a line for each attribute, compared with what it said first. */
#ifndef NOTES_H
#define NOTES_H

/* note adds words to what is said now. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* first_notes keeps what a function notes; check_notes says which of its lines are others now. */
void first_notes(void (*write_notes)(void));
void check_notes(void (*write_notes)(void));

#endif
