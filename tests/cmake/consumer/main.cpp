// C, C++ and two translation units with miamix.hpp in one program. Says "ok" and the version, if what the one language
// renders explains what the other one mixes.

#include "consumer.h"
#include "mix.hpp"

#include <cmath>
#include <cstdio>

int main() try {
    const std::uint64_t samples = 6, side = 16;
    const std::size_t pixels = side * side;
    const miamix::Op op;
    const miamix::Plan plan = op.draw({samples, side, side}, 1);
    std::vector<float> images(samples * pixels), masks(images.size());
    for (std::size_t i = 0; i < images.size(); i++) {
        images[i] = static_cast<float>(i / pixels);
    }
    miamix::check(render_masks(op.get(), plan.get(), masks.data()));
    const std::vector<float> mixed = mix(op, plan, images);
    const std::vector<std::int64_t> partner = plan.partner_index();
    double difference = 0;
    for (std::size_t i = 0; i < mixed.size(); i++) {
        const float other = static_cast<float>(partner[i / pixels]);
        const double expected = static_cast<double>(masks[i]) * images[i] + (1.0 - masks[i]) * other;
        difference = std::fmax(difference, std::fabs(mixed[i] - expected));
    }
    // Numbers to 5, three roundings of at most 2^-22 each.
    if (!(difference < 1e-6) || masks == std::vector<float>(masks.size(), 1.0f)) {
        std::printf("masks do not explain the mixed images: %g\n", difference);
        return 1;
    }
    std::printf("ok %s\n", miamix::version().data());
} catch (const miamix::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
