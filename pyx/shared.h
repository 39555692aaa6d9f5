/* An int that one thread may set while others read it. */
#ifndef OPTIMLITE_SHARED_H
#define OPTIMLITE_SHARED_H

#if defined(_WIN32)
typedef volatile int shared_int;         /* MSVC: words are read and written whole */
#else
#include <stdatomic.h>
typedef atomic_int shared_int;
#endif

#endif
