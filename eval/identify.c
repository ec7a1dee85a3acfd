/* SPDX-License-Identifier: MIT */
/* 1:N search; see identify.h.
 *
 * The galleries are copied into one matrix. A block of probes is scored against a tile
 * of it at a time, so that both stay in the cache; a block's scores are then read probe
 * by probe. Of the scores between different people, billions at full size, only the
 * largest few that the compat thresholds can name are kept: a heap in each thread,
 * joined at the end. */
#include "identify.h"

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "roc.h"
#include "score.h"

#define PROBE_BLOCK 32
#define TILE_BYTES (128 << 10) /* of gallery rows */

const int ff_identify_rank[FF_IDENTIFY_RANKS] = {1, 5, 10};

/* What one probe's searches give. */
struct search {
    float mate[FF_GALLERIES], top[FF_GALLERIES]; /* NAN where there is none */
    int32_t rank[FF_GALLERIES];
    float joined_mate; /* NAN without a mate */
    int32_t joined_rank;
};

/* The `limit` largest values offered; the smallest of them on top. */
struct heap {
    int64_t limit, count;
    float *value;
};

struct job {
    int dim;
    int32_t joined; /* rows of both galleries */
    int32_t start[FF_GALLERIES + 1];
    float *gallery;         /* (joined, D) */
    const int64_t *subject; /* (joined) */
    const float *templates;
    const struct ff_gallery_list *probe;
    struct search *search; /* (probes) */
};

static void heap_offer(struct heap *h, float value)
{
    int64_t i;
    if (h->count < h->limit) {
        for (i = h->count++; i > 0 && h->value[(i - 1) / 2] > value; i = (i - 1) / 2)
            h->value[i] = h->value[(i - 1) / 2];
        h->value[i] = value;
        return;
    }
    if (!h->limit || value <= h->value[0])
        return;
    for (i = 0;;) {
        int64_t child = 2 * i + 1;
        if (child + 1 < h->count && h->value[child + 1] < h->value[child])
            child++;
        if (child >= h->count || h->value[child] >= value)
            break;
        h->value[i] = h->value[child];
        i = child;
    }
    h->value[i] = value;
}

/* Reads the scores (joined) of one probe. */
static void read_scores(struct search *s, struct heap *others, const struct job *job,
                        const float *score, int64_t subject)
{
    int32_t best = -1; /* the joined mate: the first of its best templates */
    for (int g = 0; g < FF_GALLERIES; g++) {
        int32_t mate = -1;
        s->top[g] = s->mate[g] = NAN;
        for (int32_t j = job->start[g]; j < job->start[g + 1]; j++) {
            if (job->subject[j] == subject) {
                if (mate < 0 || score[j] > score[mate])
                    mate = j;
            } else {
                if (!(score[j] <= s->top[g]))
                    s->top[g] = score[j];
                if (others->count < others->limit ||
                    (others->limit && score[j] > others->value[0]))
                    heap_offer(others, score[j]);
            }
        }
        if (mate < 0)
            continue;
        s->mate[g] = score[mate];
        s->rank[g] = 1;
        for (int32_t j = job->start[g]; j < job->start[g + 1]; j++)
            s->rank[g] += job->subject[j] != subject && score[j] >= score[mate];
        if (best < 0 || score[mate] > score[best])
            best = mate;
    }
    s->joined_mate = best < 0 ? NAN : score[best];
    s->joined_rank = 1;
    for (int32_t j = 0; best >= 0 && j < job->joined; j++) {
        s->joined_rank +=
            job->subject[j] != subject &&
            (score[j] > score[best] || (score[j] == score[best] && j < best));
    }
}

/* Searches probes first .. first + count - 1; score (PROBE_BLOCK, joined) is work
 * space. False if a score is not finite. */
static bool search_block(const struct job *job, struct heap *others, float *score,
                         int32_t first, int32_t count)
{
    size_t dim = (size_t)job->dim, joined = (size_t)job->joined;
    int32_t tile = (int32_t)(TILE_BYTES / (sizeof(float) * dim)) + 1;
    for (int32_t at = 0; at < job->joined; at += tile) {
        int32_t rows = job->joined - at < tile ? job->joined - at : tile;
        for (int32_t p = 0; p < count; p++) {
            size_t t = (size_t)job->probe->template_index[first + p];
            ff_score_dots(score + (size_t)p * joined + at, job->templates + t * dim,
                          job->gallery + (size_t)at * dim, job->dim, rows);
        }
    }
    for (size_t i = 0; i < (size_t)count * joined; i++)
        if (!isfinite(score[i]))
            return false;
    for (int32_t p = 0; p < count; p++)
        read_scores(&job->search[first + p], others, job, score + (size_t)p * joined,
                    job->probe->subject[first + p]);
    return true;
}

static int search_all(struct heap *largest, const struct job *job, int threads,
                      struct ff_err *err)
{
    int32_t probes = job->probe->count;
    bool no_memory = false, bad = false;
#pragma omp parallel num_threads(threads) reduction(|| : no_memory, bad)
    {
        struct heap mine = {.limit = largest->limit};
        float *score = malloc(PROBE_BLOCK * (size_t)job->joined * sizeof *score);
        mine.value = malloc(((size_t)mine.limit + 1) * sizeof *mine.value);
        no_memory = !score || !mine.value;
#pragma omp for schedule(dynamic, 1)
        for (int32_t at = 0; at < probes; at += PROBE_BLOCK) {
            int32_t count = probes - at < PROBE_BLOCK ? probes - at : PROBE_BLOCK;
            if (!no_memory && !search_block(job, &mine, score, at, count))
                bad = true;
        }
#pragma omp critical(ff_identify_join)
        for (int64_t i = 0; mine.value && i < mine.count; i++)
            heap_offer(largest, mine.value[i]);
        free(mine.value);
        free(score);
    }
    if (no_memory)
        return ff_err_set(err, FF_ENOMEM, "no memory to search %d probes", probes);
    return bad ? ff_err_set(err, FF_EDATA, "a score of the search is not finite") : 0;
}

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* How many of value (count), falling, are above the threshold. */
static int64_t above(const float *value, int64_t count, double threshold)
{
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if ((double)value[middle] > threshold)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Sorted scores of all searches. */
struct outcome {
    float *mate, *top, *joined; /* (mated), (nonmated), (mated probes); falling */
    float *others;              /* the largest between different people, falling */
    int64_t others_count;
};

static void set_point(struct ff_identify_point *point,
                      const struct ff_identify_result *r, const struct outcome *o,
                      double fpir, double threshold)
{
    *point = (struct ff_identify_point){.fpir = fpir, .threshold = threshold};
    point->false_accepts = above(o->top, r->nonmated, threshold);
    point->actual_fpir = (double)point->false_accepts / (double)r->nonmated;
}

static void fill_points(struct ff_identify_result *r, const struct outcome *o,
                        const double *fpir, int n)
{
    r->fpir_count = n;
    for (int k = 0; k < n; k++) {
        int64_t allowed = ff_roc_allowed(fpir[k], r->nonmated);
        float threshold = -INFINITY;
        if (allowed < r->nonmated)
            threshold = o->top[allowed];
        else
            threshold = nextafterf(
                fminf(o->top[r->nonmated - 1], o->mate[r->mated - 1]), -INFINITY);
        set_point(&r->tpir[k], r, o, fpir[k], (double)threshold);
        r->tpir[k].tpir =
            (double)above(o->mate, r->mated, (double)threshold) / (double)r->mated;
        int64_t place = (int64_t)ceil(r->mated_probes * fpir[k]);
        if (place > o->others_count)
            place = o->others_count;
        threshold = o->others[place - 1];
        set_point(&r->compat[k], r, o, fpir[k], (double)threshold);
        r->compat[k].tpir =
            (double)above(o->joined, r->mated_probes, (double)threshold) /
            r->mated_probes;
    }
}

/* Counts and collects what the probes' searches gave. */
static void collect(struct ff_identify_result *r, struct outcome *o,
                    const struct search *search, int32_t probes)
{
    int64_t ranked[FF_IDENTIFY_RANKS] = {0}, joined[FF_IDENTIFY_RANKS] = {0};
    for (int32_t p = 0; p < probes; p++) {
        const struct search *s = &search[p];
        for (int g = 0; g < FF_GALLERIES; g++) {
            if (isnan(s->mate[g])) {
                o->top[r->nonmated++] = s->top[g];
                continue;
            }
            o->mate[r->mated++] = s->mate[g];
            for (int k = 0; k < FF_IDENTIFY_RANKS; k++)
                ranked[k] += s->rank[g] <= ff_identify_rank[k];
        }
        if (isnan(s->joined_mate))
            continue;
        o->joined[r->mated_probes++] = s->joined_mate;
        for (int k = 0; k < FF_IDENTIFY_RANKS; k++)
            joined[k] += s->joined_rank <= ff_identify_rank[k];
    }
    for (int k = 0; k < FF_IDENTIFY_RANKS; k++) {
        r->rank[k] = (double)ranked[k] / (double)(r->mated ? r->mated : 1);
        r->compat_rank[k] =
            (double)joined[k] / (double)(r->mated_probes ? r->mated_probes : 1);
    }
    qsort(o->mate, (size_t)r->mated, sizeof *o->mate, falling);
    qsort(o->top, (size_t)r->nonmated, sizeof *o->top, falling);
    qsort(o->joined, (size_t)r->mated_probes, sizeof *o->joined, falling);
}

/* Copies both galleries into one matrix. */
static int join_galleries(struct job *job, int64_t **subject, const float *templates,
                          const struct ff_gallery_lists *lists, struct ff_err *err)
{
    size_t dim = (size_t)job->dim, row = 0;
    for (int g = 0; g < FF_GALLERIES; g++) {
        job->start[g] = job->joined;
        job->joined += lists->gallery[g].count;
    }
    job->start[FF_GALLERIES] = job->joined;
    job->gallery = malloc((size_t)job->joined * dim * sizeof *job->gallery);
    *subject = malloc((size_t)job->joined * sizeof **subject);
    if (!job->gallery || !*subject)
        return ff_err_set(err, FF_ENOMEM, "no memory for a gallery of %d", job->joined);
    for (int g = 0; g < FF_GALLERIES; g++) {
        const struct ff_gallery_list *list = &lists->gallery[g];
        for (int32_t j = 0; j < list->count; j++, row++) {
            memcpy(job->gallery + row * dim,
                   templates + (size_t)list->template_index[j] * dim,
                   dim * sizeof *job->gallery);
            (*subject)[row] = list->subject[j];
        }
    }
    job->subject = *subject;
    return 0;
}

int ff_identify(struct ff_identify_result *r, const float *templates, int dim,
                const struct ff_gallery_lists *lists, const double *fpir, int n,
                int threads, struct ff_err *err)
{
    size_t probes = (size_t)lists->probe.count;
    struct job job = {.dim = dim, .templates = templates, .probe = &lists->probe};
    struct outcome o = {0};
    int64_t *subject = NULL;
    *r = (struct ff_identify_result){.probes = lists->probe.count};
    for (int g = 0; g < FF_GALLERIES; g++)
        r->gallery[g] = lists->gallery[g].count;
    struct heap largest = {.limit = (int64_t)ceil((double)probes * fpir[n - 1])};
    largest.value = malloc(((size_t)largest.limit + 1) * sizeof *largest.value);
    job.search = malloc((probes + 1) * sizeof *job.search);
    o.mate = malloc((FF_GALLERIES * probes + 1) * sizeof *o.mate);
    o.top = malloc((FF_GALLERIES * probes + 1) * sizeof *o.top);
    o.joined = malloc((probes + 1) * sizeof *o.joined);
    int rc = 0;
    if (!largest.value || !job.search || !o.mate || !o.top || !o.joined)
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %zu probes", probes);
    if (!rc)
        rc = join_galleries(&job, &subject, templates, lists, err);
    if (!rc)
        rc = search_all(&largest, &job, threads, err);
    if (rc)
        goto done;
    collect(r, &o, job.search, r->probes);
    if (!r->mated || !r->nonmated) {
        rc = ff_err_set(err, FF_EDATA, "no %s search among %d probes in 2 galleries",
                        r->mated ? "non-mated" : "mated", r->probes);
        goto done;
    }
    qsort(largest.value, (size_t)largest.count, sizeof *largest.value, falling);
    o.others = largest.value;
    o.others_count = largest.count;
    fill_points(r, &o, fpir, n);
done:
    free(subject);
    free(job.gallery);
    free(o.joined);
    free(o.top);
    free(o.mate);
    free(job.search);
    free(largest.value);
    return rc;
}
