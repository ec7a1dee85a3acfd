/* SPDX-License-Identifier: MIT */
/* Margin head and cross-entropy, in double. ArcFace (Deng et al. 2019, eq. 3): the
 * target logit is s cos(theta + m); CosFace (Wang et al. 2018, eq. 4): s (cos theta -
 * m); softmax: s cos theta. With margin_grad straight_through the derivative of the
 * ArcFace target by the cosine is 1, as in the public insightface code, which shifts
 * the angle untracked. */
#include <math.h>
#include <stdlib.h>

#include "ref_priv.h"

#define NORM_EPS 1e-12 /* torch.nn.functional.normalize */

struct ff_head_plan {
    struct ff_head_shape shape;
    double *embedding_norm;   /* (N) */
    double *weight_norm;      /* (CLS) */
    double *cosine;           /* (N, CLS), unclamped */
    double *dcosine;          /* (N, CLS), d loss / d unclamped cosine */
    struct ff_tensor dweight; /* (CLS, D) */
};

void ff_ref_head_destroy(struct ff_ops_ctx *ctx, struct ff_head_plan *head)
{
    if (!head)
        return;
    free(head->embedding_norm);
    free(head->weight_norm);
    free(head->cosine);
    free(head->dcosine);
    ff_ref_free(ctx, &head->dweight);
    free(head);
}

int ff_ref_head_create(struct ff_ops_ctx *ctx, struct ff_head_plan **out,
                       const struct ff_head_shape *shape, struct ff_err *err)
{
    struct ff_head_plan *head = calloc(1, sizeof *head);
    size_t n = (size_t)shape->N, classes = (size_t)shape->CLS;
    *out = NULL;
    if (head) {
        head->shape = *shape;
        head->embedding_norm = calloc(n, sizeof(double));
        head->weight_norm = calloc(classes, sizeof(double));
        head->cosine = calloc(n * classes, sizeof(double));
        head->dcosine = calloc(n * classes, sizeof(double));
    }
    if (!head || !head->embedding_norm || !head->weight_norm || !head->cosine ||
        !head->dcosine ||
        ff_ref_alloc(ctx, &head->dweight, shape->CLS * shape->D, 4, NULL)) {
        ff_ref_head_destroy(ctx, head);
        return ff_err_set(err, FF_ENOMEM, "out of memory: head of %lld classes",
                          (long long)shape->CLS);
    }
    *out = head;
    return 0;
}

static double norm(const float *x, int D)
{
    double sum = 0;
    for (int d = 0; d < D; d++)
        sum += (double)x[d] * x[d];
    return fmax(sqrt(sum), NORM_EPS);
}

/* The target's logit before the scale, and its derivative by the cosine. */
static double with_margin(double *derivative, const struct ff_head_shape *s,
                          double cosine)
{
    *derivative = 1;
    switch ((enum ff_head)s->kind) {
    case FF_HEAD_COSFACE: return cosine - s->margin;
    case FF_HEAD_SOFTMAX: return cosine;
    case FF_HEAD_ARCFACE: break;
    }
    double theta = acos(cosine);
    if (s->margin_grad == FF_MARGIN_GRAD_EXACT)
        *derivative = sin(theta + s->margin) / fmax(sin(theta), 1e-6);
    return cos(theta + s->margin);
}

const struct ff_tensor *ff_ref_head_dweight(const struct ff_head_plan *head)
{
    return &head->dweight;
}

/* The CPU backends read the weight itself at every step. */
void ff_ref_head_pack(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                      const struct ff_tensor *weight)
{
    (void)ctx;
    (void)head;
    (void)weight;
}

void ff_ref_head_fwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     const struct ff_tensor *embedding, const struct ff_tensor *weight,
                     const int64_t *label)
{
    const struct ff_head_shape *s = &head->shape;
    const float *e = ff_f32(embedding), *w = ff_f32(weight);
    if (!label)
        label = ctx->step.label;
    for (int64_t c = 0; c < s->CLS; c++)
        head->weight_norm[c] = norm(w + c * s->D, s->D);
    double total = 0;
    for (int n = 0; n < s->N; n++) {
        double *cosine = head->cosine + (int64_t)n * s->CLS;
        double *dcosine = head->dcosine + (int64_t)n * s->CLS;
        double derivative = 1, max = -INFINITY, sum = 0;
        head->embedding_norm[n] = norm(e + (int64_t)n * s->D, s->D);
        for (int64_t c = 0; c < s->CLS; c++) {
            double dot = 0;
            for (int d = 0; d < s->D; d++)
                dot += (double)e[(int64_t)n * s->D + d] * w[c * s->D + d];
            cosine[c] = dot / (head->embedding_norm[n] * head->weight_norm[c]);
            double clamped = fmin(1.0, fmax(-1.0, cosine[c]));
            if (isnan(cosine[c]))
                clamped = cosine[c];
            if (c == label[n])
                clamped = with_margin(&derivative, s, clamped);
            dcosine[c] = s->scale * clamped; /* the logit, until the sum is known */
            max = fmax(max, dcosine[c]);
        }
        for (int64_t c = 0; c < s->CLS; c++)
            sum += exp(dcosine[c] - max);
        total += max + log(sum) - dcosine[label[n]];
        for (int64_t c = 0; c < s->CLS; c++) {
            double g = exp(dcosine[c] - max) / sum - (c == label[n] ? 1.0 : 0.0);
            g *= s->scale / (double)s->N * (c == label[n] ? derivative : 1.0);
            g *= ctx->loss_scale.value;
            dcosine[c] = fabs(cosine[c]) <= 1.0 ? g : 0.0;
        }
    }
    ctx->loss = (float)(total / s->N);
}

/* Adds the pull-back of d/d(unit vector) = sum_k coefficient[k] unit_k through x/|x|:
 * that is (g - (g . u) u) / |x| for g the sum and u = x/|x|. */
static void through_normalise(float *dx, const double *g, const float *x, double length,
                              int D)
{
    double dot = 0;
    for (int d = 0; d < D; d++)
        dot += g[d] * x[d] / length;
    for (int d = 0; d < D; d++)
        dx[d] = (float)((g[d] - dot * x[d] / length) / length);
}

void ff_ref_head_bwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     struct ff_tensor *dembedding, const struct ff_tensor *embedding,
                     const struct ff_tensor *weight)
{
    const struct ff_head_shape *s = &head->shape;
    const float *e = ff_f32(embedding), *w = ff_f32(weight);
    double *g = malloc((size_t)s->D * sizeof *g);
    if (!g) {
        ff_err_set(&ctx->error, FF_ENOMEM, "out of memory");
        return;
    }
    for (int n = 0; n < s->N; n++) {
        for (int d = 0; d < s->D; d++) {
            g[d] = 0;
            for (int64_t c = 0; c < s->CLS; c++)
                g[d] += head->dcosine[(int64_t)n * s->CLS + c] * w[c * s->D + d] /
                        head->weight_norm[c];
        }
        through_normalise(ff_f32(dembedding) + (int64_t)n * s->D, g,
                          e + (int64_t)n * s->D, head->embedding_norm[n], s->D);
    }
    for (int64_t c = 0; c < s->CLS; c++) {
        for (int d = 0; d < s->D; d++) {
            g[d] = 0;
            for (int n = 0; n < s->N; n++)
                g[d] += head->dcosine[(int64_t)n * s->CLS + c] *
                        e[(int64_t)n * s->D + d] / head->embedding_norm[n];
        }
        through_normalise(ff_f32(&head->dweight) + c * s->D, g, w + c * s->D,
                          head->weight_norm[c], s->D);
    }
    free(g);
}
