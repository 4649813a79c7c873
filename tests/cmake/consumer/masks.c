#include "consumer.h"

miamix_status render_masks(const miamix_op *op, const miamix_plan *plan, float *masks) {
    miamix_shape shape;
    miamix_status status = miamix_plan_shape(plan, &shape);
    int64_t extents[3];
    miamix_tensor tensor = {masks, {MIAMIX_DEVICE_TYPE_CPU, 0}, 3, {MIAMIX_DTYPE_CODE_FLOAT, 32, 1}, extents, NULL, 0};
    if (status != MIAMIX_STATUS_OK) {
        return status;
    }
    extents[0] = (int64_t)shape.samples;
    extents[1] = (int64_t)shape.height;
    extents[2] = (int64_t)shape.width;
    return miamix_masks(op, plan, &tensor, NULL, NULL);
}
