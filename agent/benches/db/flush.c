/* Makes each flush take as long as that of a slow disk: loaded with LD_PRELOAD, FLUSH_MS says how long. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int flush(const char *name, int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *wait = getenv("FLUSH_MS");
    if (wait)
        usleep((useconds_t)(atof(wait) * 1000));
    return real(file);
}

int fsync(int file) { return flush("fsync", file); }

int fdatasync(int file) { return flush("fdatasync", file); }
