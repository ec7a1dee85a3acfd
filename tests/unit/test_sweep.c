/* SPDX-License-Identifier: MIT */
/* The sweep's logic with a scripted executor: order, resume, failures, refusals, stops.
 */
#include <math.h>
#include <signal.h>

#include "log.h"
#include "sweep.h"
#include "sweep_fixture.h"

TestSuite(sweep, .init = fixture_setup, .fini = fixture_teardown, .timeout = 20);

/* One ff-grid run over the small grid. */
struct trial {
    struct ff_fake fake;
    struct ff_sweep_options options;
    const char *train, *lambdas, *switches;
    struct ff_err err;
    int rc, exit_code;
    int counts[FF_CELL_STATUS_COUNT];
};

static struct trial new_trial(const struct ff_fake_step *steps, int count)
{
    struct trial trial = {.options = FF_SWEEP_OPTIONS_INIT,
                          .train = "",
                          .lambdas = "1.0e-5, 2.0e-5",
                          .switches = ""};
    trial.fake.steps = steps;
    trial.fake.step_count = count;
    trial.fake.info = FIXTURE_INFO;
    trial.options.poll_ms = trial.options.busy_wait_ms = 0;
    return trial;
}

static void run_trial(struct trial *trial)
{
    struct ff_exec exec;
    struct ff_plan *plan;
    struct ff_sweep *sweep = NULL;
    char out[128];
    snprintf(out, sizeof out, "%s/out", fixture_dir);
    struct ff_grid *grid = fixture_grid(trial->train, trial->lambdas, trial->switches);
    ff_exec_fake(&exec, &trial->fake);
    trial->exit_code = -1;
    cr_assert(
        eq(int, ff_plan_create(&plan, grid, &exec, &fixture_programs, &trial->err), 0),
        "%s", trial->err.text);
    trial->rc = ff_sweep_open(&sweep, out, plan, &exec, &fixture_programs,
                              &trial->options, &trial->err);
    if (!trial->rc)
        trial->rc = ff_sweep_run(&trial->exit_code, sweep, &trial->err);
    if (sweep)
        ff_sweep_count(trial->counts, ff_sweep_view_of(sweep));
    ff_sweep_close(sweep);
    ff_plan_destroy(plan);
    ff_grid_destroy(grid);
    cr_assert(eq(int, trial->fake.surprises, 0));
}

/* A run without script that must find `trained` and `scored` to do and end well. */
static void expect_rest(int trained, int scored)
{
    struct trial trial = new_trial(NULL, 0);
    run_trial(&trial);
    cr_assert(eq(int, trial.rc, 0), "%s", trial.err.text);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK));
    cr_assert(eq(int, trial.fake.trained, trained));
    cr_assert(eq(int, trial.fake.scored, scored));
}

static struct ff_sweep_view load_view(void)
{
    struct ff_sweep_view view;
    struct ff_err err = FF_ERR_INIT;
    char out[128];
    snprintf(out, sizeof out, "%s/out", fixture_dir);
    cr_assert(eq(int, ff_sweep_view_load(&view, out, &err), 0), "%s", err.text);
    return view;
}

static void cell_path(char path[256], int cell, const char *name)
{
    struct ff_sweep_view view = load_view();
    snprintf(path, 256, "%s/out/cells/%s/%s", fixture_dir,
             view.grid->cells[cell].train_key, name);
    ff_sweep_view_fini(&view);
}

Test(sweep, runs_every_cell_once_and_keeps_it)
{
    struct trial trial = new_trial(NULL, 0);
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.trained, 4));
    cr_assert(eq(int, trial.fake.scored, 4));
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 4));
    cr_assert(strstr(trial.fake.last_argv, "ijb --root") != NULL);
    cr_assert(strstr(trial.fake.last_argv, "--flip on --norm on --det on") != NULL);
    expect_rest(0, 0);
}

Test(sweep, results_come_from_the_run_directory)
{
    expect_rest(4, 4);
    struct ff_sweep_view view = load_view();
    const struct ff_cell_result *result = &view.results[3];
    cr_assert(eq(int, result->status, FF_CELL_DONE));
    cr_assert(eq(int, result->drop_count, 2));
    cr_assert(eq(i64, result->drops[1], 7));
    cr_assert(eq(dbl, result->seconds, 20));
    cr_assert(eq(dbl, result->final_loss, 1.25));
    cr_assert(
        eq(dbl, ff_cell_result_metric(view.grid, result), result->evals[0].tar[5]));
    cr_assert(not(view.alive));
    ff_sweep_view_fini(&view);
}

Test(sweep, time_left_is_a_lower_bound_before_an_evaluation_was_timed)
{
    struct trial trial = new_trial(NULL, 0);
    bool at_least;
    char text[40];
    trial.options.max_hours = 1e-9; /* starts nothing */
    run_trial(&trial);
    struct ff_sweep_view view = load_view();
    cr_assert(isnan(ff_sweep_eta(&at_least, &view, NAN)));
    cr_assert(eq(str, (char *)ff_sweep_eta_text(text, &view, NAN), "unknown"));
    double iterations = 4.0 * (double)view.totals[0];
    cr_assert(lt(dbl, 0, iterations));
    cr_assert(eq(dbl, ff_sweep_eta(&at_least, &view, 0.5), iterations / 2));
    cr_assert(at_least);
    ff_sweep_eta_text(text, &view, 20 / iterations);
    cr_assert(eq(str, text, "> 20 s"));
    ff_sweep_view_fini(&view);

    trial = new_trial(NULL, 0);
    trial.options.max_cells = 1;
    run_trial(&trial); /* one cell in 20 s, its scoring at once */
    view = load_view();
    cr_assert(epsilon_eq(dbl, ff_sweep_eta(&at_least, &view, NAN), 60, 3));
    cr_assert(not(at_least));
    ff_sweep_view_fini(&view);
}

Test(sweep, energy_is_read_where_a_run_tells_it)
{
    char path[256];
    expect_rest(4, 4);
    cell_path(path, 1, "summary.yaml");
    FILE *f = fopen(path, "a");
    cr_assert(f != NULL);
    fputs("energy_joules: 1.5e+06\n", f);
    fclose(f);
    struct ff_sweep_view view = load_view();
    cr_assert(isnan(view.results[0].energy_joules));
    cr_assert(eq(dbl, view.results[1].energy_joules, 1.5e6));
    ff_sweep_view_fini(&view);
}

Test(sweep, checkpoint_goes_and_model_stays_after_done)
{
    char path[256];
    expect_rest(4, 4);
    cell_path(path, 0, "checkpoint.h5");
    cr_assert(eq(int, access(path, F_OK), -1));
    cell_path(path, 0, "model.h5");
    cr_assert(eq(int, access(path, F_OK), 0));
}

Test(sweep, failed_cell_does_not_stop_the_others_and_waits_for_retry)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, FF_EXIT_NOMEM, 0}};
    struct trial trial = new_trial(steps, 1);
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_FAILED));
    cr_assert(eq(int, trial.counts[FF_CELL_FAILED], 1));
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 3));
    struct ff_sweep_view view = load_view();
    cr_assert(eq(int, view.results[0].status, FF_CELL_FAILED));
    cr_assert(strstr(view.results[0].reason, "out of memory: last words") != NULL, "%s",
              view.results[0].reason);
    ff_sweep_view_fini(&view);

    trial = new_trial(NULL, 0);
    run_trial(&trial);
    cr_assert(eq(int, trial.fake.started, 0));
    cr_assert(eq(int, trial.exit_code, FF_EXIT_FAILED));

    trial = new_trial(NULL, 0);
    trial.options.retry_failed = true;
    run_trial(&trial);
    cr_assert(eq(int, trial.fake.trained, 1));
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK));
}

Test(sweep, signals_and_missing_results_are_failures)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_SIGNAL, SIGSEGV, 0},
                                         {"ff-train", FF_FAKE_EMPTY, 0, 0},
                                         {"ff-train", FF_FAKE_SUCCEED, 0, 0},
                                         {"ff-eval", FF_FAKE_EMPTY, 0, 0}};
    struct trial trial = new_trial(steps, 4);
    run_trial(&trial);
    cr_assert(eq(int, trial.counts[FF_CELL_FAILED], 3));
    struct ff_sweep_view view = load_view();
    cr_assert(eq(str, view.results[0].reason, "ff-train ended by signal 11"));
    cr_assert(eq(str, view.results[1].reason, "ff-train ended without DONE"));
    cr_assert(strstr(view.results[2].reason, "no score") != NULL);
    ff_sweep_view_fini(&view);
    trial = new_trial(NULL, 0);
    trial.options.retry_failed = true;
    run_trial(&trial);
    cr_assert(eq(int, trial.fake.trained, 2));
    cr_assert(eq(int, trial.fake.scored, 3));
}

Test(sweep, fail_fast_stops_at_the_first_failure)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, 1, 0}};
    struct trial trial = new_trial(steps, 1);
    trial.options.fail_fast = true;
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_FAILED));
    cr_assert(eq(int, trial.fake.started, 1));
}

Test(sweep, diverged_is_a_result)
{
    const struct ff_fake_step steps[] = {
        {"ff-train", FF_FAKE_EXIT, FF_EXIT_DIVERGED, 0}};
    struct trial trial = new_trial(steps, 1);
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK));
    cr_assert(eq(int, trial.counts[FF_CELL_DIVERGED], 1));
    struct ff_sweep_view view = load_view();
    cr_assert(eq(str, view.results[0].reason, "loss is NaN"));
    ff_sweep_view_fini(&view);
    expect_rest(0, 0);
}

Test(sweep, stopped_run_goes_on_from_its_checkpoint)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, FF_EXIT_STOPPED, 4},
                                         {"ff-train", FF_FAKE_EXIT, FF_EXIT_STOPPED, 6},
                                         {"ff-train", FF_FAKE_SUCCEED, 0, 0}};
    struct trial trial = new_trial(steps, 3);
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK));
    cr_assert(eq(int, trial.fake.trained, 6));
}

Test(sweep, stops_without_progress_become_a_failure)
{
    const struct ff_fake_step steps[] = {
        {"ff-train", FF_FAKE_EXIT, FF_EXIT_STOPPED, 4},
        {"ff-train", FF_FAKE_EXIT, FF_EXIT_STOPPED, 4},
        {"ff-train", FF_FAKE_SIGNAL, SIGKILL, 0},
        {"ff-train", FF_FAKE_EXIT, FF_EXIT_STOPPED, 4}};
    struct trial trial = new_trial(steps, 4);
    run_trial(&trial);
    cr_assert(eq(int, trial.counts[FF_CELL_FAILED], 1));
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 3));
}

Test(sweep, killed_child_goes_on)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_SIGNAL, SIGKILL, 0},
                                         {"ff-train", FF_FAKE_SUCCEED, 0, 0},
                                         {"ff-eval", FF_FAKE_SIGNAL, SIGKILL, 0},
                                         {"ff-eval", FF_FAKE_SUCCEED, 0, 0}};
    struct trial trial = new_trial(steps, 4);
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK));
    cr_assert(eq(int, trial.fake.trained, 5));
    cr_assert(eq(int, trial.fake.scored, 5));
}

Test(sweep, busy_is_tried_again)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, FF_EXIT_BUSY, 0},
                                         {"ff-train", FF_FAKE_EXIT, FF_EXIT_BUSY, 0},
                                         {"ff-train", FF_FAKE_SUCCEED, 0, 0},
                                         {"ff-eval", FF_FAKE_EXIT, FF_EXIT_BUSY, 0},
                                         {"ff-eval", FF_FAKE_SUCCEED, 0, 0}};
    struct trial trial = new_trial(steps, 5);
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK));
    cr_assert(eq(int, trial.fake.trained, 6));
    cr_assert(eq(int, trial.fake.scored, 5));
}

/* The events.log of the sweep; the caller frees. */
static char *log_text(void)
{
    char path[128], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/out/events.log", fixture_dir);
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    return text;
}

/* What the system said stands at the end, behind a path of any length. */
Test(sweep, a_long_reason_keeps_its_end)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, FF_EXIT_FAILED, 0}};
    char line[700] = "ff-train: /";
    memset(line + strlen(line), 'd', 600);
    strcat(line, "/checkpoint.h5: cannot write: Input/output error");
    const char *const words[] = {line};
    struct trial trial = new_trial(steps, 1);
    trial.fake.words = words;
    run_trial(&trial);
    struct ff_sweep_view view = load_view();
    const char *reason = view.results[0].reason;
    cr_assert(
        eq(int, strncmp(reason, "ff-train: exit code 1, failed: ff-train: /d", 43), 0),
        "%s", reason);
    cr_assert(ne(ptr,
                 strstr(reason, "d/checkpoint.h5: cannot write: Input/output error"),
                 NULL),
              "%s", reason);
    ff_sweep_view_fini(&view);
    char *text = log_text();
    cr_assert(ne(ptr, strstr(text, line), NULL)); /* whole there */
    free(text);
}

/* It would fail every cell that follows. */
Test(sweep, a_full_disk_ends_the_sweep_and_fails_no_cell)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_SUCCEED, 0, 0},
                                         {"ff-eval", FF_FAKE_SUCCEED, 0, 0},
                                         {"ff-train", FF_FAKE_EXIT, FF_EXIT_FAILED, 0}};
    const char *const words[] = {
        "", "", "ff-train: c/checkpoint.h5: cannot write (No space left on device)"};
    struct trial trial = new_trial(steps, 3);
    trial.fake.words = words;
    run_trial(&trial);
    cr_assert(eq(int, trial.rc, FF_EFAIL));
    cr_assert(ne(ptr, strstr(trial.err.text, words[2]), NULL), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.started, 3));
    cr_assert(eq(int, trial.counts[FF_CELL_FAILED], 0));
    expect_rest(3, 3);
}

#define HELD FF_SAYS_GPU_BUSY " GPU-1 is held by pid 9 (ff-train a.yaml), user anna"
#define FILLED FF_SAYS_GPU_FULL " 9 GiB wanted, 1 free: pid 12 (python3) 70.0 GiB"

static void expect_stop_by(int code, const char *words, const char *reason, int tries)
{
    const struct ff_fake_step step = {"ff-train", FF_FAKE_EXIT, code, 0};
    const struct ff_fake_step steps[] = {step, step, step, step};
    const char *const texts[] = {words, words, words, words};
    struct trial trial = new_trial(steps, 4);
    trial.fake.words = texts;
    run_trial(&trial);
    cr_assert(eq(int, trial.rc, 0), "%s", trial.err.text);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_BUSY));
    cr_assert(eq(int, trial.fake.started, tries));
    cr_assert(eq(int, trial.counts[FF_CELL_PLANNED], 4));
    char *text = log_text(), wanted[256];
    snprintf(wanted, sizeof wanted, "end code=\"7\" reason=\"%s\"", reason);
    cr_assert(ne(ptr, strstr(text, wanted), NULL), "%s", text);
    cr_assert(eq(ptr, strstr(text, " failed "), NULL), "%s", text);
    free(text);
    expect_rest(4, 4);
}

Test(sweep, a_held_gpu_stops_the_sweep_and_names_the_holder)
{
    expect_stop_by(FF_EXIT_BUSY, "ff-train: " HELD, HELD, 1);
}

Test(sweep, a_gpu_filled_by_others_is_no_fault_of_the_cell)
{
    expect_stop_by(FF_EXIT_NOMEM, "ff-train: " FILLED, FILLED, 1);
}

Test(sweep, a_run_directory_that_stays_busy_stops_the_sweep)
{
    expect_stop_by(FF_EXIT_BUSY, "lock: held by pid 7", "lock: held by pid 7", 4);
}

Test(sweep, words_of_another_exit_code_mean_nothing)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, FF_EXIT_NOMEM, 0},
                                         {"ff-train", FF_FAKE_EXIT, 1, 0}};
    const char *const words[] = {"ff-train: " HELD, "ff-train: " FILLED};
    struct trial trial = new_trial(steps, 2);
    trial.fake.words = words;
    trial.options.wait_gpu = true;
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_FAILED));
    cr_assert(eq(int, trial.counts[FF_CELL_FAILED], 2));
}

Test(sweep, a_gpu_is_waited_for)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, FF_EXIT_BUSY, 0},
                                         {"ff-train", FF_FAKE_EXIT, FF_EXIT_NOMEM, 0},
                                         {"ff-train", FF_FAKE_EXIT, FF_EXIT_BUSY, 0},
                                         {"ff-train", FF_FAKE_EXIT, FF_EXIT_BUSY, 0},
                                         {"ff-train", FF_FAKE_EXIT, FF_EXIT_BUSY, 0},
                                         {"ff-train", FF_FAKE_SUCCEED, 0, 0},
                                         {"ff-eval", FF_FAKE_EXIT, FF_EXIT_BUSY, 0},
                                         {"ff-eval", FF_FAKE_SUCCEED, 0, 0}};
    const char *const words[] = {HELD, FILLED, HELD, HELD, HELD, NULL, HELD, NULL};
    struct trial trial = new_trial(steps, 8);
    trial.fake.words = words;
    trial.options.wait_gpu = true;
    trial.options.gpu_wait_ms = 10;
    trial.options.gpu_wait_max_ms = 40;
    double start = ff_now();
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.trained, 9));
    cr_assert(eq(int, trial.fake.scored, 5));
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 4));
    /* 10, 20, 40, 40 and 40 ms, then 10 for the scoring */
    cr_assert(le(dbl, 0.16, ff_now() - start));
    struct ff_sweep_view view = load_view();
    const struct ff_sweep_record *record =
        ff_sweep_state_record(&view.state, view.grid->cells[0].train_key);
    cr_assert(eq(int, record->attempts, 1));
    cr_assert(eq(str, view.state.waiting, ""));
    ff_sweep_view_fini(&view);
    char *text = log_text();
    int waits = 0;
    for (const char *p = text; (p = strstr(p, " wait key=")); p++)
        waits++;
    cr_assert(eq(int, waits, 6));
    cr_assert(ne(ptr, strstr(text, "phase=\"train\" code=\"5\""), NULL), "%s", text);
    free(text);
}

Test(sweep, a_wait_for_the_gpu_can_be_interrupted)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, FF_EXIT_BUSY, 0}};
    const char *const words[] = {HELD};
    struct trial trial = new_trial(steps, 1);
    trial.fake.words = words;
    trial.options.wait_gpu = true;
    trial.options.poll_ms = 400;
    pid_t me = getpid(), pid = fork();
    if (pid == 0) {
        usleep(300000);
        kill(me, SIGINT);
        _exit(0);
    }
    ff_stop_install();
    double start = ff_now();
    run_trial(&trial);
    cr_assert(lt(dbl, ff_now() - start, 10));
    cr_assert(eq(int, trial.exit_code, FF_EXIT_STOPPED));
    cr_assert(eq(int, trial.fake.started, 1));
    cr_assert(eq(int, trial.counts[FF_CELL_PLANNED], 4));
}

Test(sweep, status_knows_of_a_wait)
{
    struct ff_sweep_state state = {0};
    struct ff_event event;
    struct {
        const char *time, *kind, *seconds, *waiting;
    } const events[] = {{"2026-01-31T12:00:00Z", "begin", "", ""},
                        {"2026-01-31T12:00:01Z", "start", "", ""},
                        {"2026-01-31T12:00:05Z", "exit", "", ""},
                        {"2026-01-31T12:00:05Z", "wait", "0", HELD},
                        {"2026-01-31T12:10:00Z", "start", "", ""},
                        {"2026-01-31T12:10:05Z", "exit", "", ""},
                        {"2026-01-31T12:10:05Z", "wait", "600", HELD},
                        {"2026-01-31T13:00:00Z", "begin", "", ""}};
    int64_t since = 0;
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        ff_event_init(&event, events[i].kind);
        strcpy(event.time, events[i].time);
        ff_event_add(&event, "key", "abc");
        ff_event_add(&event, "phase", "train");
        ff_event_add(&event, "code", "7");
        ff_event_add(&event, "seconds", "%s", events[i].seconds);
        ff_event_add(&event, "reason", "%s", events[i].waiting);
        cr_assert(eq(int, ff_sweep_state_apply(&state, &event, NULL), 0));
        cr_assert(eq(str, state.waiting, (char *)events[i].waiting), "event %zu", i);
        if (i == 3)
            since = state.waiting_since;
        ff_event_fini(&event);
    }
    cr_assert(eq(i64, state.waiting_since, since)); /* of the first try */
    cr_assert(eq(int, state.records[0].attempts, 0));
    ff_sweep_state_fini(&state);
}

static int ask_stop(void *context)
{
    int *waits = context;
    if (++*waits == 2)
        raise(SIGINT);
    return 0;
}

Test(sweep, interrupt_stops_the_child_and_the_next_run_goes_on)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_SUCCEED, 0, 0},
                                         {"ff-eval", FF_FAKE_HANG, 0, 0}};
    struct trial trial = new_trial(steps, 2);
    int waits = 0;
    trial.fake.on_wait = ask_stop;
    trial.fake.on_wait_context = &waits;
    ff_stop_install();
    run_trial(&trial);
    cr_assert(eq(int, trial.rc, 0), "%s", trial.err.text);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_STOPPED));
    cr_assert(eq(int, trial.counts[FF_CELL_STALE], 1));
    cr_assert(eq(int, trial.counts[FF_CELL_FAILED], 0));
    struct ff_sweep_view view = load_view();
    cr_assert(eq(int, view.results[0].status, FF_CELL_STALE));
    cr_assert(view.results[0].trained);
    ff_sweep_view_fini(&view);
}

Test(sweep, trained_but_unscored_is_only_scored)
{
    char path[256];
    expect_rest(4, 4);
    cell_path(path, 1, "eval-ijbc.yaml");
    cr_assert(eq(int, unlink(path), 0));
    expect_rest(0, 1);
}

Test(sweep, damaged_score_is_scored_again)
{
    char path[256];
    expect_rest(4, 4);
    cell_path(path, 1, "eval-ijbc.yaml");
    FILE *f = fopen(path, "w");
    fputs("tar: [", f);
    fclose(f);
    expect_rest(0, 1);
}

Test(sweep, broken_run_directory_is_set_aside)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_GARBAGE, 0, 0}};
    struct trial trial = new_trial(steps, 1);
    char path[256];
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_FAILED));
    cell_path(path, 0, "");
    strcpy(path + strlen(path) - 1, ".broken-1/DONE");
    cr_assert(eq(int, access(path, F_OK), 0), "%s", path);
}

Test(sweep, damaged_summary_of_a_finished_cell_is_left_out)
{
    static const char *const damaged[] = {
        "seconds: [", "seconds: 5.0\nbackend: x\nchanges: [1, x]\n", "bit_equal: 7\n"};
    char path[256];
    expect_rest(4, 4);
    cell_path(path, 1, "summary.yaml");
    for (int i = 0; i < 3; i++) {
        FILE *f = fopen(path, "w");
        fputs(damaged[i], f);
        fclose(f);
        expect_rest(0, 0);
        struct ff_sweep_view view = load_view();
        const struct ff_cell_result *result = &view.results[1];
        cr_assert(eq(int, result->status, FF_CELL_DONE));
        cr_assert(ne(ptr, strstr(result->damage, "summary.yaml"), NULL));
        cr_assert(not(isnan(ff_cell_result_metric(view.grid, result))));
        cr_assert(isnan(result->seconds));
        cr_assert(eq(int, result->drop_count, 0));
        cr_assert(eq(str, (char *)result->backend, ""));
        ff_sweep_view_fini(&view);
    }
}

Test(sweep, damaged_checkpoint_is_set_aside)
{
    const struct ff_fake_step steps[] = {
        {"ff-train", FF_FAKE_EXIT, FF_EXIT_STOPPED, 3}};
    struct trial trial = new_trial(steps, 1);
    trial.options.max_cells = 1;
    char path[256];
    run_trial(&trial);
    cell_path(path, 1, "");
    cr_assert(eq(int, ff_mkdirs(path, NULL), 0));
    cell_path(path, 1, "checkpoint.h5");
    FILE *f = fopen(path, "w");
    fputs("no HDF5", f);
    fclose(f);
    expect_rest(3, 3);
    cell_path(path, 1, "");
    strcpy(path + strlen(path) - 1, ".broken-1/checkpoint.h5");
    cr_assert(eq(int, access(path, F_OK), 0));
}

Test(sweep, new_axis_values_add_cells)
{
    expect_rest(4, 4);
    struct trial trial = new_trial(NULL, 0);
    trial.lambdas = "1.0e-5, 1.5e-5, 2.0e-5";
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.trained, 2));
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 6));
}

Test(sweep, changed_meaning_of_finished_cells_is_refused)
{
    expect_rest(4, 4);
    struct trial trial = new_trial(NULL, 0);
    trial.train = "  momentum: 0.8\n";
    run_trial(&trial);
    cr_assert(eq(int, trial.rc, FF_EUSAGE));
    cr_assert(strstr(trial.err.text, "4 finished cells") != NULL, "%s", trial.err.text);
    cr_assert(strstr(trial.err.text, "momentum 0.9 -> 0.8") != NULL, "%s",
              trial.err.text);
    trial = new_trial(NULL, 0);
    trial.fake.info = "images: 640\nclasses: 20\nheight: 112\nfingerprint: other\n";
    run_trial(&trial);
    cr_assert(eq(int, trial.rc, FF_EUSAGE));
    cr_assert(strstr(trial.err.text, "data abc123 -> other") != NULL, "%s",
              trial.err.text);
    expect_rest(0, 0);
}

Test(sweep, settings_that_change_no_result_are_taken)
{
    expect_rest(4, 4);
    struct trial trial = new_trial(NULL, 0);
    trial.train = "  threads: 2\n  checkpoint_minutes: 1.0\n";
    run_trial(&trial);
    cr_assert(eq(int, trial.rc, 0), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.started, 0));
}

Test(sweep, changed_meaning_of_unfinished_cells_is_taken)
{
    struct trial trial = new_trial(NULL, 0);
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_EXIT, 1, 0}};
    trial.fake.steps = steps;
    trial.fake.step_count = 1;
    trial.options.fail_fast = true;
    run_trial(&trial);
    trial = new_trial(NULL, 0);
    trial.train = "  momentum: 0.8\n";
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.trained, 4));
}

Test(sweep, changed_switch_scores_without_training)
{
    expect_rest(4, 4);
    struct trial trial = new_trial(NULL, 0);
    trial.switches = ", flip: false";
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.trained, 0));
    cr_assert(eq(int, trial.fake.scored, 4));
    cr_assert(strstr(trial.fake.last_argv, "--flip off") != NULL);
}

Test(sweep, scores_files_of_pairs)
{
    fixture_pairs("faces");
    struct trial trial = new_trial(NULL, 0);
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.scored, 4));
    char wanted[256];
    snprintf(wanted, sizeof wanted,
             "ff-eval pairs --bin %s/lfw.bin --bin %s/cfp_fp.bin", fixture_dir,
             fixture_dir);
    cr_assert(strstr(trial.fake.last_argv, wanted) != NULL, "%s", trial.fake.last_argv);
    cr_assert(strstr(trial.fake.last_argv, "--flip") == NULL, "%s",
              trial.fake.last_argv);
    cr_assert(strstr(trial.fake.last_argv, "--key ") != NULL);
    struct ff_sweep_view view = load_view();
    for (int i = 0; i < 4; i++) {
        const struct ff_cell_result *result = &view.results[i];
        const double *accuracy = result->evals[0].accuracy;
        cr_assert(eq(int, result->status, FF_CELL_DONE));
        cr_assert(lt(dbl, 0, accuracy[0]));
        cr_assert(epsilon_eq(dbl, accuracy[1], accuracy[0] / 2, 1e-5));
        cr_assert(eq(dbl, ff_cell_result_metric(view.grid, result), accuracy[1]));
        cr_assert(isnan(accuracy[2]) && isnan(result->evals[0].tar[0]));
    }
    ff_sweep_view_fini(&view);
    expect_rest(0, 0);
    fixture_pairs("other faces"); /* other content: only the scores are stale */
    expect_rest(0, 4);
    expect_rest(0, 0);
}

Test(sweep, pairs_keep_no_features)
{
    fixture_pairs("faces");
    struct trial trial = new_trial(NULL, 0);
    trial.options.max_cells = 1;
    static char eval[600];
    snprintf(eval, sizeof eval, "%skeep: [model, features]\n", fixture_eval);
    fixture_eval = eval;
    run_trial(&trial);
    cr_assert(eq(int, trial.fake.scored, 1), "%s", trial.err.text);
    cr_assert(strstr(trial.fake.last_argv, "--save-features") == NULL);
}

Test(sweep, features_stay_where_keep_names_them)
{
    char path[256];
    struct trial trial = new_trial(NULL, 0);
    trial.options.max_cells = 1;
    char eval[256];
    snprintf(eval, sizeof eval,
             "eval:\n  - {protocol: ijbc, root: %s/ijb}\nmetric: tar@1e-1\n"
             "keep: [model, features]\n",
             fixture_dir);
    fixture_eval = eval;
    run_trial(&trial);
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 1), "%s", trial.err.text);
    cell_path(path, 0, "features-ijbc.h5");
    cr_assert(eq(int, access(path, F_OK), 0));
}

/* A scoring always writes features, so that a kill loses little; they stay if named. */
Test(sweep, features_go_when_a_cell_is_scored)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_SUCCEED, 0, 0},
                                         {"ff-eval", FF_FAKE_SIGNAL, 11, 0}};
    char path[256];
    struct trial trial = new_trial(steps, 2);
    trial.options.max_cells = 1;
    run_trial(&trial);
    cr_assert(strstr(trial.fake.last_argv, "--save-features") != NULL);
    cell_path(path, 0, "features-ijbc.h5");
    cr_assert(eq(int, access(path, F_OK), 0), "of a scoring that failed");
    trial = new_trial(NULL, 0);
    trial.options.max_cells = 1;
    trial.options.retry_failed = true;
    run_trial(&trial);
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 1), "%s", trial.err.text);
    cr_assert(ne(int, access(path, F_OK), 0));
}

Test(sweep, rescoring_never_trains)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_SUCCEED, 0, 0}};
    struct trial trial = new_trial(steps, 1);
    trial.options.max_cells = 2;
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_STOPPED));
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 2));
    trial = new_trial(NULL, 0);
    trial.options.score_only = trial.options.rescore = true;
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK));
    cr_assert(eq(int, trial.fake.trained, 0));
    cr_assert(eq(int, trial.fake.scored, 2));
}

/* Scores the finished cells again; the first one's ff-eval ends with `code`. */
static void score_again(int code, int exit_code, const char *reason)
{
    const struct ff_fake_step steps[] = {
        {"ff-eval", code ? FF_FAKE_EXIT : FF_FAKE_SUCCEED, code, 0}};
    struct trial trial = new_trial(steps, 1);
    trial.options.score_only = trial.options.rescore = true;
    trial.options.retry_failed = true;
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, exit_code), "%s", trial.err.text);
    cr_assert(eq(int, trial.fake.scored, 4));
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 4));
    struct ff_sweep_view view = load_view();
    const struct ff_cell_result *result = &view.results[0];
    cr_assert(eq(int, result->status, FF_CELL_DONE));
    cr_assert(eq(str, (char *)result->reason, (char *)reason));
    cr_assert(not(isnan(ff_cell_result_metric(view.grid, result))));
    cr_assert(eq(str, view.results[1].reason, ""));
    ff_sweep_view_fini(&view);
}

Test(sweep, a_failed_second_scoring_is_told_beside_the_first_score)
{
    expect_rest(4, 4);
    score_again(FF_EXIT_DATA, FF_EXIT_FAILED,
                "ff-eval: exit code 6, bad data: last words");
    expect_rest(0, 0);
    score_again(0, FF_EXIT_OK, "");
}

Test(sweep, scores_of_a_model_not_kept_stay)
{
    char path[256];
    expect_rest(4, 4);
    cell_path(path, 2, "model.h5");
    cr_assert(eq(int, unlink(path), 0));
    struct trial trial = new_trial(NULL, 0);
    trial.options.score_only = trial.options.rescore = true;
    run_trial(&trial);
    cr_assert(eq(int, trial.fake.scored, 3));
    cr_assert(eq(int, trial.counts[FF_CELL_DONE], 4));
    trial = new_trial(NULL, 0);
    trial.switches = ", norm: false";
    run_trial(&trial);
    cr_assert(eq(int, trial.counts[FF_CELL_FAILED], 1));
    cr_assert(eq(int, trial.exit_code, FF_EXIT_FAILED));
}

Test(sweep, only_picks_cells)
{
    struct trial trial = new_trial(NULL, 0);
    trial.options.only = "lambda=2e-5,tau=0.2";
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_OK));
    cr_assert(eq(int, trial.fake.trained, 1));
    cr_assert(eq(int, trial.counts[FF_CELL_PLANNED], 3));
}

Test(sweep, max_hours_stops_with_a_checkpoint)
{
    const struct ff_fake_step steps[] = {{"ff-train", FF_FAKE_HANG, 0, 5}};
    struct trial trial = new_trial(steps, 1);
    trial.options.max_hours = 1e-6;
    run_trial(&trial);
    cr_assert(eq(int, trial.exit_code, FF_EXIT_STOPPED));
    cr_assert(eq(int, trial.counts[FF_CELL_PLANNED], 4));
    expect_rest(4, 4);
}

Test(sweep, second_owner_is_refused)
{
    char path[128];
    int fd;
    snprintf(path, sizeof path, "%s/out", fixture_dir);
    cr_assert(eq(int, ff_mkdirs(path, NULL), 0));
    strcat(path, "/lock");
    cr_assert(eq(int, ff_lock(&fd, path, NULL), 0));
    struct trial trial = new_trial(NULL, 0);
    run_trial(&trial);
    cr_assert(eq(int, trial.rc, FF_EBUSY));
    cr_assert(strstr(trial.err.text, "pid") != NULL, "%s", trial.err.text);
    close(fd);
    expect_rest(4, 4);
}

Test(sweep, log_cut_at_any_line_still_ends_in_the_same_place)
{
    char path[128], *text;
    size_t bytes;
    expect_rest(4, 4);
    snprintf(path, sizeof path, "%s/out/events.log", fixture_dir);
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    for (size_t cut = 0; cut < bytes; cut += 97) {
        FILE *f = fopen(path, "w");
        fwrite(text, 1, cut, f);
        fclose(f);
        expect_rest(0, 0);
    }
    free(text);
}
