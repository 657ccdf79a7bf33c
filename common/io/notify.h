/* Telling systemd how a service is (sd_notify(3)); without systemd each call does nothing. */
#ifndef IO_NOTIFY_H
#define IO_NOTIFY_H

/* "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=…"; several with line ends between. */
void notify_send(const char *state);

/* How often the watchdog wants to hear from us, in ms (half of its limit); 0: not at all. */
long notify_watchdog_ms(void);

/* The first listening socket that was handed over by socket activation, or -1. */
int notify_listen_fd(void);

#endif
