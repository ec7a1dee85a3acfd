/* SPDX-License-Identifier: MIT */
/* Synthetic faces: purity, landmarks against the pixels, files, refusals.
 *
 * Where a feature lies in a picture is measured by rendering the same face twice with
 * that feature changed: what differs is the feature. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "dataset.h"
#include "hash.h"
#include "synth_set.h"
#include "synth_shape.h"

enum { SIDE = 336 };

static char folder[64];

static void enter_folder(void)
{
    strcpy(folder, "/tmp/ff-synth-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    cr_redirect_stdout();
}

static void leave_folder(void)
{
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_remove_tree(folder, &err), 0), "%s", err.text);
}

/* A plain person: no moles, freckles, glasses or beard; wide eyes. */
static void plain_person(struct ff_face_identity *identity)
{
    identity->id = 1;
    for (int i = 0; i < FF_FACE_PARAMETERS; i++)
        identity->value[i] = 0.5f;
    identity->value[FF_FACE_SKIN_MELANIN] = 0.1f;
    identity->value[FF_FACE_MOLE_A_Y] = identity->value[FF_FACE_MOLE_B_Y] = 0.0f;
    identity->value[FF_FACE_EYE_HEIGHT] = 1.0f;
    identity->value[FF_FACE_EYE_TILT] = 0.43f;
    identity->value[FF_FACE_IRIS_SIZE] = 0.0f;
}

/* Centroid and horizontal extent of what differs between two values of one parameter,
 * inside `radius` pixels of (x, y). */
struct difference {
    double x, y, left, right, sum;
};
static struct difference differ(struct ff_face_identity person, int parameter,
                                float low, float high,
                                const struct ff_face_nuisance *nuisance, double x,
                                double y, double radius)
{
    struct ff_face_scratch scratch = {0};
    struct ff_image a = {0}, b = {0};
    struct ff_face_crop crop;
    double points[5][2];
    struct difference d = {0, 0, 1e9, -1e9, 0};
    ff_face_crop_aligned(&crop, SIDE);
    person.value[parameter] = low;
    cr_assert(eq(
        int, ff_face_render(&a, points, &scratch, &person, nuisance, &crop, NULL), 0));
    person.value[parameter] = high;
    cr_assert(eq(
        int, ff_face_render(&b, points, &scratch, &person, nuisance, &crop, NULL), 0));
    for (int py = 0; py < SIDE; py++)
        for (int px = 0; px < SIDE; px++) {
            int at = 3 * (py * SIDE + px), change = 0;
            for (int k = 0; k < 3; k++)
                change += abs(a.rgb[at + k] - b.rgb[at + k]);
            if (change < 12 || hypot(px - x, py - y) > radius)
                continue;
            d.x += change * px;
            d.y += change * py;
            d.sum += change;
            d.left = fmin(d.left, px);
            d.right = fmax(d.right, px);
        }
    d.x /= d.sum;
    d.y /= d.sum;
    ff_image_fini(&a);
    ff_image_fini(&b);
    ff_face_scratch_fini(&scratch);
    return d;
}

static void landmarks_of(double points[5][2], const struct ff_face_identity *person,
                         const struct ff_face_nuisance *nuisance,
                         const struct ff_face_crop *crop)
{
    struct ff_face_scratch scratch = {0};
    struct ff_image image = {0};
    cr_assert(eq(int,
                 ff_face_render(&image, points, &scratch, person, nuisance, crop, NULL),
                 0));
    ff_image_fini(&image);
    ff_face_scratch_fini(&scratch);
}

/* Painted position -> pixels of the aligned SIDE x SIDE picture. */
static void project(double at[2], const struct ff_face_identity *person,
                    const struct ff_face_nuisance *nuisance, float x, float y)
{
    struct ff_face_shape shape;
    struct ff_face_view view;
    struct ff_face_crop crop;
    ff_face_crop_aligned(&crop, SIDE);
    ff_face_shape_init(&shape, person, nuisance);
    ff_face_view_init(&view, &shape, nuisance, &crop);
    ff_face_view_project(&at[0], &at[1], &view, ff_face_shape_surface(&shape, x, y));
}

Test(synth, has_thirty_parameters_and_names_the_templates_points)
{
    cr_assert(ge(int, FF_FACE_PARAMETERS, 30));
    cr_assert(lt(dbl, ff_face_template[0][0], ff_face_template[1][0]));
    cr_assert(lt(dbl, ff_face_template[3][0], ff_face_template[4][0]));
}

Test(synth, parameters_are_independent_and_uniform)
{
    enum { PEOPLE = 2000 };
    static float value[PEOPLE][FF_FACE_PARAMETERS];
    for (int i = 0; i < PEOPLE; i++) {
        struct ff_face_identity identity;
        ff_face_identity_draw(&identity, 5, (uint64_t)i);
        memcpy(value[i], identity.value, sizeof identity.value);
    }
    for (int a = 0; a < FF_FACE_PARAMETERS; a++)
        for (int b = 0; b <= a; b++) {
            double sum = 0;
            for (int i = 0; i < PEOPLE; i++)
                sum += 12 * ((double)value[i][a] - 0.5) * ((double)value[i][b] - 0.5);
            /* Correlation: sd 1/sqrt(2000) = 0.022 about 0, about 1 on the diagonal. */
            cr_assert(epsilon_eq(dbl, sum / PEOPLE, a == b ? 1.0 : 0.0, 0.12));
        }
}

Test(synth, nobody_else_has_the_same_parameters)
{
    struct ff_face_identity a, b, c;
    ff_face_identity_draw(&a, 3, 0);
    ff_face_identity_draw(&b, 3, FF_SYNTH_EVAL_FIRST);
    ff_face_identity_draw(&c, 4, 0);
    cr_assert(eq(dbl, ff_face_identity_distance(&a, &a), 0.0));
    cr_assert(lt(dbl, 0.5, ff_face_identity_distance(&a, &b)));
    cr_assert(lt(dbl, 0.5, ff_face_identity_distance(&a, &c)));
}

Test(synth, eyes_are_drawn_where_the_landmarks_say)
{
    struct ff_face_identity person;
    struct ff_face_nuisance nuisance;
    struct ff_face_crop crop;
    plain_person(&person);
    ff_face_crop_aligned(&crop, SIDE);
    for (int pose = -1; pose <= 1; pose++) {
        double points[5][2];
        ff_face_nuisance_none(&nuisance);
        nuisance.yaw_rad = 0.35f * (float)pose;
        nuisance.pitch_rad = 0.15f * (float)pose;
        landmarks_of(points, &person, &nuisance, &crop);
        for (int eye = 0; eye < 2; eye++) {
            struct difference d = differ(person, FF_FACE_IRIS_LIGHT, 0.0f, 1.0f,
                                         &nuisance, points[eye][0], points[eye][1], 30);
            cr_assert(lt(dbl, 1000.0, d.sum));
            /* 336 pixels: one is a third of a pixel of the aligned face. */
            cr_assert(epsilon_eq(dbl, d.x, points[eye][0], 2.0), "pose %d eye %d", pose,
                      eye);
            cr_assert(epsilon_eq(dbl, d.y, points[eye][1], 2.5), "pose %d eye %d", pose,
                      eye);
        }
    }
}

Test(synth, mouth_ends_at_the_corner_landmarks)
{
    struct ff_face_identity person;
    struct ff_face_nuisance nuisance;
    struct ff_face_crop crop;
    double points[5][2];
    plain_person(&person);
    ff_face_nuisance_none(&nuisance);
    nuisance.smile = 0.6f;
    nuisance.yaw_rad = 0.2f;
    ff_face_crop_aligned(&crop, SIDE);
    landmarks_of(points, &person, &nuisance, &crop);
    struct difference d = differ(person, FF_FACE_LIP_RED, 0.0f, 1.0f, &nuisance,
                                 0.5 * (points[3][0] + points[4][0]), points[3][1], 90);
    cr_assert(epsilon_eq(dbl, d.left, points[3][0], 5.0));
    cr_assert(epsilon_eq(dbl, d.right, points[4][0], 5.0));
}

Test(synth, what_is_painted_appears_where_the_projection_puts_it)
{
    struct ff_face_identity person;
    struct ff_face_nuisance nuisance;
    plain_person(&person);
    for (int pose = -1; pose <= 1; pose++)
        for (int open = 0; open < 2; open++) {
            double at[2];
            ff_face_nuisance_none(&nuisance);
            nuisance.yaw_rad = 0.4f * (float)pose;
            nuisance.pitch_rad = -0.2f;
            nuisance.mouth_open = 0.3f * (float)open;
            person.value[FF_FACE_MOLE_A_X] = 0.5f + 0.25f * (float)(pose ? -pose : 1);
            float x = -0.85f + 1.7f * person.value[FF_FACE_MOLE_A_X],
                  y = 0.2f + 1.25f * 0.52f;
            project(at, &person, &nuisance, x, y);
            struct difference d = differ(person, FF_FACE_MOLE_A_Y, 0.0f, 0.52f,
                                         &nuisance, at[0], at[1], 25);
            cr_assert(lt(dbl, 300.0, d.sum));
            cr_assert(epsilon_eq(dbl, d.x, at[0], 1.0), "pose %d open %d", pose, open);
            cr_assert(epsilon_eq(dbl, d.y, at[1], 1.0), "pose %d open %d", pose, open);
        }
}

Test(synth, aligned_landmarks_fit_the_template_and_crops_move_them)
{
    struct ff_face_identity person;
    struct ff_face_nuisance nuisance;
    struct ff_face_crop aligned, loose = {150, 170, 0.9, 0.3, 40.0, 21.0};
    double a[5][2], b[5][2], mean[2] = {0, 0}, wanted[2] = {0, 0};
    ff_face_identity_draw(&person, 2, 9);
    ff_face_nuisance_draw(&nuisance, 2, 9, 4, 0, 1.0);
    ff_face_crop_aligned(&aligned, 112);
    landmarks_of(a, &person, &nuisance, &aligned);
    landmarks_of(b, &person, &nuisance, &loose);
    for (int i = 0; i < 5; i++) {
        double c = 0.9 * cos(0.3), s = 0.9 * sin(0.3);
        cr_assert(epsilon_eq(dbl, b[i][0], c * a[i][0] - s * a[i][1] + 40.0, 1e-6));
        cr_assert(epsilon_eq(dbl, b[i][1], s * a[i][0] + c * a[i][1] + 21.0, 1e-6));
        cr_assert(lt(
            dbl,
            hypot(a[i][0] - ff_face_template[i][0], a[i][1] - ff_face_template[i][1]),
            16.0));
        for (int k = 0; k < 2; k++) {
            mean[k] += a[i][k] / 5;
            wanted[k] += ff_face_template[i][k] / 5;
        }
    }
    /* A least-squares similarity meets the centroid. */
    cr_assert(epsilon_eq(dbl, mean[0], wanted[0], 1e-6));
    cr_assert(epsilon_eq(dbl, mean[1], wanted[1], 1e-6));
}

Test(synth, detector_scores_follow_quality)
{
    struct ff_face_nuisance plain, n;
    ff_face_nuisance_none(&plain);
    double best = ff_face_nuisance_score(&plain);
    cr_assert(lt(dbl, 0.95, best));
    cr_assert(lt(dbl, best, 1.0));
    n = plain;
    n.blur_px[0] = n.blur_px[1] = 2.0f;
    cr_assert(lt(dbl, ff_face_nuisance_score(&n), best - 0.02));
    n = plain;
    n.noise = 25.0f;
    cr_assert(lt(dbl, ff_face_nuisance_score(&n), best - 0.02));
    n = plain;
    n.occluder = FF_FACE_OCCLUDER_HAND;
    cr_assert(lt(dbl, ff_face_nuisance_score(&n), best - 0.02));
    for (uint64_t i = 0; i < 500; i++) {
        ff_face_nuisance_draw(&n, 1, i, 0, 0, 2.0);
        double score = ff_face_nuisance_score(&n);
        cr_assert(lt(dbl, 0.0, score));
        cr_assert(lt(dbl, score, 1.0));
    }
}

/* Share of pictures whose nearest other picture, by pixels, is of the same person. */
static double nearest_is_same(double hardness)
{
    enum { PEOPLE = 16, EACH = 4, PX = 24, N = PEOPLE * EACH, BYTES = PX * PX * 3 };
    static uint8_t all[N][BYTES];
    struct ff_face_scratch scratch = {0};
    struct ff_image image = {0};
    struct ff_face_crop crop;
    ff_face_crop_aligned(&crop, PX);
    for (int i = 0; i < N; i++) {
        struct ff_face_identity person;
        struct ff_face_nuisance nuisance;
        double points[5][2];
        uint64_t id = (uint64_t)(i / EACH);
        ff_face_identity_draw(&person, 1, id);
        ff_face_nuisance_draw(&nuisance, 1, id, (uint64_t)(i % EACH), 0, hardness);
        ff_face_render(&image, points, &scratch, &person, &nuisance, &crop, NULL);
        memcpy(all[i], image.rgb, BYTES);
    }
    int right = 0;
    for (int i = 0; i < N; i++) {
        long best = -1, at = -1;
        for (int j = 0; j < N; j++) {
            long sum = 0;
            for (int k = 0; j != i && k < BYTES; k++)
                sum += (all[i][k] - all[j][k]) * (all[i][k] - all[j][k]);
            if (j != i && (best < 0 || sum < best)) {
                best = sum;
                at = j;
            }
        }
        right += at / EACH == i / EACH;
    }
    ff_image_fini(&image);
    ff_face_scratch_fini(&scratch);
    return (double)right / N;
}

Test(synth, harder_nuisance_hides_the_person)
{
    double none = nearest_is_same(0.0), some = nearest_is_same(0.3),
           full = nearest_is_same(1);
    cr_assert(eq(dbl, none, 1.0));
    cr_assert(lt(dbl, full + 0.1, some));
    cr_assert(lt(dbl, full, 0.6));
}

static const struct ff_synth_options small = {.identities = 3,
                                              .images = 4,
                                              .seed = 11,
                                              .image_size = 32,
                                              .eval_identities = 6,
                                              .eval_images = 7,
                                              .impostor_pairs = 40,
                                              .hardness = 1.0,
                                              .threads = 1};

static void write_set(const char *name, const struct ff_synth_options *options,
                      int expected, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert(eq(int, ff_synth_write(path, options, err), expected), "%s", err->text);
}

static void hash_of(char hash[FF_SHA256_HEX], const char *set, const char *file)
{
    char path[FF_PATH_MAX];
    struct ff_err err = FF_ERR_INIT;
    snprintf(path, sizeof path, "%s/%s/%s", folder, set, file);
    cr_assert(eq(int, ff_sha256_file(hash, path, &err), 0), "%s", err.text);
}

Test(synth, bytes_depend_on_options_and_not_on_threads, .init = enter_folder,
     .fini = leave_folder)
{
    static const char *const files[] = {"train/train.rec",
                                        "train/train.idx",
                                        "train/property",
                                        "ijb/meta/ijbc_face_tid_mid.txt",
                                        "ijb/meta/ijbc_template_pair_label.txt",
                                        "ijb/meta/ijbc_name_5pts_score.txt",
                                        "ijb/loose_crop/1.jpg",
                                        "ijb/loose_crop/42.jpg",
                                        "synth.yaml"};
    struct ff_synth_options two = small, other = small;
    struct ff_err err = FF_ERR_INIT;
    char a[FF_SHA256_HEX], b[FF_SHA256_HEX];
    two.threads = 2;
    other.seed = 12;
    write_set("one", &small, 0, &err);
    write_set("two", &two, 0, &err);
    write_set("other", &other, 0, &err);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        hash_of(a, "one", files[i]);
        hash_of(b, "two", files[i]);
        cr_assert(eq(str, a, b), "%s", files[i]);
    }
    hash_of(a, "one", "train/train.rec");
    hash_of(b, "other", "train/train.rec");
    cr_assert(ne(str, a, b));
}

Test(synth, training_set_opens_as_a_dataset, .init = enter_folder, .fini = leave_folder)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_dataset *dataset = NULL;
    struct ff_decoder *decoder = NULL;
    struct ff_read_buffer buffer = {0};
    char path[FF_PATH_MAX];
    uint8_t rgb[32 * 32 * 3];
    write_set("set", &small, 0, &err);
    snprintf(path, sizeof path, "%s/set/train", folder);
    cr_assert(eq(int, ff_dataset_open(&dataset, path, &err), 0), "%s", err.text);
    cr_assert(eq(i64, ff_dataset_count(dataset), 12));
    cr_assert(eq(i64, ff_dataset_classes(dataset), 3));
    cr_assert(eq(int, ff_decoder_create(&decoder, &err), 0), "%s", err.text);
    for (int64_t i = 0; i < 12; i++) {
        const uint8_t *bytes;
        size_t size;
        int64_t label;
        cr_assert(eq(
            int, ff_dataset_read(&bytes, &size, &label, dataset, i, &buffer, &err), 0));
        cr_assert(eq(i64, label, i / 4));
        cr_assert(
            eq(int, ff_decode_square(rgb, 32, decoder, bytes, size, true, &err), 0),
            "%s", err.text);
    }
    free(buffer.data);
    ff_decoder_destroy(decoder);
    ff_dataset_close(dataset);
}

static FILE *open_meta(const char *name)
{
    char path[FF_PATH_MAX];
    snprintf(path, sizeof path, "%s/set/ijb/meta/%s", folder, name);
    FILE *f = fopen(path, "r");
    cr_assert(ne(ptr, f, NULL), "%s", path);
    return f;
}

Test(synth, evaluation_lists_have_the_formats_shape, .init = enter_folder,
     .fini = leave_folder)
{
    enum { IMAGES = 42, TEMPLATES_MAX = 64 };
    struct ff_err err = FF_ERR_INIT;
    char line[256], again[256];
    int of_template[TEMPLATES_MAX] = {0}, rows = 0, last = 0, genuine = 0, impostor = 0;
    write_set("set", &small, 0, &err);

    FILE *f = open_meta("ijbc_face_tid_mid.txt");
    while (fgets(line, sizeof line, f)) {
        int name, template_id, media;
        cr_assert(
            eq(int, sscanf(line, "%d.jpg %d %d", &name, &template_id, &media), 3));
        snprintf(again, sizeof again, "%d.jpg %d %d\n", ++rows, template_id, media);
        cr_assert(eq(str, line, again));
        cr_assert(ge(int, template_id, 1));
        cr_assert(lt(int, template_id, TEMPLATES_MAX));
        of_template[template_id]++;
        last = template_id > last ? template_id : last;
    }
    fclose(f);
    cr_assert(eq(int, rows, IMAGES));
    cr_assert(ge(int, last, 2 * 6)); /* at least two templates a person */

    f = open_meta("ijbc_name_5pts_score.txt");
    rows = 0;
    while (fgets(line, sizeof line, f)) {
        int name;
        double p[10], score;
        cr_assert(eq(int,
                     sscanf(line, "%d.jpg %lf %lf %lf %lf %lf %lf %lf %lf %lf %lf %lf",
                            &name, p, p + 1, p + 2, p + 3, p + 4, p + 5, p + 6, p + 7,
                            p + 8, p + 9, &score),
                     12));
        snprintf(again, sizeof again,
                 "%d.jpg %.4f %.4f %.4f %.4f %.4f %.4f %.4f %.4f %.4f %.4f %.6f\n",
                 ++rows, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9],
                 score);
        cr_assert(eq(str, line, again));
        cr_assert(lt(dbl, 0.0, score));
        cr_assert(lt(dbl, score, 1.0));
    }
    fclose(f);
    cr_assert(eq(int, rows, IMAGES));

    static bool seen[TEMPLATES_MAX][TEMPLATES_MAX];
    f = open_meta("ijbc_template_pair_label.txt");
    while (fgets(line, sizeof line, f)) {
        int a, b, same;
        cr_assert(eq(int, sscanf(line, "%d %d %d", &a, &b, &same), 3));
        snprintf(again, sizeof again, "%d %d %d\n", a, b, same);
        cr_assert(eq(str, line, again));
        cr_assert(lt(int, 0, of_template[a]));
        cr_assert(lt(int, 0, of_template[b]));
        cr_assert(ne(int, a, b));
        cr_assert(not(seen[a][b]));
        seen[a][b] = seen[b][a] = true;
        *(same ? &genuine : &impostor) += 1;
    }
    fclose(f);
    cr_assert(eq(int, impostor, 40));
    cr_assert(ge(int, genuine, 6));
}

Test(synth, impostor_pairs_stop_at_all_there_are, .init = enter_folder,
     .fini = leave_folder)
{
    struct ff_synth_options options = small;
    struct ff_err err = FF_ERR_INIT;
    char line[256];
    int same[2] = {0, 0}, a, b, label, templates = 0;
    options.eval_identities = 3;
    options.eval_images = 3;
    options.impostor_pairs = 0;
    write_set("set", &options, 0, &err);
    FILE *f = open_meta("ijbc_template_pair_label.txt");
    while (fgets(line, sizeof line, f)) {
        cr_assert(eq(int, sscanf(line, "%d %d %d", &a, &b, &label), 3));
        same[label]++;
        templates = a > templates ? a : templates;
        templates = b > templates ? b : templates;
    }
    fclose(f);
    cr_assert(eq(int, same[0] + same[1], templates * (templates - 1) / 2));
    cr_assert(lt(int, same[1], same[0]));
}

Test(synth, a_finished_set_is_left_alone_and_others_are_refused, .init = enter_folder,
     .fini = leave_folder)
{
    struct ff_synth_options other = small;
    struct ff_err err = FF_ERR_INIT;
    struct stat before, after;
    char path[FF_PATH_MAX];
    write_set("set", &small, 0, &err);
    snprintf(path, sizeof path, "%s/set/train/train.rec", folder);
    cr_assert(eq(int, stat(path, &before), 0));
    write_set("set", &small, 0, &err);
    cr_assert(eq(int, stat(path, &after), 0));
    cr_assert(eq(u64, (uint64_t)after.st_ino, (uint64_t)before.st_ino));

    other.images = 5;
    write_set("set", &other, FF_EUSAGE, &err);
    cr_assert(ne(ptr, strstr(err.text, "images = 4, asked for 5"), NULL), "%s",
              err.text);

    /* The folder of this test itself holds something else. */
    cr_assert(eq(int, ff_synth_write(folder, &small, &err), FF_EUSAGE));
    cr_assert(ne(ptr, strstr(err.text, folder), NULL), "%s", err.text);
}

Test(synth, command_line_refuses_nonsense, .init = enter_folder, .fini = leave_folder)
{
    char *nothing[] = {"synth", NULL};
    char *odd[] = {"synth", "--sheet", "x.png", "--image-size", "50", NULL};
    char *few[] = {"synth", "--out", "x", "--identities", "0", NULL};
    cr_redirect_stderr();
    cr_assert(eq(int, ff_cmd_synth(1, nothing), FF_EXIT_USAGE));
    cr_assert(eq(int, ff_cmd_synth(5, odd), FF_EXIT_USAGE));
    cr_assert(eq(int, ff_cmd_synth(5, few), FF_EXIT_USAGE));
}

Test(synth, sheet_is_a_png_of_the_asked_size, .init = enter_folder,
     .fini = leave_folder)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_decoder *decoder = NULL;
    struct ff_image image = {0};
    char path[FF_PATH_MAX], *data = NULL;
    size_t bytes;
    snprintf(path, sizeof path, "%s/sheet.png", folder);
    cr_assert(eq(int, ff_synth_sheet(path, 2, 3, &small, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_read_file(&data, &bytes, path, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_decoder_create(&decoder, &err), 0));
    cr_assert(eq(int, ff_decode(&image, decoder, data, bytes, false, &err), 0), "%s",
              err.text);
    cr_assert(eq(int, image.width_px, 3 * 32));
    cr_assert(eq(int, image.height_px, 2 * 32));
    ff_image_fini(&image);
    ff_decoder_destroy(decoder);
    free(data);
}
