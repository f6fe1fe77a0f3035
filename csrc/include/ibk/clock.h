/*
 * clock.h - what time it is: by the wall, which people and other clocks set, and on a clock that never jumps.
 */
#ifndef IBK_CLOCK_H
#define IBK_CLOCK_H

#include "ibk/base.h"

/* Milliseconds since some moment of the past, sleep of the machine included where the system counts it. */
int64_t ibk_clock_steady_ms(void);

/* Milliseconds since 1970. */
int64_t ibk_clock_wall_ms(void);

#endif
