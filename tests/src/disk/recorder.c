/* Records what a program does to the files below one directory, so that a power cut at any instant can be replayed.
 *
 * Loaded with LD_PRELOAD. DISK_RECORDED names the directory, DISK_TRACE the file of the records. A record is written when
 * the call has returned, and before the program knows: so a record stands in front of all that the program does because of
 * it. Written by one call to a file opened with O_APPEND, records of several threads and processes do not mix. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { MADE = 'M', DIRECTORY = 'D', WRITTEN = 'W', TRUNCATED = 'T', SYNCED = 'S', REMOVED = 'U', RENAMED = 'R' };

/* Every record begins so. A path (a name that is made, removed or renamed) or the bytes written follow. */
struct head {
    uint32_t kind;
    uint32_t length;
    uint64_t inode;
    uint64_t place;
};

enum { DESCRIPTORS = 4096 };
static unsigned char recorded[DESCRIPTORS];
static int trace = -1;
static const char *root;
static size_t root_length;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("DISK_TRACE");
    root = getenv("DISK_RECORDED");
    if (!path || !root)
        return;
    root_length = strlen(root);
    int opened = REAL(open)(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    /* Away from the low numbers, which programs hand to each other. */
    trace = fcntl(opened, F_DUPFD_CLOEXEC, DESCRIPTORS / 4);
    REAL(close)(opened);
}

static void record(enum kind kind, uint64_t inode, uint64_t place, const void *bytes, size_t length)
{
    int before = errno;
    struct head head = { kind, (uint32_t)length, inode, place };
    struct iovec parts[] = { { &head, sizeof head }, { (void *)bytes, length } };
    if (REAL(writev)(trace, parts, 2) != (ssize_t)(sizeof head + length))
        abort();
    errno = before;
}

static int is_below(const char *path)
{
    return trace >= 0 && strncmp(path, root, root_length) == 0 && path[root_length] == '/';
}

static int is_recorded(int descriptor)
{
    return trace >= 0 && descriptor >= 0 && descriptor < DESCRIPTORS && recorded[descriptor];
}

static uint64_t inode_of(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 ? status.st_ino : 0;
}

static uint64_t inode_at(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 ? status.st_ino : 0;
}

/* A name without the directory in front of it. */
static void record_name(enum kind kind, uint64_t inode, const char *path)
{
    record(kind, inode, 0, path + root_length + 1, strlen(path + root_length + 1));
}

static int open_recorded(int directory, const char *path, int flags, mode_t mode)
{
    int below = is_below(path);
    int is_new = below && (flags & O_CREAT) && inode_at(path) == 0;
    int descriptor = REAL(openat)(directory, path, flags, mode);
    if (descriptor < 0 || descriptor >= DESCRIPTORS)
        return descriptor;
    recorded[descriptor] = below;
    if (is_new)
        record_name(MADE, inode_of(descriptor), path);
    else if (below && (flags & O_TRUNC))
        record(TRUNCATED, inode_of(descriptor), 0, NULL, 0);
    return descriptor;
}

static mode_t mode_of(int flags, va_list list)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
}

#define OPEN(name)                                           \
    int name(const char *path, int flags, ...)               \
    {                                                        \
        va_list list;                                        \
        va_start(list, flags);                               \
        mode_t mode = mode_of(flags, list);                  \
        va_end(list);                                        \
        return open_recorded(AT_FDCWD, path, flags, mode);   \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                         \
    int name(int directory, const char *path, int flags, ...) \
    {                                                        \
        va_list list;                                        \
        va_start(list, flags);                               \
        mode_t mode = mode_of(flags, list);                  \
        va_end(list);                                        \
        return open_recorded(directory, path, flags, mode);  \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int descriptor)
{
    if (descriptor >= 0 && descriptor < DESCRIPTORS)
        recorded[descriptor] = 0;
    return REAL(close)(descriptor);
}

#define PWRITE(name, offset)                                                     \
    ssize_t name(int descriptor, const void *bytes, size_t length, offset place) \
    {                                                                            \
        ssize_t written = REAL(name)(descriptor, bytes, length, place);          \
        if (written > 0 && is_recorded(descriptor))                              \
            record(WRITTEN, inode_of(descriptor), place, bytes, written);        \
        return written;                                                          \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int descriptor, const void *bytes, size_t length)
{
    ssize_t written = REAL(write)(descriptor, bytes, length);
    if (written > 0 && is_recorded(descriptor)) {
        off_t end = lseek(descriptor, 0, SEEK_CUR);
        record(WRITTEN, inode_of(descriptor), end - written, bytes, written);
    }
    return written;
}

#define TRUNCATE(name, offset)                                               \
    int name(int descriptor, offset length)                                  \
    {                                                                        \
        int failed = REAL(name)(descriptor, length);                         \
        if (!failed && is_recorded(descriptor))                              \
            record(TRUNCATED, inode_of(descriptor), length, NULL, 0);        \
        return failed;                                                       \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                \
    int name(int descriptor)                                      \
    {                                                             \
        int failed = REAL(name)(descriptor);                      \
        if (!failed && is_recorded(descriptor))                   \
            record(SYNCED, inode_of(descriptor), 0, NULL, 0);     \
        return failed;                                            \
    }
SYNC(fsync)
SYNC(fdatasync)

int mkdir(const char *path, mode_t mode)
{
    int failed = REAL(mkdir)(path, mode);
    if (!failed && is_below(path))
        record_name(DIRECTORY, 0, path);
    return failed;
}

int unlink(const char *path)
{
    int failed = REAL(unlink)(path);
    if (!failed && is_below(path))
        record_name(REMOVED, 0, path);
    return failed;
}

/* The new name goes by the inode, which the reader knows by its earlier name. */
int rename(const char *from, const char *to)
{
    int failed = REAL(rename)(from, to);
    if (!failed && is_below(to))
        record_name(RENAMED, inode_at(to), to);
    return failed;
}
