#include "fidelity.h"

#include "notes.h"

#include <stdarg.h>

static char noted[8192], noted_now[8192];

static void compare_notes(void)
{
	char *was, *is, *was_rest = noted, *is_rest = noted_now;
	static char copy[8192];

	strcpy(copy, noted);
	was_rest = copy;
	while ((was = strsep(&was_rest, "\n")) && (is = strsep(&is_rest, "\n")))
		WANT(strcmp(was, is) == 0, "it was %s; it is %s", was, is);
}

void note(const char *format, ...)
{
	va_list arguments;
	size_t used = strlen(noted_now);

	va_start(arguments, format);
	vsnprintf(noted_now + used, sizeof(noted_now) - used, format, arguments);
	va_end(arguments);
}

void first_notes(void (*write_notes)(void))
{
	noted_now[0] = 0;
	write_notes();
	strcpy(noted, noted_now);
}

void check_notes(void (*write_notes)(void))
{
	noted_now[0] = 0;
	write_notes();
	compare_notes();
}
