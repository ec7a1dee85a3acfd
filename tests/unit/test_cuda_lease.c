/* SPDX-License-Identifier: MIT */
/* The lease of a GPU: between processes, after a death, and in a folder that somebody
 * has prepared. No GPU is needed. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomic_file.h"
#include "cuda_lease.h"
#include "process.h"

#define UUID "GPU-8d6fa5c2-0123-4567-89ab-cdef01234567"
#define OTHER "GPU-00000000-0000-0000-0000-000000000001"

static char top[64], folder[96];

static void setup(void)
{
    strcpy(top, "/tmp/ff_lease_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(top), NULL));
    cr_assert(eq(int, chmod(top, 0755), 0));
    snprintf(folder, sizeof folder, "%s/leases", top);
}

static void teardown(void)
{
    ff_remove_tree(top, NULL);
}

TestSuite(cuda_lease, .init = setup, .fini = teardown, .timeout = 30);

static int take(struct cuda_lease **lease, const char *uuid, struct ff_err *err)
{
    return cuda_lease_take_in(lease, folder, uuid, err);
}

static void lease_path(char out[256], const char *uuid)
{
    snprintf(out, 256, "%s/%s", folder, uuid);
}

/* A child that takes the lease, says so through the pipe and keeps it until killed. */
static pid_t holder(const char *uuid)
{
    int ends[2];
    char said = 0;
    cr_assert(eq(int, pipe(ends), 0));
    pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        struct cuda_lease *lease;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        said = take(&lease, uuid, NULL) == 0 ? 'y' : 'n';
        if (write(ends[1], &said, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    cr_assert(eq(int, (int)read(ends[0], &said, 1), 1));
    cr_assert(eq(int, said, 'y'));
    close(ends[0]);
    close(ends[1]);
    return pid;
}

static void end(pid_t pid, int sig)
{
    cr_assert(eq(int, kill(pid, sig), 0));
    cr_assert(eq(int, waitpid(pid, NULL, 0), pid));
}

Test(cuda_lease, uuid_is_written_as_by_the_driver)
{
    static const unsigned char bytes[16] = {0x8d, 0x6f, 0xa5, 0xc2, 0x01, 0x23,
                                            0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                            0x01, 0x23, 0x45, 0x67};
    char text[CUDA_UUID_TEXT];
    cr_assert(eq(str, cuda_uuid_text(text, bytes), UUID));
    cr_assert(eq(sz, strlen(text) + 1, CUDA_UUID_TEXT));
}

Test(cuda_lease, a_second_process_is_told_who_holds_it)
{
    struct ff_err err = FF_ERR_INIT;
    struct cuda_lease *lease = (void *)1;
    char pid_text[32], here[FF_PATH_MAX], wanted[FF_PATH_MAX + 16];
    pid_t pid = holder(UUID);
    cr_assert(eq(int, take(&lease, UUID, &err), FF_EBUSY));
    cr_assert(eq(ptr, lease, NULL));
    snprintf(pid_text, sizeof pid_text, " pid %ld (", (long)pid);
    cr_assert(ne(ptr, getcwd(here, sizeof here), NULL));
    snprintf(wanted, sizeof wanted, " folder %s,", here);
    cr_assert(eq(ptr, strstr(err.text, FF_SAYS_GPU_BUSY), err.text), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, UUID " is held by"), NULL), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, pid_text), NULL), "%s", err.text);
    cr_assert(eq(ptr, strstr(err.text, "()"), NULL), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, wanted), NULL), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, ", since 20"), NULL), "%s", err.text);
    cr_assert(eq(ptr, strchr(err.text, '\n'), NULL), "%s", err.text);
    cr_assert(eq(int, take(&lease, OTHER, &err), 0), "%s", err.text); /* another card */
    cuda_lease_release(lease);
    end(pid, SIGTERM);
}

Test(cuda_lease, a_killed_holder_blocks_nobody)
{
    struct ff_err err = FF_ERR_INIT;
    struct cuda_lease *lease;
    char path[256], mine[32], *text;
    size_t bytes;
    end(holder(UUID), SIGKILL);
    lease_path(path, UUID);
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, &err), 0));
    cr_assert(ne(ptr, strstr(text, "command: "), NULL)); /* its name is still there */
    free(text);
    cr_assert(eq(int, take(&lease, UUID, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, &err), 0));
    snprintf(mine, sizeof mine, "pid: %ld\n", (long)getpid());
    cr_assert(eq(ptr, strstr(text, mine), text), "%s", text);
    cr_assert(eq(ptr, strstr(text + 5, "pid: "), NULL), "%s", text);
    free(text);
    cuda_lease_release(lease);
    end(holder(UUID), SIGTERM); /* free again after a release too */
}

Test(cuda_lease, one_process_may_take_it_twice)
{
    struct ff_err err = FF_ERR_INIT;
    struct cuda_lease *one, *two, *other;
    cr_assert(eq(int, take(&one, UUID, &err), 0), "%s", err.text);
    cr_assert(eq(int, take(&other, OTHER, &err), 0), "%s", err.text);
    cr_assert(eq(int, take(&two, UUID, &err), 0), "%s", err.text);
    cuda_lease_release(one);
    int fd;
    char path[256];
    lease_path(path, UUID);
    cr_assert(eq(int, ff_lock(&fd, path, NULL), FF_EBUSY));
    cuda_lease_release(two);
    cr_assert(eq(int, ff_lock(&fd, path, NULL), 0));
    close(fd);
    cuda_lease_release(other);
    cuda_lease_release(NULL);
}

static void *take_and_release(void *arg)
{
    intptr_t good = 0;
    for (int i = 0; i < 200; i++) {
        struct cuda_lease *lease;
        good += take(&lease, UUID, arg) == 0;
        cuda_lease_release(lease);
    }
    return (void *)good;
}

Test(cuda_lease, threads_of_one_process_do_not_meet)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert(
            eq(int, pthread_create(&threads[i], NULL, take_and_release, NULL), 0));
    for (int i = 0; i < 4; i++) {
        void *good;
        pthread_join(threads[i], &good);
        cr_assert(eq(int, (int)(intptr_t)good, 200));
    }
}

/* Of many processes that start at once in an empty place, one gets it. */
Test(cuda_lease, one_of_many_gets_it)
{
    enum { PROCESSES = 16 };
    pid_t pids[PROCESSES];
    int ends[2], go[2];
    cr_assert(pipe(ends) == 0 && pipe(go) == 0);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            char c;
            struct cuda_lease *lease;
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(go[1]);
            while (read(go[0], &c, 1) > 0) /* until the parent closes its end */
                ;
            int rc = take(&lease, UUID, NULL);
            c = rc == 0 ? 'y' : rc == FF_EBUSY ? 'n' : 'e';
            if (write(ends[1], &c, 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
    }
    close(go[0]);
    close(go[1]);
    int yes = 0, no = 0;
    for (int i = 0; i < PROCESSES; i++) {
        char c = 0;
        cr_assert(eq(int, (int)read(ends[0], &c, 1), 1));
        yes += c == 'y';
        no += c == 'n';
    }
    for (int i = 0; i < PROCESSES; i++)
        end(pids[i], SIGKILL);
    cr_assert(eq(int, yes, 1));
    cr_assert(eq(int, no, PROCESSES - 1));
}

Test(cuda_lease, folder_and_file_are_open_to_every_user)
{
    struct cuda_lease *lease;
    struct stat st;
    char path[256];
    mode_t before = umask(0077);
    cr_assert(eq(int, take(&lease, UUID, NULL), 0));
    umask(before);
    cr_assert(eq(int, stat(folder, &st), 0));
    cr_assert(eq(int, (int)(st.st_mode & 07777), 01777));
    lease_path(path, UUID);
    cr_assert(eq(int, stat(path, &st), 0));
    cr_assert(eq(int, (int)(st.st_mode & 07777), 0666));
    cuda_lease_release(lease);
}

Test(cuda_lease, another_user_takes_part)
{
    if (geteuid() != 0)
        cr_skip_test("needs root to be another user");
    struct ff_err err = FF_ERR_INIT;
    struct cuda_lease *lease;
    pid_t pid = holder(UUID);
    int status;
    pid_t other = fork();
    if (other == 0) { /* as nobody: refused while root holds it, then makes its own */
        if (setgid(65534) || setuid(65534))
            _exit(10);
        int rc = take(&lease, UUID, &err);
        _exit(rc != FF_EBUSY                   ? 11
              : !strstr(err.text, "user root") ? 12
              : take(&lease, OTHER, &err)      ? 13
                                               : 0);
    }
    cr_assert(eq(int, waitpid(other, &status, 0), other));
    cr_assert(eq(int, status, 0), "exit %d", WEXITSTATUS(status));
    cr_assert(eq(int, take(&lease, OTHER, &err), 0), "%s", err.text); /* of nobody's */
    cuda_lease_release(lease);
    end(pid, SIGKILL);
}

Test(cuda_lease, a_file_that_is_only_readable_still_locks)
{
    if (geteuid() != 0)
        cr_skip_test("needs root to be another user");
    struct cuda_lease *lease;
    char path[256];
    int status;
    cr_assert(eq(int, take(&lease, UUID, NULL), 0));
    cuda_lease_release(lease);
    lease_path(path, UUID);
    cr_assert(eq(int, chmod(path, 0644), 0));
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(65534) || setuid(65534))
            _exit(10);
        _exit(take(&lease, UUID, NULL) ? 11 : 0);
    }
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_assert(eq(int, status, 0), "exit %d", WEXITSTATUS(status));
}

Test(cuda_lease, links_and_pipes_are_refused)
{
    struct ff_err err = FF_ERR_INIT;
    struct cuda_lease *lease;
    char path[256], victim[256], *text;
    size_t bytes;
    cr_assert(eq(int, mkdir(folder, 0755), 0));
    snprintf(victim, sizeof victim, "%s/victim", top);
    FILE *f = fopen(victim, "w");
    fputs("precious", f);
    fclose(f);
    lease_path(path, UUID);
    cr_assert(eq(int, symlink(victim, path), 0));
    cr_assert(eq(int, take(&lease, UUID, &err), FF_EFAIL), "%s", err.text);
    unlink(path);
    cr_assert(eq(int, link(victim, path), 0));
    cr_assert(eq(int, take(&lease, UUID, &err), FF_EFAIL), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, "not a plain file"), NULL), "%s", err.text);
    unlink(path);
    cr_assert(eq(int, mkfifo(path, 0666), 0));
    cr_assert(eq(int, take(&lease, UUID, &err), FF_EFAIL), "%s", err.text);
    unlink(path);
    cr_assert(eq(int, mkdir(path, 0777), 0));
    cr_assert(eq(int, take(&lease, UUID, &err), FF_EFAIL), "%s", err.text);
    cr_assert(eq(int, rmdir(path), 0));
    cr_assert(eq(int, ff_read_file(&text, &bytes, victim, NULL), 0));
    cr_assert(eq(str, text, "precious"));
    free(text);
    /* The folder itself as a link, and as a file. */
    cr_assert(eq(int, rmdir(folder), 0));
    cr_assert(eq(int, symlink(top, folder), 0));
    cr_assert(eq(int, take(&lease, UUID, &err), FF_EFAIL), "%s", err.text);
    unlink(folder);
    cr_assert(eq(int, link(victim, folder), 0));
    cr_assert(eq(int, take(&lease, UUID, &err), FF_EFAIL), "%s", err.text);
}

Test(cuda_lease, text_of_a_stranger_is_shown_safely)
{
    static const char *const texts[] = {"", "no colon at all", "pid: 12",
                                        "pid: \033[31m7\nuser: a\001b\nhost: moon\n"};
    struct ff_err err = FF_ERR_INIT;
    struct cuda_lease *lease;
    char path[256];
    int fd;
    cr_assert(eq(int, mkdir(folder, 01777), 0));
    lease_path(path, UUID);
    cr_assert(eq(int, ff_lock(&fd, path, &err), 0), "%s", err.text);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ssize_t n = (ssize_t)strlen(texts[i]);
        cr_assert(ftruncate(fd, 0) == 0 && pwrite(fd, texts[i], (size_t)n, 0) == n);
        cr_assert(eq(int, take(&lease, UUID, &err), FF_EBUSY));
        for (const char *p = err.text; *p; p++)
            cr_assert(eq(int, iscntrl((unsigned char)*p), 0), "text %zu", i);
        cr_assert(i >= 2 || strstr(err.text, "held by another process"), "%s",
                  err.text);
    }
    cr_assert(ne(ptr, strstr(err.text, "user a?b"), NULL), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, ", host moon"), NULL), "%s", err.text);
    char *big = malloc(1 << 20);
    memset(big, 'x', 1 << 20);
    memcpy(big, "pid: ", 5);
    cr_assert(eq(int, (int)pwrite(fd, big, 1 << 20, 0), 1 << 20));
    free(big);
    cr_assert(eq(int, take(&lease, UUID, &err), FF_EBUSY));
    close(fd);
    cr_assert(eq(int, take(&lease, UUID, &err), 0), "%s", err.text);
    cuda_lease_release(lease);
}

Test(cuda_lease, an_impossible_folder_is_an_error)
{
    struct ff_err err = FF_ERR_INIT;
    struct cuda_lease *lease = (void *)1;
    cr_assert(eq(int, cuda_lease_take_in(&lease, "/nonexistent/leases", UUID, &err),
                 FF_EFAIL));
    cr_assert(eq(ptr, lease, NULL));
    cr_assert(ne(ptr, strstr(err.text, "/nonexistent/leases"), NULL), "%s", err.text);
}

/* A removed file would give two locks of one GPU: the folder keeps its lock. */
Test(cuda_lease, the_folder_is_kept_from_being_cleared)
{
    struct cuda_lease *lease;
    cr_assert(eq(int, take(&lease, UUID, NULL), 0));
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    cr_assert(fd >= 0);
    cr_assert(flock(fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    cuda_lease_release(lease);
    cr_assert(eq(int, flock(fd, LOCK_EX | LOCK_NB), 0));
    close(fd);
}
