/* SPDX-License-Identifier: MIT */
/* Sets of synthetic faces on disk; see synth_set.h.
 *
 * Pictures are made in chunks: the chunk's pictures in parallel, then written in order
 * by one thread, so the files do not depend on threads. The evaluation set is planned
 * first (templates, media, frames and crops are draws of the identity's stream), then
 * made, and the pair list follows from the templates. */
#include "synth_set.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "cli.h"
#include "log.h"
#include "params.h"
#include "process.h"
#include "recordio.h"
#include "rng.h"
#include "yaml_doc.h"

/* Raised when the same options give other pictures. */
#define GENERATOR 1

enum { CHUNK = 512 };

struct template_entry {
    int64_t identity; /* 0 .. eval_identities - 1 */
};

struct eval_image {
    struct ff_synth_item item;
    int64_t template_id, medium_id; /* both from 1 */
};

struct eval_plan {
    struct eval_image *images;
    struct template_entry *templates;
    int64_t image_count, template_count, media_count;
};

struct pair {
    int32_t a, b; /* template index, 0-based */
    int32_t same;
};

struct pair_list {
    struct pair *pairs;
    int64_t count, genuine;
};

/* Stage of the work for the progress line. */
struct progress {
    int64_t done, total;
    double start;
};

static void show_progress(struct progress *p, const char *what, int64_t more)
{
    char left[32];
    p->done += more;
    double seconds = ff_now() - p->start, rate = (double)p->done / fmax(seconds, 1e-9);
    bool last = p->done >= p->total;
    ff_progress(last, "%s: %lld of %lld pictures, %.0f/s, %s left", what,
                (long long)p->done, (long long)p->total, rate,
                ff_duration(left, (double)(p->total - p->done) / fmax(rate, 1e-9)));
}

/* ---- pictures ---- */

static int make_item(struct ff_synth_item *item, struct ff_image *image,
                     struct ff_face_scratch *scratch, const struct ff_synth_options *o,
                     struct ff_err *err)
{
    struct ff_face_identity identity;
    struct ff_face_nuisance nuisance;
    ff_face_identity_draw(&identity, (uint64_t)o->seed, item->id);
    ff_face_nuisance_draw(&nuisance, (uint64_t)o->seed, item->id, item->medium,
                          item->frame, o->hardness);
    item->score = ff_face_nuisance_score(&nuisance);
    int code = ff_face_render(image, item->points, scratch, &identity, &nuisance,
                              &item->crop, err);
    if (code)
        return code;
    return ff_encode_jpeg(&item->jpeg, &item->jpeg_bytes, image, nuisance.jpeg_quality,
                          true, err);
}

static void free_jpegs(struct ff_synth_item *items, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        free(items[i].jpeg);
        items[i].jpeg = NULL;
    }
}

int ff_synth_make(struct ff_synth_item *items, int64_t count,
                  const struct ff_synth_options *options, int threads,
                  struct ff_err *err)
{
    struct ff_err first = FF_ERR_INIT;
    for (int64_t i = 0; i < count; i++)
        items[i].jpeg = NULL;
#pragma omp parallel num_threads(threads)
    {
        struct ff_face_scratch scratch = {0};
        struct ff_image image = {0};
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = 0; i < count; i++) {
            struct ff_err mine = FF_ERR_INIT;
            if (make_item(&items[i], &image, &scratch, options, &mine)) {
#pragma omp critical(ff_synth_make_error)
                first = mine;
            }
        }
        ff_face_scratch_fini(&scratch);
        ff_image_fini(&image);
    }
    if (!first.code)
        return 0;
    free_jpegs(items, count);
    return ff_err_set(err, first.code, "%s", first.text);
}

static int stopped(struct ff_err *err)
{
    return ff_stop_requested()
               ? ff_err_set(err, FF_ESTOPPED, "stopped; nothing was kept")
               : 0;
}

/* ---- training set ---- */

static int write_train(const char *dir, const struct ff_synth_options *o, int threads,
                       struct progress *progress, struct ff_err *err)
{
    struct ff_rec_writer *writer = NULL;
    struct ff_synth_item *items = calloc(CHUNK, sizeof *items);
    const int64_t total = o->identities * o->images;
    int code = 0;
    if (!items)
        return ff_err_set(err, FF_ENOMEM, "no memory for a chunk of pictures");
    code =
        ff_rec_writer_create(&writer, dir, (int)o->image_size, (int)o->image_size, err);
    for (int64_t from = 0; !code && from < total; from += CHUNK) {
        int64_t count = total - from < CHUNK ? total - from : CHUNK;
        for (int64_t i = 0; i < count; i++) {
            items[i] =
                (struct ff_synth_item){.id = (uint64_t)((from + i) / o->images),
                                       .medium = (uint64_t)((from + i) % o->images)};
            ff_face_crop_aligned(&items[i].crop, (int)o->image_size);
        }
        code = ff_synth_make(items, count, o, threads, err);
        if (code)
            break;
        for (int64_t i = 0; !code && i < count; i++)
            code = ff_rec_writer_add(writer, (int64_t)items[i].id, items[i].jpeg,
                                     items[i].jpeg_bytes, err);
        free_jpegs(items, count);
        show_progress(progress, "training set", count);
        if (!code)
            code = stopped(err);
    }
    if (!code)
        code = ff_rec_writer_finish(writer, err);
    ff_rec_writer_destroy(writer);
    free(items);
    return code;
}

/* ---- evaluation set ---- */

static double draw_between(struct ff_rng *rng, double low, double high)
{
    return low + (high - low) * ff_rng_next(rng);
}

/* A loose crop: the face larger than the aligned one, rolled, off the centre. */
static void draw_crop(struct ff_face_crop *crop, struct ff_rng *rng,
                      const struct ff_synth_options *o)
{
    const double degree = 3.14159265358979323846 / 180, template_side = 112;
    double roll = o->hardness * 13 * ff_rng_next_normal(rng);
    crop->scale = (double)o->image_size / template_side * draw_between(rng, 1.0, 1.5);
    crop->roll_rad = degree * fmin(fmax(roll, -40), 40);
    double side = crop->scale * template_side;
    crop->width_px = (int)(side * draw_between(rng, 1.4, 1.8));
    crop->height_px = (int)(side * draw_between(rng, 1.4, 1.9));
    double x = crop->width_px * draw_between(rng, 0.42, 0.58);
    double y = crop->height_px * draw_between(rng, 0.42, 0.58);
    /* The template's centre comes to lie at (x, y). */
    double centre = 0.5 * (template_side - 1) * crop->scale;
    crop->x_px = x - centre * (cos(crop->roll_rad) - sin(crop->roll_rad));
    crop->y_px = y - centre * (sin(crop->roll_rad) + cos(crop->roll_rad));
}

/* Pictures of the next template: half have one, some two or three, some a handful. */
static int64_t draw_template_size(struct ff_rng *rng, int64_t left, bool keep_one)
{
    double kind = ff_rng_next(rng), more = ff_rng_next(rng);
    int64_t size = kind < 0.5   ? 1
                   : kind < 0.8 ? 2 + (more < 0.5)
                                : 4 + (int64_t)(3 * more);
    int64_t most = keep_one ? left - 1 : left;
    return size < most ? size : most;
}

static void plan_identity(struct eval_plan *plan, int64_t identity,
                          const struct ff_synth_options *o)
{
    struct ff_rng rng = {(uint64_t)o->seed,
                         ff_stream("synth/plan") + (uint64_t)identity, 0};
    uint64_t medium = 0;
    int64_t left = o->eval_images, first_template = plan->template_count;
    while (left > 0) {
        /* Everyone has two templates, or there would be no genuine pair. */
        bool keep_one = plan->template_count == first_template && left > 1;
        int64_t size = draw_template_size(&rng, left, keep_one);
        plan->templates[plan->template_count++].identity = identity;
        while (size > 0) {
            double kind = ff_rng_next(&rng);
            int64_t frames = kind < 0.6 ? 1 : 2 + (int64_t)((kind - 0.6) / 0.4 * 3);
            if (frames > size)
                frames = size;
            plan->media_count++;
            for (int64_t f = 0; f < frames; f++) {
                struct eval_image *image = &plan->images[plan->image_count++];
                image->template_id = plan->template_count;
                image->medium_id = plan->media_count;
                image->item = (struct ff_synth_item){.id = FF_SYNTH_EVAL_FIRST +
                                                           (uint64_t)identity,
                                                     .medium = medium,
                                                     .frame = (uint64_t)f};
                draw_crop(&image->item.crop, &rng, o);
            }
            medium++;
            size -= frames;
            left -= frames;
        }
    }
}

static void plan_fini(struct eval_plan *plan)
{
    free(plan->images);
    free(plan->templates);
}

static int plan_init(struct eval_plan *plan, const struct ff_synth_options *o,
                     struct ff_err *err)
{
    const int64_t images = o->eval_identities * o->eval_images;
    *plan = (struct eval_plan){0};
    plan->images = calloc((size_t)images, sizeof *plan->images);
    plan->templates = calloc((size_t)images, sizeof *plan->templates);
    if (!plan->images || !plan->templates) {
        plan_fini(plan);
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld evaluation pictures",
                          (long long)images);
    }
    for (int64_t i = 0; i < o->eval_identities; i++)
        plan_identity(plan, i, o);
    return 0;
}

/* Open-addressing set of pair keys; 0 = empty slot. Returns whether key was new. */
static bool set_insert(uint64_t *slots, uint64_t mask, uint64_t key)
{
    uint64_t at = key * 0x9E3779B97F4A7C15u >> 20 & mask;
    while (slots[at]) {
        if (slots[at] == key)
            return false;
        at = (at + 1) & mask;
    }
    slots[at] = key;
    return true;
}

/* `wanted` different impostor pairs by rejection; cheap while wanted is at most a
 * quarter of what there is. */
static int sample_impostors(struct pair_list *list, const struct eval_plan *plan,
                            int64_t wanted, uint64_t seed, struct ff_err *err)
{
    uint64_t slots = 1024;
    while (slots < (uint64_t)wanted * 2)
        slots *= 2;
    uint64_t *set = calloc(slots, sizeof *set);
    if (!set)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld pairs",
                          (long long)wanted);
    struct ff_rng rng = {seed, ff_stream("synth/impostors"), 0};
    const double count = (double)plan->template_count;
    while (wanted > 0) {
        int32_t a = (int32_t)(count * ff_rng_next(&rng));
        int32_t b = (int32_t)(count * ff_rng_next(&rng));
        if (a > b) {
            int32_t t = a;
            a = b;
            b = t;
        }
        if (plan->templates[a].identity == plan->templates[b].identity ||
            !set_insert(set, slots - 1, (uint64_t)a << 32 | (uint64_t)b))
            continue;
        list->pairs[list->count++] = (struct pair){a, b, 0};
        wanted--;
    }
    free(set);
    return 0;
}

/* All impostor pairs, of which a random `wanted` are kept. */
static int choose_impostors(struct pair_list *list, const struct eval_plan *plan,
                            int64_t possible, int64_t wanted, uint64_t seed,
                            struct ff_err *err)
{
    struct pair *all = malloc((size_t)(possible + 1) * sizeof *all);
    int64_t *order = malloc((size_t)(possible + 1) * sizeof *order), count = 0;
    if (!all || !order) {
        free(all);
        free(order);
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld pairs",
                          (long long)possible);
    }
    for (int32_t a = 0; a < plan->template_count; a++)
        for (int32_t b = a + 1; b < plan->template_count; b++)
            if (plan->templates[a].identity != plan->templates[b].identity)
                all[count++] = (struct pair){a, b, 0};
    ff_rng_permutation(order, possible, seed, ff_stream("synth/impostors"));
    for (int64_t i = 0; i < wanted; i++)
        list->pairs[list->count++] = all[order[i]];
    free(order);
    free(all);
    return 0;
}

static int pairs_init(struct pair_list *list, const struct eval_plan *plan,
                      const struct ff_synth_options *o, struct ff_err *err)
{
    const int64_t t = plan->template_count;
    *list = (struct pair_list){0};
    for (int64_t a = 0; a < t; a++)
        for (int64_t b = a + 1;
             b < t && plan->templates[b].identity == plan->templates[a].identity; b++)
            list->genuine++;
    int64_t possible = t * (t - 1) / 2 - list->genuine;
    int64_t wanted = o->impostor_pairs;
    if (wanted == 0)
        wanted = 20 * t > 100000 ? 20 * t : 100000;
    if (wanted > possible)
        wanted = possible;
    list->pairs = malloc((size_t)(list->genuine + wanted + 1) * sizeof *list->pairs);
    if (!list->pairs)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld pairs",
                          (long long)(list->genuine + wanted));
    for (int32_t a = 0; a < t; a++)
        for (int32_t b = a + 1;
             b < t && plan->templates[b].identity == plan->templates[a].identity; b++)
            list->pairs[list->count++] = (struct pair){a, b, 1};
    int code =
        wanted <= possible / 4
            ? sample_impostors(list, plan, wanted, (uint64_t)o->seed, err)
            : choose_impostors(list, plan, possible, wanted, (uint64_t)o->seed, err);
    if (code) {
        free(list->pairs);
        list->pairs = NULL;
    }
    return code;
}

static int close_text(FILE *f, const char *path, struct ff_err *err)
{
    bool bad = ferror(f);
    if (fclose(f) || bad)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot write", path);
    return 0;
}

static int open_text(FILE **f, char path[FF_PATH_MAX], struct ff_err *err,
                     const char *dir, const char *name)
{
    int code = ff_path(path, err, "%s/%s", dir, name);
    if (code)
        return code;
    *f = fopen(path, "w");
    return *f ? 0 : ff_err_errno(err, FF_EFAIL, "%s: cannot write", path);
}

static int write_pairs(const char *dir, const struct pair_list *list, uint64_t seed,
                       struct ff_err *err)
{
    char path[FF_PATH_MAX];
    FILE *f;
    int64_t *order = malloc((size_t)(list->count + 1) * sizeof *order);
    if (!order)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld pairs",
                          (long long)list->count);
    ff_rng_permutation(order, list->count, seed, ff_stream("synth/pair order"));
    int code = open_text(&f, path, err, dir, "meta/ijbc_template_pair_label.txt");
    if (!code) {
        for (int64_t i = 0; i < list->count; i++) {
            const struct pair *p = &list->pairs[order[i]];
            fprintf(f, "%d %d %d\n", p->a + 1, p->b + 1, p->same);
        }
        code = close_text(f, path, err);
    }
    free(order);
    return code;
}

static int write_loose_crops(const char *dir, struct eval_plan *plan,
                             const struct ff_synth_options *o, int threads,
                             struct progress *progress, struct ff_err *err)
{
    struct ff_synth_item *items = calloc(CHUNK, sizeof *items);
    if (!items)
        return ff_err_set(err, FF_ENOMEM, "no memory for a chunk of pictures");
    int code = 0;
    for (int64_t from = 0; !code && from < plan->image_count; from += CHUNK) {
        int64_t count =
            plan->image_count - from < CHUNK ? plan->image_count - from : CHUNK;
        for (int64_t i = 0; i < count; i++)
            items[i] = plan->images[from + i].item;
        code = ff_synth_make(items, count, o, threads, err);
        if (code)
            break;
        for (int64_t i = 0; !code && i < count; i++) {
            char path[FF_PATH_MAX], name[64];
            FILE *f;
            snprintf(name, sizeof name, "loose_crop/%lld.jpg",
                     (long long)(from + i + 1));
            code = open_text(&f, path, err, dir, name);
            if (code)
                break;
            fwrite(items[i].jpeg, 1, items[i].jpeg_bytes, f);
            code = close_text(f, path, err);
        }
        free_jpegs(items, count);
        for (int64_t i = 0; i < count; i++)
            plan->images[from + i].item = items[i];
        show_progress(progress, "evaluation set", count);
        if (!code)
            code = stopped(err);
    }
    free(items);
    return code;
}

static int write_image_lists(const char *dir, const struct eval_plan *plan,
                             struct ff_err *err)
{
    char path[FF_PATH_MAX];
    FILE *f;
    int code = open_text(&f, path, err, dir, "meta/ijbc_face_tid_mid.txt");
    if (code)
        return code;
    for (int64_t i = 0; i < plan->image_count; i++)
        fprintf(f, "%lld.jpg %lld %lld\n", (long long)(i + 1),
                (long long)plan->images[i].template_id,
                (long long)plan->images[i].medium_id);
    code = close_text(f, path, err);
    if (!code)
        code = open_text(&f, path, err, dir, "meta/ijbc_name_5pts_score.txt");
    if (code)
        return code;
    for (int64_t i = 0; i < plan->image_count; i++) {
        const struct ff_synth_item *item = &plan->images[i].item;
        fprintf(f, "%lld.jpg", (long long)(i + 1));
        for (int k = 0; k < 5; k++)
            fprintf(f, " %.4f %.4f", item->points[k][0], item->points[k][1]);
        fprintf(f, " %.6f\n", item->score);
    }
    return close_text(f, path, err);
}

static int write_eval(const char *dir, struct eval_plan *plan,
                      const struct pair_list *list, const struct ff_synth_options *o,
                      int threads, struct progress *progress, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    int code = ff_path(path, err, "%s/meta", dir);
    if (!code)
        code = ff_mkdirs(path, err);
    if (!code)
        code = ff_path(path, err, "%s/loose_crop", dir);
    if (!code)
        code = ff_mkdirs(path, err);
    if (!code)
        code = write_loose_crops(dir, plan, o, threads, progress, err);
    if (!code)
        code = write_image_lists(dir, plan, err);
    if (!code)
        code = write_pairs(dir, list, (uint64_t)o->seed, err);
    return code;
}

/* ---- the whole ---- */

/* The options that decide the bytes, in the order of synth.yaml. */
struct recorded {
    const char *name;
    double value;
    bool is_float;
};
enum { RECORDED = 9 };

static void recorded_init(struct recorded r[RECORDED], const struct ff_synth_options *o)
{
    const struct recorded all[RECORDED] = {
        {"generator", GENERATOR, false},
        {"identities", (double)o->identities, false},
        {"images", (double)o->images, false},
        {"seed", (double)o->seed, false},
        {"image_size", (double)o->image_size, false},
        {"eval_identities", (double)o->eval_identities, false},
        {"eval_images", (double)o->eval_images, false},
        {"impostor_pairs", (double)o->impostor_pairs, false},
        {"hardness", o->hardness, true},
    };
    memcpy(r, all, sizeof all);
}

static int write_summary(const char *dir, const struct ff_synth_options *o,
                         const struct eval_plan *plan, const struct pair_list *list,
                         const struct ff_synth_check *check, struct ff_err *err)
{
    struct recorded options[RECORDED];
    char path[FF_PATH_MAX];
    FILE *f;
    int code = open_text(&f, path, err, dir, "synth.yaml");
    if (code)
        return code;
    recorded_init(options, o);
    fprintf(f, "options:\n");
    for (int i = 0; i < RECORDED; i++) {
        fprintf(f, "  %s: ", options[i].name);
        if (options[i].is_float)
            ff_yaml_write_f64(f, options[i].value);
        else
            fprintf(f, "%lld", (long long)options[i].value);
        fprintf(f, "\n");
    }
    fprintf(f, "identity_parameters: %d\n", FF_FACE_PARAMETERS);
    fprintf(f, "train: {identities: %lld, images: %lld}\n", (long long)o->identities,
            (long long)(o->identities * o->images));
    fprintf(f,
            "ijb: {identities: %lld, images: %lld, templates: %lld, media: %lld,"
            " genuine: %lld, impostors: %lld}\n",
            (long long)o->eval_identities, (long long)plan->image_count,
            (long long)plan->template_count, (long long)plan->media_count,
            (long long)list->genuine, (long long)(list->count - list->genuine));
    if (o->check) {
        fprintf(f, "check:\n  identities: %lld\n  nearest_identity_distance: ",
                (long long)check->identities);
        ff_yaml_write_f64(f, round(check->nearest_distance * 1e6) / 1e6);
        fprintf(f, "\n  pixel_identities: %lld\n  pixel_pose_share: ",
                (long long)check->pixel_identities);
        ff_yaml_write_f64(f, FF_SYNTH_CHECK_POSE_SHARE);
        fprintf(f, "\n  pixel_tar_at_1e-4_percent: ");
        ff_yaml_write_f64(f, round(check->pixel_tar_percent * 1e6) / 1e6);
        fprintf(f, "\n");
    }
    return close_text(f, path, err);
}

static int print_summary(const char *out, struct ff_err *err)
{
    char path[FF_PATH_MAX], *text = NULL;
    size_t bytes;
    int code = ff_path(path, err, "%s/synth.yaml", out);
    if (!code)
        code = ff_read_file(&text, &bytes, path, err);
    if (!code)
        fwrite(text, 1, bytes, stdout);
    free(text);
    return code;
}

/* 1 if OUT is already what the options ask for, 0 if it is free, else an error. */
static int look_at_out(const char *out, const struct ff_synth_options *o,
                       struct ff_err *err)
{
    char path[FF_PATH_MAX];
    struct stat st;
    int code = ff_path(path, err, "%s/synth.yaml", out);
    if (code)
        return code;
    if (lstat(out, &st))
        return errno == ENOENT ? 0 : ff_err_errno(err, FF_EFAIL, "%s", out);
    if (access(path, F_OK)) {
        DIR *dir = opendir(out);
        if (!dir)
            return ff_err_errno(err, FF_EUSAGE, "%s: not a folder to write into", out);
        int entries = 0;
        while (readdir(dir))
            entries++;
        closedir(dir);
        if (entries > 2)
            return ff_err_set(err, FF_EUSAGE,
                              "%s: holds something else than a synthetic set; choose "
                              "another --out or remove it",
                              out);
        return 0;
    }
    struct ff_yaml *doc = NULL;
    code = ff_yaml_load(&doc, path, err);
    if (code)
        return code;
    struct recorded options[RECORDED];
    recorded_init(options, o);
    const struct ff_yaml_node *map = ff_yaml_get(&doc->root, "options");
    for (int i = 0; i < RECORDED; i++) {
        const struct ff_yaml_node *node =
            map ? ff_yaml_get(map, options[i].name) : NULL;
        double found = 0;
        if (!node)
            code = ff_err_set(err, FF_EUSAGE, "%s: no option %s: not a synthetic set",
                              path, options[i].name);
        else
            code = ff_yaml_f64(&found, doc, node, err);
        if (!code && found != options[i].value)
            code = ff_err_set(
                err, FF_EUSAGE,
                "%s: made with %s = %s, asked for %.10g; choose another --out "
                "or remove it",
                path, options[i].name, node->text, options[i].value);
        if (code)
            break;
    }
    ff_yaml_destroy(doc);
    return code ? code : 1;
}

static int flush_folder(const char *dir, struct ff_err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd)) {
        int code = ff_err_errno(err, FF_EFAIL, "%s: cannot flush to disk", dir);
        if (fd >= 0)
            close(fd);
        return code;
    }
    close(fd);
    return 0;
}

static int make_in(const char *dir, const struct ff_synth_options *o,
                   struct ff_err *err)
{
    const int threads = o->threads ? (int)o->threads : ff_cpu_count();
    char path[FF_PATH_MAX];
    struct eval_plan plan = {0};
    struct pair_list list = {0};
    struct ff_synth_check check = {0};
    int code = ff_mkdirs(dir, err);
    if (!code && o->check) {
        ff_info("comparing identities");
        code = ff_synth_check(&check, o, threads, err);
    }
    if (!code)
        code = plan_init(&plan, o, err);
    if (!code)
        code = pairs_init(&list, &plan, o, err);
    if (code)
        goto done;
    struct progress progress = {0, o->identities * o->images + plan.image_count,
                                ff_now()};
    code = ff_path(path, err, "%s/train", dir);
    if (!code)
        code = write_train(path, o, threads, &progress, err);
    if (!code)
        code = ff_path(path, err, "%s/ijb", dir);
    if (!code)
        code = write_eval(path, &plan, &list, o, threads, &progress, err);
    if (!code)
        code = write_summary(dir, o, &plan, &list, &check, err);
    if (!code)
        code = flush_folder(dir, err);
done:
    free(list.pairs);
    plan_fini(&plan);
    return code;
}

int ff_synth_write(const char *out, const struct ff_synth_options *options,
                   struct ff_err *err)
{
    char temporary[FF_PATH_MAX];
    char trimmed[FF_PATH_MAX];
    int code = ff_path(trimmed, err, "%s", out);
    if (code)
        return code;
    for (size_t n = strlen(trimmed); n > 1 && trimmed[n - 1] == '/'; n--)
        trimmed[n - 1] = '\0';
    code = look_at_out(trimmed, options, err);
    if (code < 0)
        return code;
    if (code == 1) {
        ff_info("%s: already complete", trimmed);
        return print_summary(trimmed, err);
    }
    code = ff_path(temporary, err, "%s.tmp.%d", trimmed, (int)getpid());
    if (!code)
        code = ff_remove_tree(temporary, err);
    if (code)
        return code;
    code = make_in(temporary, options, err);
    if (!code && rename(temporary, trimmed))
        code = ff_err_errno(err, FF_EFAIL, "%s: cannot rename to it", trimmed);
    if (code) {
        ff_remove_tree(temporary, NULL);
        return code;
    }
    return print_summary(trimmed, err);
}
