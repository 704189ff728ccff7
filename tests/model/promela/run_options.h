/* What may go wrong in a free run, and which safeguard is removed: from the environment, so that one verifier does all. */

#include <stdlib.h>

static int option(const char *name) {
    const char *value = getenv(name);
    return value ? atoi(value) : 0;
}
