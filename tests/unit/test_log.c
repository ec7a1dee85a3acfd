/* SPDX-License-Identifier: MIT */
/* Messages on a terminal: a progress line stays one line. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"

TestSuite(log, .timeout = 20);

/* What a terminal of `columns` (0 = it does not say) gets of a progress line, and of a
 * heatmap whose caller asks ff_terminal. */
static const char *seen(const char *line, int columns, const char *term)
{
    static char text[4096];
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
    cr_assert(ge(int, master, 0));
    cr_assert(eq(int, grantpt(master), 0));
    cr_assert(eq(int, unlockpt(master), 0));
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    cr_assert(ge(int, slave, 0));
    struct winsize size = {24, (unsigned short)columns, 0, 0};
    cr_assert(eq(int, ioctl(slave, TIOCSWINSZ, &size), 0));
    setenv("TERM", term, 1);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(slave, STDERR_FILENO);
        ff_progress(false, "%s", line);
        _exit(ff_terminal(STDERR_FILENO));
    }
    int status;
    waitpid(pid, &status, 0);
    cr_assert(eq(int, WEXITSTATUS(status), strcmp(term, "dumb") != 0));
    fcntl(master, F_SETFL, O_NONBLOCK);
    ssize_t bytes = read(master, text, sizeof text - 1);
    text[bytes > 0 ? bytes : 0] = 0;
    close(slave);
    close(master);
    return text;
}

Test(log, progress_is_cut_to_the_terminal)
{
    unsetenv("COLUMNS");
    cr_assert(eq(str, (char *)seen("0123456789", 8, "xterm"), "\r0123456\033[K"));
    cr_assert(eq(str, (char *)seen("0123456", 8, "xterm"), "\r0123456\033[K"));
    /* characters are counted, and stay whole */
    cr_assert(eq(str, (char *)seen("γ₀ δ λ τ", 6, "xterm"), "\rγ₀ δ \033[K"));
    cr_assert(eq(str, (char *)seen("γ₀ δ λ τ", 9, "xterm"), "\rγ₀ δ λ τ\033[K"));
}

Test(log, columns_or_80_where_the_terminal_does_not_say)
{
    char line[101];
    memset(line, 'x', 100);
    line[100] = 0;
    unsetenv("COLUMNS");
    cr_assert(eq(sz, strlen(seen(line, 0, "xterm")), 1 + 79 + 3));
    setenv("COLUMNS", "50", 1);
    cr_assert(eq(sz, strlen(seen(line, 0, "xterm")), 1 + 49 + 3));
    cr_assert(eq(sz, strlen(seen(line, 60, "xterm")), 1 + 59 + 3));
}

Test(log, a_dumb_terminal_gets_plain_lines)
{
    cr_assert(eq(str, (char *)seen("0123456789", 8, "dumb"), "0123456789\r\n"));
}
