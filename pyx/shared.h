/* What threads share: an int that one may set while others read it; a count that many raise, and a lock, both of which
 * are free where Python's own lock guards them. And the name by which rows of the kernel table are known. */
#ifndef OPTIMLITE_SHARED_H
#define OPTIMLITE_SHARED_H

#include <stdatomic.h>
#include <stdint.h>

typedef atomic_int shared_int;

#ifdef Py_GIL_DISABLED
typedef _Atomic uint64_t shared_count;
typedef PyMutex shared_lock;
#define shared_acquire(lock) PyMutex_Lock(lock)
#define shared_release(lock) PyMutex_Unlock(lock)
#else
typedef uint64_t shared_count;
typedef char shared_lock;
#define shared_acquire(lock) ((void)(lock))
#define shared_release(lock) ((void)(lock))
#endif

/* setup.py's OPTIMLITE_DECLARATIONS is a hash of every .pxd: a row of other declarations is no row. */
#define TABLE_NAMED(hash) "optimlite.kernel " #hash
#define TABLE_OF(hash) TABLE_NAMED(hash)
#define TABLE TABLE_OF(OPTIMLITE_DECLARATIONS)

#endif
