/* SPDX-License-Identifier: MIT */
/* The lease file of a GPU; see cuda_lease.h.
 *
 * The folder is open to everybody and lies in /tmp, so nothing found there is trusted:
 * no symbolic link is followed, folder and file are opened first and looked at after,
 * only a regular file with one name is written to, and its text is shown with odd
 * characters replaced. A file of another user is opened without O_CREAT, which the
 * kernel would refuse in a sticky folder (fs.protected_regular). A file that may only
 * be read can be locked all the same; only the name inside is then an old one. Files
 * are never removed: a name that comes and goes would give two locks of one GPU. The
 * folder is locked too, shared, because systemd-tmpfiles leaves a locked folder alone
 * when it clears out what has not been touched for days. */
#include "cuda_lease.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEXT_BYTES 2048
#define FIELD_BYTES 256
#define TRIES                                                                          \
    50 /* of 10 ms: another process is just making the file, or naming itself */

struct cuda_lease {
    struct cuda_lease *next;
    int folder_fd, fd;
    int takers;
    struct stat identity; /* of the file */
};

/* Leases of this process. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct cuda_lease *held;

char *cuda_uuid_text(char out[CUDA_UUID_TEXT], const void *uuid)
{
    const unsigned char *bytes = uuid;
    char *p = out + sprintf(out, "GPU");
    for (int i = 0; i < 16; i++) {
        bool group = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
        p += sprintf(p, "%s%02x", group ? "-" : "", bytes[i]);
    }
    return out;
}

static void pause_10ms(void)
{
    nanosleep(&(struct timespec){0, 10000000L}, NULL);
}

static int open_folder(int *fd, const char *folder, struct ff_err *err)
{
    struct stat st;
    bool made = mkdir(folder, 0777) == 0;
    if (!made && errno != EEXIST)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot make the folder of GPU leases",
                            folder);
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot use as folder of GPU leases",
                            folder);
    /* Whatever the umask: every user is to be able to make files here. */
    if (made && fstat(*fd, &st) == 0 && st.st_uid == geteuid())
        fchmod(*fd, 01777);
    flock(*fd, LOCK_SH | LOCK_NB);
    return 0;
}

/* The file, made if it is missing; errno on -1. */
static int open_file(int folder_fd, const char *name)
{
    const int safe = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    for (int i = 0; i < TRIES; i++) {
        int fd = openat(folder_fd, name, O_RDWR | safe);
        if (fd >= 0)
            return fd;
        if (errno == EACCES && (fd = openat(folder_fd, name, O_RDONLY | safe)) >= 0)
            return fd;
        if (errno == ENOENT) {
            fd = openat(folder_fd, name, O_RDWR | O_CREAT | O_EXCL | safe, 0666);
            if (fd >= 0) {
                fchmod(fd, 0666);
                return fd;
            }
        }
        if (errno != EEXIST && errno != EACCES)
            return -1;
        pause_10ms(); /* between another's making and its change of mode */
    }
    return -1;
}

/* Value of a line "key: value", without odd characters; "" if there is none. */
static void field(char out[FIELD_BYTES], const char *text, const char *key)
{
    size_t length = strlen(key), used = 0;
    out[0] = 0;
    for (const char *line = text; line && *line;
         line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, key, length) != 0 || strncmp(line + length, ": ", 2) != 0)
            continue;
        for (const char *p = line + length + 2;
             *p && *p != '\n' && used < FIELD_BYTES - 1; p++)
            out[used++] = (unsigned char)*p < ' ' || *p == 127 ? '?' : *p;
        out[used] = 0;
        return;
    }
}

/* "pid 4711 (ff-train ...), user anna, folder /home/anna, since ..." */
static int busy(int fd, const char *uuid, struct ff_err *err)
{
    char text[TEXT_BYTES + 1], pid[FIELD_BYTES], user[FIELD_BYTES], host[FIELD_BYTES],
        since[FIELD_BYTES], folder[FIELD_BYTES], command[FIELD_BYTES], here[64] = "";
    ssize_t n = 0;
    for (int i = 0; i < 5 && n <= 0; i++) {
        if (i)
            pause_10ms();
        n = pread(fd, text, TEXT_BYTES, 0);
    }
    text[n > 0 ? n : 0] = 0;
    field(pid, text, "pid");
    field(user, text, "user");
    field(host, text, "host");
    field(since, text, "since");
    field(folder, text, "folder");
    field(command, text, "command");
    gethostname(here, sizeof here - 1);
    if (!*pid)
        return ff_err_set(err, FF_EBUSY,
                          FF_SAYS_GPU_BUSY " %s is held by another "
                                           "process",
                          uuid);
    bool elsewhere = *host && strcmp(host, here) != 0; /* a container with our /tmp */
    return ff_err_set(err, FF_EBUSY,
                      FF_SAYS_GPU_BUSY " %s is held by pid %.20s (%s), user %.64s, "
                                       "folder %s, since %.32s%s%.64s",
                      uuid, pid, command, user, folder, since,
                      elsewhere ? ", host " : "", elsewhere ? host : "");
}

/* This process's arguments with blanks between. */
static void command_line(char out[FIELD_BYTES])
{
    out[0] = 0;
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, FIELD_BYTES - 1);
    if (fd >= 0)
        close(fd);
    while (n > 0 && !out[n - 1])
        n--;
    for (ssize_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < ' ')
            out[i] = ' ';
    out[n > 0 ? n : 0] = 0;
    /* The program's folder is of no use to the reader. */
    char *name = out + strcspn(out, " ");
    while (name > out && name[-1] != '/')
        name--;
    memmove(out, name, strlen(name) + 1);
}

static void name_holder(int fd)
{
    char text[TEXT_BYTES], host[64] = "", folder[FIELD_BYTES], command[FIELD_BYTES];
    char when[32], entry[1024];
    struct passwd found, *user = NULL;
    struct tm tm;
    time_t now = time(NULL);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    gethostname(host, sizeof host - 1);
    if (!getcwd(folder, sizeof folder))
        strcpy(folder, "?");
    command_line(command);
    getpwuid_r(geteuid(), &found, entry, sizeof entry, &user);
    char uid[24];
    snprintf(uid, sizeof uid, "%lu", (unsigned long)geteuid());
    int n = snprintf(text, sizeof text,
                     "pid: %ld\nuser: %.64s\nhost: %s\nsince: %s\nfolder: %s\n"
                     "command: %s\n",
                     (long)getpid(), user ? user->pw_name : uid, host, when, folder,
                     command);
    /* Written over before it is cut: a reader finds the new lines first. What fails
     * here (a full disk, a file to be read only) costs the name, not the lease. */
    ssize_t written = pwrite(fd, text, (size_t)n, 0);
    if (written >= 0 && ftruncate(fd, written) != 0)
        return;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Opens and locks; 0 with everything in *lease. */
static int lock_file(struct cuda_lease *lease, const char *folder, const char *name,
                     struct ff_err *err)
{
    struct stat there;
    for (int i = 0; i < TRIES; i++) {
        lease->fd = open_file(lease->folder_fd, name);
        if (lease->fd < 0)
            return ff_err_errno(err, FF_EFAIL, "%s/%s: cannot open", folder, name);
        if (fstat(lease->fd, &lease->identity) != 0)
            return ff_err_errno(err, FF_EFAIL, "%s/%s", folder, name);
        if (!S_ISREG(lease->identity.st_mode) || lease->identity.st_nlink > 1)
            return ff_err_set(err, FF_EFAIL,
                              "%s/%s: is not a plain file with one name; remove it",
                              folder, name);
        for (const struct cuda_lease *own = held; own; own = own->next)
            if (same_file(&own->identity, &lease->identity))
                return 0; /* the caller sees to it */
        if (flock(lease->fd, LOCK_EX | LOCK_NB) != 0)
            return errno == EWOULDBLOCK
                       ? busy(lease->fd, name, err)
                       : ff_err_errno(err, FF_EFAIL, "%s/%s: cannot lock", folder,
                                      name);
        if (fstatat(lease->folder_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
            same_file(&there, &lease->identity))
            return 0;
        close(lease->fd); /* somebody removed the name meanwhile */
        lease->fd = -1;
    }
    return ff_err_set(err, FF_EFAIL, "%s/%s: does not stay in its place", folder, name);
}

static void close_files(struct cuda_lease *lease)
{
    if (lease->fd >= 0)
        close(lease->fd);
    if (lease->folder_fd >= 0)
        close(lease->folder_fd);
    free(lease);
}

int cuda_lease_take_in(struct cuda_lease **out, const char *folder, const char *uuid,
                       struct ff_err *err)
{
    *out = NULL;
    assert(*uuid && !uuid[strspn(uuid, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrst"
                                       "uvwxyz0123456789-")]);
    struct cuda_lease *lease = calloc(1, sizeof *lease);
    if (!lease)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    lease->folder_fd = lease->fd = -1;
    pthread_mutex_lock(&mutex);
    int rc = open_folder(&lease->folder_fd, folder, err);
    if (!rc)
        rc = lock_file(lease, folder, uuid, err);
    struct cuda_lease *own = rc ? NULL : held;
    while (own && !same_file(&own->identity, &lease->identity))
        own = own->next;
    if (rc || own) {
        close_files(lease);
    } else {
        name_holder(lease->fd);
        lease->next = held;
        held = own = lease;
    }
    if (own) {
        own->takers++;
        *out = own;
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

int cuda_lease_take(struct cuda_lease **lease, const char *uuid, struct ff_err *err)
{
    return cuda_lease_take_in(lease, CUDA_LEASE_FOLDER, uuid, err);
}

void cuda_lease_release(struct cuda_lease *lease)
{
    if (!lease)
        return;
    pthread_mutex_lock(&mutex);
    if (--lease->takers == 0) {
        struct cuda_lease **at = &held;
        while (*at != lease)
            at = &(*at)->next;
        *at = lease->next;
        /* A reader that comes between the next holder's lock and its name finds none
         * rather than ours. */
        if (ftruncate(lease->fd, 0) != 0)
            errno = 0;
        close_files(lease);
    }
    pthread_mutex_unlock(&mutex);
}
