/* clock.c - the system's clocks. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
#endif
#include "ibk/clock.h"

#include <time.h>

#ifdef CLOCK_BOOTTIME
#define STEADY CLOCK_BOOTTIME /* goes on while the machine sleeps */
#else
#define STEADY CLOCK_MONOTONIC
#endif

static int64_t read_ms(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t ibk_clock_steady_ms(void)
{
    return read_ms(STEADY);
}

int64_t ibk_clock_wall_ms(void)
{
    return read_ms(CLOCK_REALTIME);
}
