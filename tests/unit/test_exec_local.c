/* SPDX-License-Identifier: MIT */
/* The local executor with real children: small shell scripts. */
#include <signal.h>
#include <time.h>

#include "exec.h"
#include "sweep.h"
#include "sweep_fixture.h"

TestSuite(exec_local, .init = fixture_setup, .fini = fixture_teardown, .timeout = 30);

static struct ff_exec executor;
static char script[128], output[128];

static void prepare(const char *text)
{
    snprintf(script, sizeof script, "%s/program", fixture_dir);
    snprintf(output, sizeof output, "%s/output.txt", fixture_dir);
    fixture_file("program", text);
    cr_assert(eq(int, chmod(script, 0755), 0));
    cr_assert(eq(int, ff_exec_local_create(&executor, NULL), 0));
}

static struct ff_child_result run_script(const char *argument)
{
    const char *argv[] = {script, argument, NULL};
    pid_t pid = 0;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, executor.start(executor.context, &pid, argv, output, &err), 0),
              "%s", err.text);
    cr_assert(lt(int, 0, pid));
    return executor.wait(executor.context, 10000);
}

Test(exec_local, returns_exit_code_and_output)
{
    prepare("#!/bin/sh\necho one $1\necho two >&2\nexit 5\n");
    struct ff_child_result result = run_script("word");
    cr_assert(eq(int, result.state, FF_CHILD_EXITED));
    cr_assert(eq(int, result.value, 5));
    char *text;
    size_t bytes;
    cr_assert(eq(int, ff_read_file(&text, &bytes, output, NULL), 0));
    cr_assert(eq(str, text, "one word\ntwo\n"));
    free(text);
    ff_exec_destroy(&executor);
}

Test(exec_local, tells_a_signal_from_an_exit)
{
    prepare("#!/bin/sh\nkill -9 $$\n");
    struct ff_child_result result = run_script("");
    cr_assert(eq(int, result.state, FF_CHILD_SIGNALED));
    cr_assert(eq(int, result.value, SIGKILL));
    ff_exec_destroy(&executor);
}

Test(exec_local, stop_lets_the_program_write_its_checkpoint)
{
    prepare("#!/bin/sh\ntrap 'echo checkpoint; exit 4' TERM\necho up\n"
            "while :; do sleep 0.02; done\n");
    const char *argv[] = {script, NULL};
    pid_t pid;
    cr_assert(eq(int, executor.start(executor.context, &pid, argv, output, NULL), 0));
    char *text = NULL;
    size_t bytes;
    do {
        free(text);
        struct timespec pause = {0, 5000000};
        nanosleep(&pause, NULL);
        cr_assert(eq(int, ff_read_file(&text, &bytes, output, NULL), 0));
    } while (!strstr(text, "up"));
    free(text);
    struct ff_child_result result = executor.wait(executor.context, 0);
    cr_assert(eq(int, result.state, FF_CHILD_RUNNING));
    result = executor.stop(executor.context, 5000);
    cr_assert(eq(int, result.state, FF_CHILD_EXITED));
    cr_assert(eq(int, result.value, 4));
    ff_exec_destroy(&executor);
}

Test(exec_local, missing_program_is_an_error)
{
    struct ff_err err = FF_ERR_INIT;
    prepare("");
    const char *argv[] = {"/no/such/program", NULL};
    pid_t pid;
    cr_assert(
        eq(int, executor.start(executor.context, &pid, argv, output, &err), FF_EFAIL));
    cr_assert(strstr(err.text, "/no/such/program") != NULL);
    ff_exec_destroy(&executor);
}

/* A sweep with real children: scripts that play ff-train, ff-eval and ff-data. */
Test(exec_local, whole_sweep_over_scripts)
{
    struct ff_programs programs;
    struct ff_err err = FF_ERR_INIT;
    char out[128];
    fixture_file(
        "train",
        "#!/bin/sh\ncd \"$3\"\nkey=$(basename \"$PWD\")\necho \"$key\" > model.h5\n"
        "printf 'iteration: 20\\nsha256: %s\\n' $key > DONE\n");
    fixture_file("eval", "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --out) out=$2;; "
                         "--key) key=$2;; --model) model=$2;; esac; shift; done\n"
                         "printf 'model_sha256: %s\\neval_key: %s\\ntar:\\n"
                         "  - {far: 0.1, tar: 50.0}\\n' $(cat $model) $key > $out\n");
    fixture_file("data", "#!/bin/sh\nprintf '"
                         "images: 640\\nclasses: 20\\n"
                         "fingerprint: abc\\n"
                         "'\n");
    snprintf(programs.train, sizeof programs.train, "%s/train", fixture_dir);
    snprintf(programs.eval, sizeof programs.eval, "%s/eval", fixture_dir);
    snprintf(programs.data, sizeof programs.data, "%s/data", fixture_dir);
    snprintf(out, sizeof out, "%s/out", fixture_dir);
    chmod(programs.train, 0755);
    chmod(programs.eval, 0755);
    chmod(programs.data, 0755);
    cr_assert(eq(int, ff_exec_local_create(&executor, NULL), 0));
    struct ff_grid *grid = fixture_grid("", "1.0e-5, 2.0e-5", "");
    struct ff_plan *plan;
    struct ff_sweep *sweep;
    struct ff_sweep_options options = FF_SWEEP_OPTIONS_INIT;
    int exit_code = -1;
    cr_assert(eq(int, ff_plan_create(&plan, grid, &executor, &programs, &err), 0), "%s",
              err.text);
    cr_assert(eq(int,
                 ff_sweep_open(&sweep, out, plan, &executor, &programs, &options, &err),
                 0),
              "%s", err.text);
    cr_assert(eq(int, ff_sweep_run(&exit_code, sweep, &err), 0), "%s", err.text);
    cr_assert(eq(int, exit_code, 0));
    for (int i = 0; i < grid->cell_count; i++)
        cr_assert(eq(dbl,
                     ff_cell_result_metric(grid, &ff_sweep_view_of(sweep)->results[i]),
                     50));
    ff_sweep_close(sweep);
    ff_plan_destroy(plan);
    ff_grid_destroy(grid);
    ff_exec_destroy(&executor);
}
