/* Mixes one batch: eight images of 3 x 32 x 32 with class ids below 10.
 *
 *     cc mix_batch.c -lmiamix -o mix_batch
 */
#include <miamix.h>
#include <stdio.h>

static float images[8 * 3 * 32 * 32], mixed_images[8 * 3 * 32 * 32], mixed_labels[8 * 10];
static int64_t labels[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static miamix_tensor tensor(void *data, uint8_t code, uint8_t bits, int32_t ndim, int64_t *shape) {
    miamix_tensor t = {data, {MIAMIX_DEVICE_TYPE_CPU, 0}, ndim, {code, bits, 1}, shape, NULL, 0};
    return t;
}

int main(void) {
    int64_t image_shape[] = {8, 3, 32, 32}, label_shape[] = {8, 10};
    miamix_tensor in = tensor(images, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, image_shape);
    miamix_tensor ids = tensor(labels, MIAMIX_DTYPE_CODE_INT, 64, 1, label_shape);
    miamix_tensor out = tensor(mixed_images, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, image_shape);
    miamix_tensor rows = tensor(mixed_labels, MIAMIX_DTYPE_CODE_FLOAT, 32, 2, label_shape);
    miamix_op *op = NULL;
    miamix_status status = miamix_op_create(NULL, &op); /* NULL: the defaults */
    if (status == MIAMIX_STATUS_OK) {
        status = miamix_mix(op, 42, 0, &in, NULL, &ids, 10, &out, &rows, NULL, NULL, NULL);
    }
    if (status != MIAMIX_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", miamix_status_name(status), miamix_last_error_message());
    }
    for (int i = 0; status == MIAMIX_STATUS_OK && i < 8; i++) {
        for (int k = 0; k < 10; k++) {
            printf("%.2f ", (double)mixed_labels[10 * i + k]);
        }
        printf("\n");
    }
    miamix_op_free(op);
    return status == MIAMIX_STATUS_OK ? 0 : 1;
}
