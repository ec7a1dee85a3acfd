/* SPDX-License-Identifier: MIT */
/* Margin head on the CPU: both sides normalised, cosines by one GEMM, margin and
 * softmax in place of the cosines, gradients by two more GEMMs, then through the
 * normalisations. Formulas and sources: ref/ref_head.c. */
#include <math.h>
#include <stdlib.h>

#include "onednn_priv.h"

#define NORM_EPS 1e-12 /* torch.nn.functional.normalize */

struct ff_head_plan {
    struct ff_head_shape shape;
    struct ff_tensor unit_embedding, unit_weight;       /* (N, D), (CLS, D) */
    struct ff_tensor embedding_invnorm, weight_invnorm; /* (N), (CLS) */
    struct ff_tensor logits;  /* (N, CLS), then d loss / d cos */
    struct ff_tensor dweight; /* (CLS, D) */
    double *loss;             /* (N) */
};

void onednn_head_destroy(struct ff_ops_ctx *ctx, struct ff_head_plan *head)
{
    if (!head)
        return;
    ff_ref_free(ctx, &head->unit_embedding);
    ff_ref_free(ctx, &head->unit_weight);
    ff_ref_free(ctx, &head->embedding_invnorm);
    ff_ref_free(ctx, &head->weight_invnorm);
    ff_ref_free(ctx, &head->logits);
    ff_ref_free(ctx, &head->dweight);
    free(head->loss);
    free(head);
}

int onednn_head_create(struct ff_ops_ctx *ctx, struct ff_head_plan **out,
                       const struct ff_head_shape *s, struct ff_err *err)
{
    struct ff_head_plan *head = calloc(1, sizeof *head);
    int rc;
    *out = NULL;
    if (!head)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    head->shape = *s;
    head->loss = calloc((size_t)s->N, sizeof *head->loss);
    rc = head->loss ? 0 : ff_err_set(err, FF_ENOMEM, "out of memory");
    if (!rc)
        rc = ff_ref_alloc(ctx, &head->unit_embedding, (int64_t)s->N * s->D, 4, err);
    if (!rc)
        rc = ff_ref_alloc(ctx, &head->unit_weight, s->CLS * s->D, 4, err);
    if (!rc)
        rc = ff_ref_alloc(ctx, &head->embedding_invnorm, s->N, 4, err);
    if (!rc)
        rc = ff_ref_alloc(ctx, &head->weight_invnorm, s->CLS, 4, err);
    if (!rc)
        rc = ff_ref_alloc(ctx, &head->logits, s->N * s->CLS, 4, err);
    if (!rc)
        rc = ff_ref_alloc(ctx, &head->dweight, s->CLS * s->D, 4, err);
    if (rc) {
        onednn_head_destroy(ctx, head);
        return rc;
    }
    *out = head;
    return 0;
}

/* unit = x / |x| row by row, invnorm = 1 / |x|. */
static void normalise(struct ff_ops_ctx *ctx, float *unit, float *invnorm,
                      const float *x, int64_t rows, int D)
{
    const struct onednn_rows *k = onednn(ctx)->rows;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t r = 0; r < rows; r++) {
        bool finite;
        double length = sqrt(k->sum_squares(&finite, x + r * D, D));
        float inv = (float)(1.0 / fmax(length, NORM_EPS));
        invnorm[r] = isnan(length) ? (float)length : inv;
        for (int d = 0; d < D; d++)
            unit[r * D + d] = x[r * D + d] * invnorm[r];
    }
}

/* dx = (dunit - (dunit . unit) unit) / |x| row by row; dx holds dunit on entry. */
static void normalise_bwd(struct ff_ops_ctx *ctx, float *dx, const float *unit,
                          const float *invnorm, int64_t rows, int D)
{
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t r = 0; r < rows; r++) {
        double dot = 0;
        for (int d = 0; d < D; d++)
            dot += (double)dx[r * D + d] * unit[r * D + d];
        for (int d = 0; d < D; d++)
            dx[r * D + d] = (dx[r * D + d] - (float)dot * unit[r * D + d]) * invnorm[r];
    }
}

/* The target's logit before the scale, and its derivative by the cosine. */
static double with_margin(double *derivative, const struct ff_head_shape *s,
                          double cosine)
{
    *derivative = 1;
    if (s->kind == FF_HEAD_COSFACE)
        return cosine - s->margin;
    if (s->kind == FF_HEAD_SOFTMAX)
        return cosine;
    double theta = acos(cosine);
    if (s->margin_grad == FF_MARGIN_GRAD_EXACT)
        *derivative = sin(theta + s->margin) / fmax(sin(theta), 1e-6);
    return cos(theta + s->margin);
}

/* One row: cosines -> loss_scale d loss / d cosine in place; returns the sample's loss.
 */
static double softmax_row(const struct onednn_rows *k, const struct ff_head_shape *s,
                          float *row, int64_t label, double loss_scale)
{
    double target_cosine = row[label], derivative;
    double clamped = fmin(1.0, fmax(-1.0, target_cosine));
    if (isnan(target_cosine))
        return target_cosine;
    float target = (float)(s->scale * with_margin(&derivative, s, clamped)),
          max = target;
    for (int64_t c = 0; c < s->CLS; c++) {
        float v = row[c] > 1.0f ? 1.0f : row[c] < -1.0f ? -1.0f : row[c];
        v = c == label ? target : v * s->scale;
        max = v > max ? v : max;
        row[c] = v;
    }
    double sum = k->exp_sum(row, max, s->CLS);
    double to_grad = loss_scale * s->scale / (double)s->N;
    float factor = (float)(to_grad / sum);
    for (int64_t c = 0; c < s->CLS; c++)
        row[c] *= factor;
    double p = exp((double)target - max) / sum;
    row[label] =
        fabs(target_cosine) <= 1.0 ? (float)((p - 1.0) * to_grad * derivative) : 0.0f;
    return (double)max + log(sum) - target;
}

const struct ff_tensor *onednn_head_dweight(const struct ff_head_plan *head)
{
    return &head->dweight;
}

void onednn_head_fwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     const struct ff_tensor *embedding, const struct ff_tensor *weight,
                     const int64_t *label)
{
    const struct ff_head_shape *s = &head->shape;
    const struct onednn_rows *k = onednn(ctx)->rows;
    float *e = ff_f32(&head->unit_embedding), *w = ff_f32(&head->unit_weight);
    float *logits = ff_f32(&head->logits);
    if (!label)
        label = ctx->step.label;
    normalise(ctx, e, ff_f32(&head->embedding_invnorm), ff_f32(embedding), s->N, s->D);
    normalise(ctx, w, ff_f32(&head->weight_invnorm), ff_f32(weight), s->CLS, s->D);
    FF_TRY_DNNL(ctx, dnnl_sgemm('N', 'T', s->N, s->CLS, s->D, 1.0f, e, s->D, w, s->D,
                                0.0f, logits, s->CLS));
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int n = 0; n < s->N; n++)
        head->loss[n] = softmax_row(k, s, logits + (int64_t)n * s->CLS, label[n],
                                    ctx->loss_scale.value);
    double total = 0;
    for (int n = 0; n < s->N; n++)
        total += head->loss[n];
    ctx->loss = (float)(total / s->N);
}

void onednn_head_bwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     struct ff_tensor *dembedding, const struct ff_tensor *embedding,
                     const struct ff_tensor *weight)
{
    (void)embedding;
    (void)weight;
    const struct ff_head_shape *s = &head->shape;
    const float *e = ff_f32(&head->unit_embedding), *w = ff_f32(&head->unit_weight);
    const float *g = ff_f32(&head->logits);
    FF_TRY_DNNL(ctx, dnnl_sgemm('N', 'N', s->N, s->D, s->CLS, 1.0f, g, s->CLS, w, s->D,
                                0.0f, ff_f32(dembedding), s->D));
    FF_TRY_DNNL(ctx, dnnl_sgemm('T', 'N', s->CLS, s->D, s->N, 1.0f, g, s->CLS, e, s->D,
                                0.0f, ff_f32(&head->dweight), s->D));
    normalise_bwd(ctx, ff_f32(dembedding), e, ff_f32(&head->embedding_invnorm), s->N,
                  s->D);
    normalise_bwd(ctx, ff_f32(&head->dweight), w, ff_f32(&head->weight_invnorm), s->CLS,
                  s->D);
}
