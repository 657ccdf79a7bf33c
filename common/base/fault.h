/*
 * Points where a process of a test build ends itself as kill -9 would, so that tests can hit what no
 * timing could. Without CHATFLEET_FAULTS (a release has none) nothing of this is compiled.
 *
 * CHATFLEET_FAULT="name[:n]" ends the process when it passes that point for the n-th time (the first).
 * CHATFLEET_FAULT="job.body=TEXT" ends it when it is given a message whose body contains the text.
 * CHATFLEET_FAULT_CLOCK=FILE: the wall clock is ahead by the milliseconds that the file says, or behind.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#ifdef CHATFLEET_FAULTS
#include <stddef.h>
#include <stdint.h>

void fault_point(const char *name);
void fault_body(const char *body, size_t n);
int64_t fault_clock_ms(void);

#define FAULT(name)         fault_point(name)
#define FAULT_BODY(body, n) fault_body(body, n)
#define FAULT_CLOCK_MS()    fault_clock_ms()
#else
#define FAULT(name)         ((void)0)
#define FAULT_BODY(body, n) ((void)0)
#define FAULT_CLOCK_MS()    0
#endif

#endif
