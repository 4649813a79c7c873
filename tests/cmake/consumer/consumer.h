#include <miamix.h>

#ifdef __cplusplus
extern "C"
#endif
/* Renders the masks of a plan, by miamix.h: [samples, height, width]. */
miamix_status render_masks(const miamix_op *op, const miamix_plan *plan, float *masks);
