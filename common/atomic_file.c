/* SPDX-License-Identifier: MIT */
/* Files of record and small file helpers; see atomic_file.h.
 *
 * The order that makes a rename durable: data fsynced before the rename, the folder
 * after it. The temporary carries the pid, so that two writers never share one. */
#include "atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int ff_path(char out[FF_PATH_MAX], struct ff_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, FF_PATH_MAX, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= FF_PATH_MAX)
        return ff_err_set(err, FF_EUSAGE, "%.200s...: path of %d bytes is too long",
                          out, n);
    return 0;
}

int ff_mkdirs(const char *path, struct ff_err *err)
{
    char part[FF_PATH_MAX];
    int rc = ff_path(part, err, "%s", path);
    if (rc)
        return rc;
    for (char *p = part; *p; p++) {
        if (p == part || *p != '/')
            continue;
        *p = 0;
        if (mkdir(part, 0777) && errno != EEXIST)
            return ff_err_errno(err, FF_EFAIL, "%s: cannot make the folder", part);
        *p = '/';
    }
    struct stat st;
    if (mkdir(part, 0777) && errno != EEXIST)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot make the folder", part);
    if (stat(part, &st) || !S_ISDIR(st.st_mode))
        return ff_err_set(err, FF_EFAIL, "%s: exists and is no folder", part);
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *where)
{
    (void)st;
    (void)where;
    if (type == FTW_DP || type == FTW_DNR)
        return rmdir(path);
    return unlink(path);
}

int ff_remove_tree(const char *path, struct ff_err *err)
{
    if (nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot remove", path);
    return 0;
}

int ff_atomic_names(char target[FF_PATH_MAX], char temporary[FF_PATH_MAX],
                    const char *path, struct ff_err *err)
{
    struct stat st;
    int rc = 0;
    _Static_assert(FF_PATH_MAX >= PATH_MAX, "realpath writes as much");
    if (!stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return ff_err_set(err, FF_EUSAGE, "%s: cannot write: not a regular file", path);
    bool follows = !lstat(path, &st) && S_ISLNK(st.st_mode) && realpath(path, target);
    if (!follows)
        rc = ff_path(target, err, "%s", path);
    return rc ? rc : ff_path(temporary, err, "%s.tmp.%d", target, (int)getpid());
}

int ff_atomic_begin(struct ff_atomic_file *file, const char *path, struct ff_err *err)
{
    memset(file, 0, sizeof *file);
    int rc = ff_atomic_names(file->path, file->temporary, path, err);
    if (rc)
        return rc;
    file->stream = fopen(file->temporary, "we");
    if (!file->stream) {
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot write", file->path);
        file->temporary[0] = 0;
    }
    return rc;
}

/* `shown` is the name in messages. */
static int sync_path(const char *path, const char *shown, int flags, struct ff_err *err)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot open", shown);
    int rc = 0;
    if (fsync(fd) && errno != EINVAL)
        rc = ff_err_errno(err, FF_EFAIL, "%s: fsync", shown);
    close(fd);
    return rc;
}

static int sync_folder_of(const char *path, struct ff_err *err)
{
    char folder[FF_PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path),
                 path);
    return sync_path(folder, folder, O_RDONLY | O_DIRECTORY, err);
}

int ff_atomic_commit(struct ff_atomic_file *file, struct ff_err *err)
{
    int rc = 0;
    bool bad = ferror(file->stream) != 0; /* flushed all the same: it tells errno */
    errno = EIO;
    if (fflush(file->stream) || bad || fsync(fileno(file->stream)))
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot write", file->path);
    if (fclose(file->stream) && !rc)
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot write", file->path);
    file->stream = NULL;
    if (!rc && rename(file->temporary, file->path))
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot rename to it", file->path);
    if (rc) {
        ff_atomic_abort(file);
        return rc;
    }
    file->temporary[0] = 0;
    return sync_folder_of(file->path, err);
}

void ff_atomic_abort(struct ff_atomic_file *file)
{
    if (file->stream)
        fclose(file->stream);
    file->stream = NULL;
    if (file->temporary[0])
        unlink(file->temporary);
    file->temporary[0] = 0;
}

int ff_atomic_rename(const char *temporary, const char *target, struct ff_err *err)
{
    int rc = sync_path(temporary, target, O_RDONLY, err);
    if (!rc && rename(temporary, target))
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot rename to it", target);
    return rc ? rc : sync_folder_of(target, err);
}

int ff_read_file(char **data, size_t *bytes, const char *path, struct ff_err *err)
{
    *data = NULL;
    *bytes = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot read", path);
    int rc = 0;
    char *buffer = NULL;
    size_t used = 0, capacity = 0;
    for (;;) {
        if (capacity - used < 2) {
            capacity = capacity ? 2 * capacity : 1 << 14;
            char *grown = realloc(buffer, capacity);
            if (!grown) {
                rc = ff_err_set(err, FF_ENOMEM, "%s: no memory for %zu bytes", path,
                                capacity);
                goto done;
            }
            buffer = grown;
        }
        size_t n = fread(buffer + used, 1, capacity - used - 1, f);
        used += n;
        if (n == 0)
            break;
    }
    if (ferror(f)) {
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot read", path);
        goto done;
    }
    buffer[used] = 0;
    *data = buffer;
    *bytes = used;
    buffer = NULL;
done:
    free(buffer);
    fclose(f);
    return rc;
}
