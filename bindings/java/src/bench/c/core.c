/*
 * The core without Java: the calls that Java makes, in a loop of C.
 */
#include "miamix.h"

/* mix is miamix_mix of the library that Java has loaded. The seeds are 0 to n - 1; the first status that is not 0 ends it. */
int32_t mix_n_times(__typeof__(miamix_mix) *mix, uint64_t n, const miamix_op *op, const miamix_tensor *images,
                    const miamix_tensor *labels, size_t num_classes, miamix_tensor *mixed_images,
                    miamix_tensor *mixed_labels, miamix_tensor *label_weight, miamix_tensor *partner_index)
{
    for (uint64_t seed = 0; seed < n; seed++) {
        int32_t status = mix(op, seed, 0, images, NULL, labels, num_classes, mixed_images, mixed_labels, label_weight,
                             partner_index, NULL);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}
