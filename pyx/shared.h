/* An int that one thread may set while others read it; and the name by which rows of the kernel table are known. */
#ifndef OPTIMLITE_SHARED_H
#define OPTIMLITE_SHARED_H

#include <stdatomic.h>

typedef atomic_int shared_int;

/* setup.py's OPTIMLITE_DECLARATIONS is a hash of every .pxd: a row of other declarations is no row. */
#define TABLE_NAMED(hash) "optimlite.kernel " #hash
#define TABLE_OF(hash) TABLE_NAMED(hash)
#define TABLE TABLE_OF(OPTIMLITE_DECLARATIONS)

#endif
