/* SPDX-License-Identifier: MIT */
/* The element-wise arithmetic of the kernels, one inline function a formula, for host
 * and device: the same source is compared with ref/ element by element on a machine
 * without a GPU. All in f32; tensors of halves are widened by the caller. The table in
 * ops.h says what each op is; sources of the formulas stand in ref/. */
#ifndef FF_CUDA_FORMULAS_H
#define FF_CUDA_FORMULAS_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define FF_HD static __host__ __device__ __forceinline__
#else
#define FF_HD static inline
#endif

/* -- input -- */

FF_HD float cuda_normalise(uint8_t x)
{
    return ((float)x / 255.0f - 0.5f) / 0.5f;
}

/* -- BN and PReLU -- */

FF_HD float cuda_affine(float x, float scale, float shift)
{
    return fmaf(scale, x, shift);
}

/* torch.nn.PReLU: the slope counts at 0 and below, and for NaN. */
FF_HD float cuda_prelu(float pre, float slope)
{
    return pre > 0 ? pre : pre * slope;
}

/* Gradient behind the activation. */
FF_HD float cuda_prelu_bwd(float dout, float pre, float slope)
{
    return pre > 0 ? dout : dout * slope;
}

/* A sample's part of the slope's gradient. */
FF_HD float cuda_prelu_dslope(float dout, float pre)
{
    return pre > 0 ? 0.0f : dout * pre;
}

FF_HD float cuda_xhat(float x, float mean, float invstd)
{
    return (x - mean) * invstd;
}

/* dbias_mean, dweight_mean: dbias / M, dweight / M. */
FF_HD float cuda_bn_bwd(float dy, float xhat, float scale, float dbias_mean,
                        float dweight_mean)
{
    return scale * (dy - dbias_mean - xhat * dweight_mean);
}

/* What bn_finalize makes of a channel's sums; f64, as the table's statistics. */
struct cuda_bn_channel {
    float mean, invstd, scale, shift, running_mean, running_var;
};
FF_HD struct cuda_bn_channel cuda_bn_finalize(double sum, double sum_sq, double M,
                                              float weight, float bias,
                                              float running_mean, float running_var,
                                              float eps, float momentum)
{
    double mean = sum / M, var = sum_sq / M - mean * mean;
    var = var < 0 ? 0 : var; /* NaN stays NaN */
    double unbiased = M > 1 ? var * M / (M - 1) : var;
    double invstd = 1.0 / sqrt(var + (double)eps), scale = (double)weight * invstd;
    double m = (double)momentum;
    struct cuda_bn_channel c;
    c.mean = (float)mean;
    c.invstd = (float)invstd;
    c.scale = (float)scale;
    c.shift = (float)((double)bias - scale * mean);
    c.running_mean = (float)((1 - m) * (double)running_mean + m * mean);
    c.running_var = (float)((1 - m) * (double)running_var + m * unbiased);
    return c;
}

/* -- margin head -- */

/* Kinds as enum ff_head, which CUDA C++ does not see here. */
enum { CUDA_ARCFACE, CUDA_COSFACE, CUDA_SOFTMAX };

struct cuda_margin {
    int kind;
    int exact; /* the derivative of the target's logit tracks the angle */
    float scale, margin;
};

FF_HD float cuda_clamp_cosine(float cosine)
{
    return cosine > 1.0f ? 1.0f : cosine < -1.0f ? -1.0f : cosine; /* NaN stays NaN */
}

/* The target's logit before the scale, of a clamped cosine. */
FF_HD float cuda_target(float cosine, const struct cuda_margin *m)
{
    if (m->kind == CUDA_COSFACE)
        return cosine - m->margin;
    if (m->kind == CUDA_SOFTMAX)
        return cosine;
    return cosf(acosf(cosine) + m->margin);
}

/* Its derivative by the cosine. */
FF_HD float cuda_target_derivative(float cosine, const struct cuda_margin *m)
{
    if (m->kind != CUDA_ARCFACE || !m->exact)
        return 1.0f;
    float theta = acosf(cosine), s = sinf(theta);
    return sinf(theta + m->margin) / (s > 1e-6f ? s : 1e-6f);
}

/* d loss / d cosine of a column that is not the label, times `factor` = scale / N
 * (times a loss scale); 0 where the clamp cut the cosine. */
FF_HD float cuda_dcosine(float cosine, float logit, float log_sum, float factor)
{
    float g = factor * expf(logit - log_sum);
    return fabsf(cosine) > 1.0f ? 0.0f : g; /* a NaN passes */
}

/* The same at the label; derivative: of the target's logit. */
FF_HD float cuda_dtarget(float cosine, float logit, float log_sum, float factor,
                         float derivative)
{
    float g = factor * (expf(logit - log_sum) - 1.0f) * derivative;
    return fabsf(cosine) > 1.0f ? 0.0f : g;
}

/* The largest power of two that leaves `largest` times it within `limit`: a scale of
 * gradients in halves. A limit of 65440 is the largest half less 2^-10, for a sum of
 * halves that were rounded. */
FF_HD double cuda_head_scale(double largest, double limit)
{
    int exponent;
    frexp(limit / largest, &exponent);
    return ldexp(1.0, exponent - 1);
}

/* Into the range of fp16; a NaN passes. */
FF_HD float cuda_clamp_half(float x)
{
    return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x;
}

/* Pull-back of a gradient by a unit vector through x / |x|; dot = gradient . unit. */
FF_HD float cuda_through_norm(float dunit, float unit, float dot, float invnorm)
{
    return (dunit - dot * unit) * invnorm;
}

/* -- optimizer -- */

/* One element of torch.optim.SGD; `gradient` unscaled and clipped. */
FF_HD void cuda_sgd(float *w, float *v, float gradient, float momentum, float decay,
                    float lr)
{
    *v = momentum * *v + gradient + decay * *w;
    *w -= lr * *v;
}

/* torch.nn.utils.clip_grad_norm_; clip_norm 0 = none. */
FF_HD double cuda_clip(double norm, double clip_norm)
{
    double c = clip_norm / (norm + 1e-6);
    return clip_norm > 0 && c < 1 ? c : 1;
}

/* torch.cuda.amp.GradScaler with the published recipe's numbers. */
FF_HD void cuda_move_scale(double *scale, int64_t *good_steps, int finite,
                           int64_t growth_steps)
{
    if (!finite) {
        *scale *= 0.5;
        *good_steps = 0;
    } else if (++*good_steps == growth_steps) {
        *scale *= 2;
        *good_steps = 0;
    }
}

#endif
