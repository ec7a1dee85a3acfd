/* SPDX-License-Identifier: MIT */
/* Margin head: cosines by one product, margin and softmax in place, gradients by two
 * more, the centres' update in one pass. Formulas and sources: ref/ref_head.c.
 *
 * f32 head: products take the centres W as they are, and 1/|w| stands outside: a cosine
 * is (e . w) / |w|, and with G = d loss / d cosine / |w| both d loss / d e = G W and
 * the centres' gradient dW = G^T e - (its part along w) need no unit vectors. No copy
 * of W.
 *
 * fp16 head: a copy Wn of unit centres in halves, written by the update. Cosines are
 * halves, G has a static scale S, as the loss scale would overflow it: the largest
 * power of two with s S / N <= 2^11 (a cosine's gradient reaches s / N). A centre's
 * gradient is the sum over all that pull at it, N times as much: its own scale is the
 * largest that keeps s within the halves, and the product changes from one to the
 * other.
 *
 * The label's column is the only one with a margin; its logit and derivative are taken
 * out first. The softmax reads each row once, in chunks that give (max, sum of exp); a
 * small kernel joins them into the row's log-sum and the loss. Rows are padded to eight
 * columns, and the products of halves take them all, with centres of zeros: cuBLAS has
 * its fastest where the counts too are multiples of 16 bytes. Classes count in 64 bits.
 */
#include <stdlib.h>

#include "cuda_launch.h"

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    VECTORS = 4,                       /* of a thread in a chunk */
    CHUNK = THREADS * VECTORS * LANES, /* columns of a block */
    WIDEST = 8                         /* vectors of a lane in a row: D <= 2048 */
};
#define NORM_EPS 1e-12f /* torch.nn.functional.normalize */

struct ff_head_plan {
    struct ff_head_shape shape;
    struct cuda_margin margin;
    enum cuda_type type;
    int64_t ld;               /* columns of a row of logits */
    int64_t rows;             /* classes of the products */
    int chunks;               /* of a row */
    double static_scale;      /* S; 0 in f32: the loss scale counts */
    double centre_scale;      /* of dweight; 0 likewise */
    void *unit;               /* (N, D) of type: unit embeddings */
    float *embedding_invnorm; /* (N) */
    float *weight_invnorm;    /* (ld) */
    void *unit_weight;        /* (rows, D) halves; NULL in f32 */
    void *cosine;             /* (N, ld) of type, then d loss / d cosine */
    void *dweight;            /* (rows, D) of type */
    float *dunit;             /* (N, D) */
    float2 *parts;            /* (N, chunks): max, sum of exp */
    float *log_sum;           /* (N) */
    float2 *target;           /* (N): logit of the label, its derivative */
    int64_t *label;           /* (N), of a call with labels of its own */
    const int64_t *labels;    /* those of the last head_fwd */
    struct cuda_gemm *forward, *by_embedding, *by_weight;
};

/* -- rows of length D, one warp each -- */

template <class T> struct row_args {
    const float *x; /* (rows, D) */
    T *unit;        /* (rows, D) or NULL */
    float *invnorm; /* (rows) */
    int64_t rows;
    int D;
};

/* invnorm = 1 / |x|, unit = x / |x|. */
template <class T> static __global__ void normalise_kernel(row_args<T> a)
{
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)(threadIdx.x % 32);
    if (row >= a.rows)
        return;
    const float *x = a.x + row * a.D;
    float sum = 0, v[LANES];
    for (int d = lane * LANES; d < a.D; d += 32 * LANES) {
        get8(v, x + d);
        FF_UNROLL
        for (int i = 0; i < LANES; i++)
            sum += v[i] * v[i];
    }
    float length = sqrtf(warp_sum(sum));
    float inv = 1.0f / (length < NORM_EPS ? NORM_EPS : length); /* NaN stays NaN */
    if (lane == 0)
        a.invnorm[row] = inv;
    for (int d = lane * LANES; a.unit && d < a.D; d += 32 * LANES) {
        get8(v, x + d);
        FF_UNROLL
        for (int i = 0; i < LANES; i++)
            v[i] *= inv;
        put8(a.unit + row * a.D + d, v);
    }
}

struct dembedding_args {
    float *dx; /* (N, D) */
    const float *dunit, *x, *invnorm;
    const struct cuda_state *state;
    double static_scale; /* of dunit; 0: it has the loss scale already */
    int N, D;
};

/* Through x / |x|, and from the head's scale to the loss scale. */
static __global__ void dembedding_kernel(dembedding_args a)
{
    int row = (int)(blockIdx.x * WARPS + threadIdx.x / 32);
    int lane = (int)(threadIdx.x % 32);
    if (row >= a.N)
        return;
    int64_t at = (int64_t)row * a.D;
    float inv = a.invnorm[row], dot = 0, x[LANES], g[LANES];
    float factor =
        a.static_scale == 0 ? 1.0f : (float)(a.state->loss_scale / a.static_scale);
    for (int d = lane * LANES; d < a.D; d += 32 * LANES) {
        get8(x, a.x + at + d);
        get8(g, a.dunit + at + d);
        FF_UNROLL
        for (int i = 0; i < LANES; i++)
            dot += g[i] * (x[i] * inv);
    }
    dot = warp_sum(dot);
    for (int d = lane * LANES; d < a.D; d += 32 * LANES) {
        get8(x, a.x + at + d);
        get8(g, a.dunit + at + d);
        FF_UNROLL
        for (int i = 0; i < LANES; i++)
            g[i] = factor * cuda_through_norm(g[i], x[i] * inv, dot, inv);
        put8(a.dx + at + d, g);
    }
}

/* -- softmax -- */

template <class T> struct softmax_args {
    T *cosine;            /* (N, ld) */
    const float *invnorm; /* (ld) factors of the columns, or NULL */
    const int64_t *label;
    float2 *parts;
    float *log_sum;
    float2 *target;
    struct cuda_state *state;
    struct cuda_margin margin;
    double static_scale;
    int64_t CLS, ld;
    int N, chunks;
};

/* Cosines of a thread's VECTORS vectors; columns at and past CLS are 0. */
template <class T>
static __device__ __forceinline__ void load_cosines(float (&x)[VECTORS][LANES],
                                                    const softmax_args<T> &a,
                                                    int64_t row, int64_t first)
{
    FF_UNROLL
    for (int u = 0; u < VECTORS; u++) {
        int64_t c = first + (int64_t)u * THREADS * LANES;
        FF_UNROLL
        for (int i = 0; i < LANES; i++)
            x[u][i] = 0;
        if (c >= a.ld)
            continue;
        get8(x[u], a.cosine + row * a.ld + c);
        if (a.invnorm) {
            float inv[LANES];
            get8(inv, a.invnorm + c);
            FF_UNROLL
            for (int i = 0; i < LANES; i++)
                x[u][i] *= inv[i];
        }
    }
}

template <class T> static __global__ void target_kernel(softmax_args<T> a)
{
    int n = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (n >= a.N)
        return;
    int64_t label = a.label[n];
    float cosine = widen(a.cosine[n * a.ld + label]);
    if (a.invnorm)
        cosine *= a.invnorm[label];
    cosine = cuda_clamp_cosine(cosine);
    a.target[n] = make_float2(a.margin.scale * cuda_target(cosine, &a.margin),
                              cuda_target_derivative(cosine, &a.margin));
}

template <class T> static __global__ void parts_kernel(softmax_args<T> a)
{
    int64_t row = blockIdx.y, first = (int64_t)blockIdx.x * CHUNK + threadIdx.x * LANES;
    int64_t label = a.label[row];
    float x[VECTORS][LANES], target = a.target[row].x, max = -INFINITY, sum = 0;
    load_cosines(x, a, row, first);
    FF_UNROLL
    for (int u = 0; u < VECTORS; u++)
        FF_UNROLL
    for (int i = 0; i < LANES; i++) {
        int64_t c = first + (int64_t)u * THREADS * LANES + i;
        x[u][i] = c == label ? target : a.margin.scale * cuda_clamp_cosine(x[u][i]);
        if (c < a.CLS && x[u][i] > max)
            max = x[u][i];
    }
    max = block_max(max);
    FF_UNROLL
    for (int u = 0; u < VECTORS; u++)
        FF_UNROLL
    for (int i = 0; i < LANES; i++)
        if (first + (int64_t)u * THREADS * LANES + i < a.CLS)
            sum += expf(x[u][i] - max);
    double total = block_sum((double)sum);
    if (threadIdx.x == 0)
        a.parts[row * a.chunks + blockIdx.x] = make_float2(max, (float)total);
}

template <class T>
static __global__ void loss_kernel(softmax_args<T> a, const struct cuda_step_head *head,
                                   struct cuda_report *report)
{
    double total = 0;
    for (int n = (int)threadIdx.x; n < a.N; n += THREADS) {
        const float2 *part = a.parts + (int64_t)n * a.chunks;
        double sum = 0;
        float max = -INFINITY;
        for (int k = 0; k < a.chunks; k++)
            max = part[k].x > max ? part[k].x : max;
        for (int k = 0; k < a.chunks; k++)
            sum += (double)part[k].y * exp((double)part[k].x - (double)max);
        double log_sum = (double)max + log(sum);
        a.log_sum[n] = (float)log_sum;
        total += log_sum - (double)a.target[n].x;
    }
    total = block_sum(total);
    if (threadIdx.x == 0) {
        int slot = (int)(head->step % CUDA_RING);
        report->loss[slot].loss = (float)(total / a.N);
        __threadfence_system();
        report->loss[slot].step = head->step;
    }
}

template <class T> static __global__ void dcosine_kernel(softmax_args<T> a)
{
    int64_t row = blockIdx.y, first = (int64_t)blockIdx.x * CHUNK + threadIdx.x * LANES;
    int64_t label = a.label[row];
    float2 target = a.target[row];
    float x[VECTORS][LANES], log_sum = a.log_sum[row];
    double scale = a.static_scale == 0 ? a.state->loss_scale : a.static_scale;
    float factor = (float)((double)a.margin.scale / a.N * scale);
    bool bad = false;
    load_cosines(x, a, row, first);
    FF_UNROLL
    for (int u = 0; u < VECTORS; u++) {
        int64_t c = first + (int64_t)u * THREADS * LANES;
        if (c >= a.ld)
            continue;
        float inv[LANES];
        if (a.invnorm)
            get8(inv, a.invnorm + c);
        FF_UNROLL
        for (int i = 0; i < LANES; i++) {
            float g = cuda_dcosine(x[u][i], a.margin.scale * cuda_clamp_cosine(x[u][i]),
                                   log_sum, factor);
            if (c + i == label)
                g = cuda_dtarget(x[u][i], target.x, log_sum, factor, target.y);
            if (a.invnorm)
                g *= inv[i];
            x[u][i] = c + i < a.CLS ? g : 0;
            bad = bad || !(fabsf(x[u][i]) < 1e30f);
            if (sizeof(T) == 2) /* an exact margin's derivative at cosine 1 */
                x[u][i] = cuda_clamp_half(x[u][i]);
        }
        put8(a.cosine + row * a.ld + c, x[u]);
    }
    if (bad)
        a.state->head_bad = 1;
}

/* An fp16 gradient may overflow where all that made it is finite. */
static __global__ void finite_kernel(const __half *x, int64_t count,
                                     struct cuda_state *state)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x * LANES;
    bool bad = false;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
         i < count; i += step) {
        float v[LANES];
        get8(v, x + i);
        FF_UNROLL
        for (int k = 0; k < LANES; k++)
            bad = bad || !isfinite(v[k]);
    }
    if (bad)
        state->head_bad = 1;
}

/* -- update -- */

template <class T> struct update_args {
    float *weight, *velocity; /* (CLS, D) */
    const T *dweight;         /* (CLS, D) */
    T *unit;                  /* (CLS, D), NULL in f32 */
    float *invnorm;           /* (CLS) */
    const struct cuda_state *state;
    const struct cuda_step_head *head;
    double centre_scale;
    int64_t CLS;
    int D;
    float momentum, decay;
};

/* One warp a row: project out the radial part, momentum, step, new norm and unit. */
template <class T, int V> static __global__ void update_kernel(update_args<T> a)
{
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)(threadIdx.x % 32);
    if (row >= a.CLS || !a.state->finite)
        return;
    int64_t at = row * a.D;
    float w[V][LANES], g[V][LANES], v[V][LANES], dot = 0, sum = 0;
    float inv = a.invnorm[row], lr = (float)a.head->lr;
    FF_UNROLL
    for (int k = 0; k < V; k++) {
        int d = (k * 32 + lane) * LANES;
        if (d >= a.D)
            continue;
        get8(w[k], a.weight + at + d);
        get8(g[k], a.dweight + at + d);
        get8(v[k], a.velocity + at + d);
        FF_UNROLL
        for (int i = 0; i < LANES; i++)
            dot += g[k][i] * (w[k][i] * inv);
    }
    dot = warp_sum(dot);
    /* In f32 the products carried 1 / |w| already, and the loss scale. */
    bool f32 = a.centre_scale == 0;
    float factor = (float)(1.0 / (f32 ? a.state->used_scale : a.centre_scale));
    FF_UNROLL
    for (int k = 0; k < V; k++) {
        int d = (k * 32 + lane) * LANES;
        if (d >= a.D)
            continue;
        FF_UNROLL
        for (int i = 0; i < LANES; i++) {
            float through =
                cuda_through_norm(g[k][i], w[k][i] * inv, dot, f32 ? 1.0f : inv);
            cuda_sgd(&w[k][i], &v[k][i], factor * through, a.momentum, a.decay, lr);
            sum += w[k][i] * w[k][i];
        }
        put8(a.weight + at + d, w[k]);
        put8(a.velocity + at + d, v[k]);
    }
    float length = sqrtf(warp_sum(sum));
    inv = 1.0f / (length < NORM_EPS ? NORM_EPS : length);
    if (lane == 0)
        a.invnorm[row] = inv;
    FF_UNROLL
    for (int k = 0; a.unit && k < V; k++) {
        int d = (k * 32 + lane) * LANES;
        if (d >= a.D)
            continue;
        FF_UNROLL
        for (int i = 0; i < LANES; i++)
            w[k][i] *= inv;
        put8(a.unit + at + d, w[k]);
    }
}

/* -- entries -- */

template <class F> static void with_head_type(enum cuda_type type, F fn)
{
    if (type == CUDA_F32)
        fn(float());
    else
        fn(__half());
}

static int64_t padded(int64_t classes)
{
    return (classes + LANES - 1) / LANES * LANES;
}

/* A plan's blocks of device memory; h has its shape and type. */
struct block {
    void **at;
    size_t bytes;
};
enum { BLOCKS = 11 };
static void list_blocks(struct block out[BLOCKS], struct ff_head_plan *h)
{
    size_t N = (size_t)h->shape.N, D = (size_t)h->shape.D;
    size_t ld = (size_t)h->ld, rows = (size_t)h->rows, chunks = (size_t)h->chunks;
    size_t element = (size_t)cuda_type_bytes(h->type);
    const struct block all[BLOCKS] = {
        {&h->unit, N * D * element},
        {(void **)&h->embedding_invnorm, N * sizeof(float)},
        {(void **)&h->weight_invnorm, ld * sizeof(float)},
        {&h->unit_weight, h->type == CUDA_F32 ? 0 : rows * D * element},
        {&h->cosine, N * ld * element},
        {&h->dweight, rows * D * element},
        {(void **)&h->dunit, N * D * sizeof(float)},
        {(void **)&h->parts, N * chunks * sizeof(float2)},
        {(void **)&h->log_sum, N * sizeof(float)},
        {(void **)&h->target, N * sizeof(float2)},
        {(void **)&h->label, N * sizeof(int64_t)},
    };
    memcpy(out, all, sizeof all);
}

static void shape_plan(struct ff_head_plan *h, const struct cuda_ctx *cu,
                       const struct ff_head_shape *s)
{
    h->shape = *s;
    h->type = cu->head_type;
    h->ld = padded(s->CLS);
    h->rows = h->type == CUDA_F32 ? s->CLS : h->ld;
    h->chunks = (int)((h->ld + CHUNK - 1) / CHUNK);
}

int64_t cuda_head_bytes(struct ff_ops_ctx *ctx, const struct ff_head_shape *shape)
{
    struct ff_head_plan plan = {};
    struct block blocks[BLOCKS];
    size_t sum = 0;
    shape_plan(&plan, cuda_of(ctx), shape);
    list_blocks(blocks, &plan);
    for (int i = 0; i < BLOCKS; i++)
        sum += blocks[i].bytes;
    return (int64_t)sum;
}

void cuda_head_destroy(struct ff_ops_ctx *ctx, struct ff_head_plan *head)
{
    struct block blocks[BLOCKS];
    if (!head)
        return;
    cudaStreamSynchronize(cuda_of(ctx)->stream);
    cuda_step_forget(cuda_of(ctx));
    list_blocks(blocks, head);
    for (int i = 0; i < BLOCKS; i++)
        cudaFree(*blocks[i].at);
    cuda_gemm_destroy(head->forward);
    cuda_gemm_destroy(head->by_embedding);
    cuda_gemm_destroy(head->by_weight);
    free(head);
}

static int make_products(struct cuda_ctx *cu, struct ff_head_plan *h,
                         struct ff_err *err)
{
    int64_t N = h->shape.N, D = h->shape.D, rows = h->rows;
    const struct cuda_gemm_shape forward = {N, rows, D,     false,   true,
                                            D, D,    h->ld, h->type, h->type};
    const struct cuda_gemm_shape by_embedding = {N,     D, rows, false,   false,
                                                 h->ld, D, D,    h->type, CUDA_F32};
    const struct cuda_gemm_shape by_weight = {rows,  D, N, true,    false,
                                              h->ld, D, D, h->type, h->type};
    int rc = cuda_gemm_create(&h->forward, cu, &forward, err);
    if (!rc)
        rc = cuda_gemm_create(&h->by_embedding, cu, &by_embedding, err);
    if (!rc)
        rc = cuda_gemm_create(&h->by_weight, cu, &by_weight, err);
    return rc;
}

int cuda_head_create(struct ff_ops_ctx *ctx, struct ff_head_plan **out,
                     const struct ff_head_shape *s, struct ff_err *err)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    struct block blocks[BLOCKS];
    *out = NULL;
    if (s->D % LANES || s->D > WIDEST * 32 * LANES)
        return ff_err_set(err, FF_EUSAGE,
                          "embedding: %d (on cuda a multiple of %d, at most %d)", s->D,
                          LANES, WIDEST * 32 * LANES);
    if (s->N > 65535) /* rows of a grid */
        return ff_err_set(err, FF_EUSAGE, "batch: %d (on cuda at most 65535)", s->N);
    struct ff_head_plan *h = static_cast<ff_head_plan *>(calloc(1, sizeof *h));
    if (!h)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    shape_plan(h, cu, s);
    h->margin.kind = s->kind == FF_HEAD_ARCFACE   ? CUDA_ARCFACE
                     : s->kind == FF_HEAD_COSFACE ? CUDA_COSFACE
                                                  : CUDA_SOFTMAX;
    h->margin.exact = s->margin_grad == FF_MARGIN_GRAD_EXACT;
    h->margin.scale = s->scale;
    h->margin.margin = s->margin;
    if (h->type != CUDA_F32) {
        h->static_scale = cuda_head_scale((double)s->scale / s->N, 2048);
        h->centre_scale = cuda_head_scale(s->scale, 65440);
    }
    list_blocks(blocks, h);
    int rc = 0;
    for (int i = 0; i < BLOCKS && !rc; i++)
        if (blocks[i].bytes)
            rc = cuda_alloc_bytes(cu, blocks[i].at, blocks[i].bytes, err);
    if (!rc)
        rc = make_products(cu, h, err);
    if (rc) {
        cuda_head_destroy(ctx, h);
        return rc;
    }
    *out = h;
    return 0;
}

template <class T>
static void normalise(struct cuda_ctx *cu, T *unit, float *invnorm, const float *x,
                      int64_t rows, int D)
{
    row_args<T> a = {x, unit, invnorm, rows, D};
    launch(cu, "normalise", normalise_kernel<T>,
           dim3(blocks_for(rows, WARPS, INT32_MAX)), dim3(THREADS), a);
}

void cuda_head_pack(struct ff_ops_ctx *ctx, struct ff_head_plan *h,
                    const struct ff_tensor *weight)
{
    with_head_type(h->type, [&](auto t) {
        using T = decltype(t);
        normalise(cuda_of(ctx), static_cast<T *>(h->unit_weight), h->weight_invnorm,
                  as<const float>(weight), h->shape.CLS, h->shape.D);
    });
}

template <class T>
static softmax_args<T> softmax_arguments(struct cuda_ctx *cu,
                                         const struct ff_head_plan *h)
{
    softmax_args<T> a = {static_cast<T *>(h->cosine),
                         h->type == CUDA_F32 ? h->weight_invnorm : NULL,
                         h->labels,
                         h->parts,
                         h->log_sum,
                         h->target,
                         cu->state,
                         h->margin,
                         h->static_scale,
                         h->shape.CLS,
                         h->ld,
                         h->shape.N,
                         h->chunks};
    return a;
}

void cuda_head_fwd(struct ff_ops_ctx *ctx, struct ff_head_plan *h,
                   const struct ff_tensor *embedding, const struct ff_tensor *weight,
                   const int64_t *label)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    const struct ff_head_shape *s = &h->shape;
    h->labels = label ? h->label : cuda_step_labels(cu);
    if (label &&
        !FF_TRY_CUDA(cu, cudaMemcpyAsync(h->label, label, (size_t)s->N * sizeof *label,
                                         cudaMemcpyHostToDevice, cu->stream)))
        return;
    with_head_type(h->type, [&](auto t) {
        using T = decltype(t);
        normalise(cu, static_cast<T *>(h->unit), h->embedding_invnorm,
                  as<const float>(embedding), s->N, s->D);
        cuda_gemm_run(cu, h->forward, 1, h->cosine, h->unit,
                      h->type == CUDA_F32 ? weight->data : h->unit_weight);
        softmax_args<T> a = softmax_arguments<T>(cu, h);
        launch(cu, "target", target_kernel<T>, dim3(blocks_for(s->N, THREADS, 1 << 30)),
               dim3(THREADS), a);
        launch(cu, "softmax", parts_kernel<T>,
               dim3((unsigned int)h->chunks, (unsigned int)s->N), dim3(THREADS), a);
        launch(cu, "loss", loss_kernel<T>, dim3(1), dim3(THREADS), a,
               cuda_step_values(cu), cu->device_report);
    });
    cuda_step_loss_queued(cu);
}

void cuda_head_bwd(struct ff_ops_ctx *ctx, struct ff_head_plan *h,
                   struct ff_tensor *dembedding, const struct ff_tensor *embedding,
                   const struct ff_tensor *weight)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    const struct ff_head_shape *s = &h->shape;
    with_head_type(h->type, [&](auto t) {
        using T = decltype(t);
        launch(cu, "dcosine", dcosine_kernel<T>,
               dim3((unsigned int)h->chunks, (unsigned int)s->N), dim3(THREADS),
               softmax_arguments<T>(cu, h));
    });
    cuda_gemm_run(cu, h->by_embedding, 1, h->dunit, h->cosine,
                  h->type == CUDA_F32 ? weight->data : h->unit_weight);
    float alpha = h->static_scale == 0 ? 1 : (float)(h->centre_scale / h->static_scale);
    cuda_gemm_run(cu, h->by_weight, alpha, h->dweight, h->cosine, h->unit);
    if (h->type == CUDA_F16)
        launch(
            cu, "finite", finite_kernel,
            dim3(blocks_for(s->CLS * s->D, THREADS * LANES, 8 * cu->multiprocessors)),
            dim3(THREADS), static_cast<const __half *>(h->dweight), s->CLS * s->D,
            cu->state);
    dembedding_args a = {as<float>(dembedding),
                         h->dunit,
                         as<const float>(embedding),
                         h->embedding_invnorm,
                         cu->state,
                         h->static_scale,
                         s->N,
                         s->D};
    launch(cu, "dembedding", dembedding_kernel, dim3(blocks_for(s->N, WARPS, 1 << 30)),
           dim3(THREADS), a);
}

void cuda_head_update(struct ff_ops_ctx *ctx, struct ff_head_plan *h,
                      struct ff_tensor *weight, struct ff_tensor *velocity,
                      const struct ff_sgd *sgd)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    const struct ff_head_shape *s = &h->shape;
    with_head_type(h->type, [&](auto t) {
        using T = decltype(t);
        update_args<T> a = {as<float>(weight),
                            as<float>(velocity),
                            static_cast<const T *>(h->dweight),
                            static_cast<T *>(h->unit_weight),
                            h->weight_invnorm,
                            cu->state,
                            cuda_step_values(cu),
                            h->centre_scale,
                            s->CLS,
                            s->D,
                            (float)sgd->momentum,
                            (float)sgd->weight_decay};
        int vectors = (s->D + 32 * LANES - 1) / (32 * LANES);
        launch(cu, "head_update",
               vectors <= 1   ? update_kernel<T, 1>
               : vectors <= 2 ? update_kernel<T, 2>
               : vectors <= 4 ? update_kernel<T, 4>
                              : update_kernel<T, WIDEST>,
               dim3(blocks_for(s->CLS, WARPS, INT32_MAX)), dim3(THREADS), a);
    });
}
