/* SPDX-License-Identifier: MIT */
/* Sizes of runs: published ones, and those of the networks that are trained. */
#include "estimate.h"
#include "net_fixture.h"

TestSuite(estimate, .timeout = 60);

Test(estimate, parameter_count_of_the_published_networks)
{
    struct ff_params params;
    const struct {
        int backbone;
        double millions;
    } known[] = {{FF_BACKBONE_R18, 24.0},
                 {FF_BACKBONE_R34, 34.1},
                 {FF_BACKBONE_R50, 43.6},
                 {FF_BACKBONE_R100, 65.2},
                 {FF_BACKBONE_MBF, 2.06}};
    ff_params_defaults(&params);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        params.backbone = known[i].backbone;
        cr_assert(epsilon_eq(dbl, (double)ff_estimate_parameters(&params) / 1e6,
                             known[i].millions, 0.06));
    }
}

/* 0.01 gives less than one channel, the binary fractions halves, 0.337 stages that are
 * not twice the one before. */
Test(estimate, counts_what_the_network_has_at_any_width)
{
    static const double widths[] = {0.01,  0.0234375, 0.03125, 0.05,     0.1,
                                    0.337, 0.3828125, 0.5,     0.7265625};
    static const int backbones[] = {FF_BACKBONE_R18, FF_BACKBONE_R34, FF_BACKBONE_R50,
                                    FF_BACKBONE_R100, FF_BACKBONE_MBF};
    struct ff_params params;
    ff_params_defaults(&params);
    params.image_size = 48;
    params.embedding = 24;
    for (size_t b = 0; b < sizeof backbones / sizeof *backbones; b++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            struct net net;
            params.backbone = backbones[b];
            params.width = widths[w];
            const struct ff_model_config config = ff_model_config_from(&params);
            net_open(&net, FF_BACKEND_REF, 1, &config, 1, false);
            cr_expect(eq(i64, ff_estimate_parameters(&params),
                         ff_model_parameter_count(net.model)),
                      "backbone %d, width %g", backbones[b], widths[w]);
            net_close(&net);
        }
}

Test(estimate, bytes_as_text)
{
    char text[32];
    cr_assert(eq(str, (char *)ff_bytes_text(text, 999.6), "1.0 kB"));
    cr_assert(eq(str, (char *)ff_bytes_text(text, 26.1e9), "26 GB"));
}
