#include <miamix.hpp>

/// The mixed images of a plan over images of one channel, [samples, height, width].
std::vector<float> mix(const miamix::Op& op, const miamix::Plan& plan, const std::vector<float>& images);
