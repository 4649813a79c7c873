/* Faults of a caller, which sanitizers and Valgrind have to find: one that sees nothing finds these neither.
 *
 *     planted overflow | race | leak
 */
#define _GNU_SOURCE

#include "miamix.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 4, SIDE = 8, ELEMENTS = N * SIDE * SIDE };

static miamix_op *op;
static float images[ELEMENTS + SIDE * SIDE];
static pthread_barrier_t both;

/* Mixes n images into memory for N of them. */
static void mix(int64_t n, float *out) {
    int64_t shape[4] = {n, 1, SIDE, SIDE};
    miamix_tensor in = {images, {MIAMIX_DEVICE_TYPE_CPU, 0}, 4, {MIAMIX_DTYPE_CODE_FLOAT, 32, 1}, shape, NULL, 0};
    miamix_tensor mixed = in;
    mixed.data = out;
    if (miamix_mix(op, 1, 0, &in, NULL, NULL, 0, &mixed, NULL, NULL, NULL, NULL) != MIAMIX_STATUS_OK) {
        printf("%s\n", miamix_last_error_message());
        exit(3);
    }
}

static void *mix_on_a_thread(void *out) {
    pthread_barrier_wait(&both);
    mix(N, (float *)out);
    return NULL;
}

int main(int argc, char **argv) {
    const char *fault = argc == 2 ? argv[1] : "";
    float *out = (float *)malloc(ELEMENTS * sizeof *out);
    miamix_op_create(NULL, &op);
    if (strcmp(fault, "overflow") == 0) {
        mix(N + 1, out);
    } else if (strcmp(fault, "race") == 0) {
        pthread_barrier_init(&both, NULL, 2);
        /* One alone may go unseen, where the threads do not meet. */
        for (int round = 0; round < 16; round++) {
            pthread_t threads[2];
            pthread_create(&threads[0], NULL, mix_on_a_thread, out);
            pthread_create(&threads[1], NULL, mix_on_a_thread, out);
            pthread_join(threads[0], NULL);
            pthread_join(threads[1], NULL);
        }
    } else if (strcmp(fault, "leak") == 0) {
        const miamix_shape shape = {N, SIDE, SIDE};
        miamix_plan *plan = NULL;
        miamix_plan_draw(op, &shape, 1, 0, &plan);
        plan = NULL; /* never freed */
        (void)plan;
    } else {
        return 2;
    }
    free(out);
    miamix_op_free(op);
    return 0;
}
