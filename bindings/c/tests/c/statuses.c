/* Reaches every status, and prints those that it has reached: "reached 0 1 2 3 ...".
 *
 * Built against a library with the feature test-panic. The statuses of CUDA are reached where libcuda.so.1 is the
 * stand-in of tests/cuda, which does as it is told. */
#define _GNU_SOURCE

#include "miamix.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* 2 x 1 x 4 x 4 images of float32, which is all that the statuses ask for. */
enum { N = 2, SIDE = 4, ELEMENTS = N * SIDE * SIDE, STATUSES = 10 };

static int reached[STATUSES];
static int n_failed = 0;

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            printf("line %d: %s (%s)\n", __LINE__, #condition, miamix_last_error_message());    \
            n_failed++;                                                                        \
        }                                                                                      \
    } while (0)

/* Expects a status, with a message that begins so, and that no output was written. */
static void expect(miamix_status status, miamix_status expected, const char *message, int line) {
    if (status != expected || strncmp(miamix_last_error_message(), message, strlen(message)) != 0) {
        printf("line %d: %s, \"%s\"\n  expected %s, \"%s\"\n", line, miamix_status_name(status),
               miamix_last_error_message(), miamix_status_name(expected), message);
        n_failed++;
        return;
    }
    reached[expected] = 1;
}
#define EXPECT(call, status, message) expect((call), MIAMIX_STATUS_##status, (message), __LINE__)

static float images[ELEMENTS], out_images[ELEMENTS];
static int64_t image_shape[4] = {N, 1, SIDE, SIDE}, map_shape[3] = {N, SIDE, SIDE};

static miamix_tensor tensor(void *data, int64_t *shape, int ndim, int device_type) {
    miamix_tensor t = {0};
    t.data = data;
    t.device.device_type = device_type;
    t.ndim = ndim;
    t.dtype.code = MIAMIX_DTYPE_CODE_FLOAT;
    t.dtype.bits = 32;
    t.dtype.lanes = 1;
    t.shape = shape;
    return t;
}

static void clear(void) {
    memset(out_images, 0xA5, sizeof out_images);
}

static int is_untouched(void) {
    const unsigned char *byte = (const unsigned char *)out_images;
    for (size_t i = 0; i < sizeof out_images; i++) {
        if (byte[i] != 0xA5) {
            return 0;
        }
    }
    return 1;
}

static miamix_status mix(const miamix_op *op, int device_type, void *stream) {
    miamix_tensor in = tensor(images, image_shape, 4, device_type);
    miamix_tensor out = tensor(out_images, image_shape, 4, device_type);
    return miamix_mix(op, 1, 0, &in, NULL, NULL, 0, &out, NULL, NULL, NULL, stream);
}

/* Statuses of the arguments. */
static void test_arguments(const miamix_op *op) {
    miamix_tensor in = tensor(images, image_shape, 4, MIAMIX_DEVICE_TYPE_CPU);
    miamix_tensor out = tensor(out_images, image_shape, 4, MIAMIX_DEVICE_TYPE_CPU);
    miamix_plan *plan = NULL;
    clear();
    EXPECT(mix(NULL, MIAMIX_DEVICE_TYPE_CPU, NULL), INVALID_ARGUMENT, "op: must not be NULL");
    out.ndim = 3;
    EXPECT(miamix_mix(op, 1, 0, &in, NULL, NULL, 0, &out, NULL, NULL, NULL, NULL), SHAPE, "mixed_images: expected");
    in.dtype.bits = 64;
    EXPECT(miamix_mix(op, 1, 0, &in, NULL, NULL, 0, &out, NULL, NULL, NULL, NULL), DTYPE, "images: must be of");
    EXPECT(miamix_plan_from_json("{}", 2, &plan), PLAN, "plan: ");
    EXPECT(mix(op, 15, NULL), UNSUPPORTED, "images: must be in CPU memory, got DLPack device type 15");
    CHECK(plan == NULL && is_untouched());
    EXPECT(mix(op, MIAMIX_DEVICE_TYPE_CPU, NULL), OK, "");
    CHECK(!is_untouched());
}

/* A plan of the largest batch takes more than 10 GB: more than there is within a limit. Sanitizers have reserved more
 * than any limit, and a limit of their own. */
static void test_out_of_memory(const miamix_op *op) {
    miamix_shape largest = {268435455, SIDE, SIDE};
    miamix_plan *plan = NULL;
    struct rlimit before, limit;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    limit = before;
    limit.rlim_cur = (rlim_t)4 << 30;
    if (getenv("MIAMIX_TEST_NO_RLIMIT") == NULL) {
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    }
    EXPECT(miamix_plan_draw(op, &largest, 1, 0, &plan), OUT_OF_MEMORY, "out of memory: ");
    CHECK(plan == NULL);
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    largest.samples = N;
    EXPECT(miamix_plan_draw(op, &largest, 1, 0, &plan), OK, "");
    miamix_plan_free(plan);
}

/* A panic anywhere in a call is a status, and the call after it works. The feature test-panic makes it. */
static void test_internal(const miamix_op *op) {
    const char *message = "internal error, a bug of the library: MIAMIX_TEST_PANIC";
    miamix_shape shape = {N, SIDE, SIDE}, out_shape = {7, 7, 7};
    miamix_config config;
    miamix_tensor in = tensor(images, image_shape, 4, MIAMIX_DEVICE_TYPE_CPU);
    miamix_tensor out = tensor(out_images, image_shape, 4, MIAMIX_DEVICE_TYPE_CPU);
    miamix_tensor out_masks = tensor(out_images, map_shape, 3, MIAMIX_DEVICE_TYPE_CPU);
    miamix_tensor maps = tensor(images, map_shape, 3, MIAMIX_DEVICE_TYPE_CPU);
    miamix_plan *plan = NULL, *none = NULL;
    miamix_op *no_op = NULL;
    int64_t partner_index[N] = {7, 7};
    uint32_t n_layers = 7;
    int32_t device = 7;
    size_t length = 7;
    maps.dtype.code = out_masks.dtype.code = MIAMIX_DTYPE_CODE_INT;
    EXPECT(miamix_plan_draw(op, &shape, 1, 0, &plan), OK, "");
    memset(&config, 0xA5, sizeof config);
    clear();
    setenv("MIAMIX_TEST_PANIC", "1", 1);
    EXPECT(miamix_config_init(&config, sizeof config), INTERNAL, message);
    EXPECT(miamix_op_create(NULL, &no_op), INTERNAL, message);
    EXPECT(miamix_plan_draw(op, &shape, 1, 0, &none), INTERNAL, message);
    EXPECT(miamix_plan_redraw(op, &shape, 2, 0, plan), INTERNAL, message);
    EXPECT(miamix_plan_from_json("{}", 2, &none), INTERNAL, message);
    EXPECT(miamix_plan_to_json(plan, NULL, 0, &length), INTERNAL, message);
    EXPECT(miamix_plan_shape(plan, &out_shape), INTERNAL, message);
    EXPECT(miamix_plan_partner_index(plan, partner_index, N), INTERNAL, message);
    EXPECT(miamix_plan_n_layers(plan, 0, &n_layers), INTERNAL, message);
    EXPECT(mix(op, MIAMIX_DEVICE_TYPE_CPU, NULL), INTERNAL, message);
    EXPECT(miamix_apply(op, plan, &in, NULL, NULL, 0, &out, NULL, NULL, NULL, NULL), INTERNAL, message);
    EXPECT(miamix_apply_maps(op, plan, &maps, NULL, &out_masks, NULL), INTERNAL, message);
    EXPECT(miamix_backward(op, plan, &in, &out, NULL, NULL), INTERNAL, message);
    out_masks.dtype.code = MIAMIX_DTYPE_CODE_FLOAT;
    EXPECT(miamix_masks(op, plan, &out_masks, NULL, NULL), INTERNAL, message);
    EXPECT(miamix_cuda_sizes(op, &shape, &length, &length, &length), INTERNAL, message);
    EXPECT(miamix_plan_on_device(op, &shape, images, sizeof images, NULL, 0, &none), INTERNAL, message);
    EXPECT(miamix_plan_upload(plan, plan, NULL), INTERNAL, message);
    EXPECT(miamix_check_labels(NULL), INTERNAL, message);
    EXPECT(miamix_cuda_device_of(images, &device), INTERNAL, message);
    unsetenv("MIAMIX_TEST_PANIC");
    CHECK(is_untouched() && ((unsigned char *)&config)[0] == 0xA5);
    CHECK(no_op == NULL && none == NULL && length == 7 && n_layers == 7 && partner_index[0] == 7);
    CHECK(out_shape.samples == 7 && device == 7);
    EXPECT(mix(op, MIAMIX_DEVICE_TYPE_CPU, NULL), OK, "");
    miamix_plan_free(plan);
}

/* In a process of its own, as the library asks for the driver once. */
static int without_device(const miamix_op *op) {
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        setenv("STAND_IN_INIT", "100", 1); /* cuInit: no device */
        n_failed = 0;
        clear();
        EXPECT(mix(op, MIAMIX_DEVICE_TYPE_CUDA, NULL), CUDA_UNAVAILABLE,
               "images: is on CUDA device 0, and CUDA is not available: ");
        CHECK(is_untouched());
        fflush(stdout);
        _exit(n_failed == 0 ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return status == 0;
}

/* The stand-in's memory is the machine's, and its work is done when it is told. */
static void test_cuda(const miamix_op *op) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    void *(*stream_of)(int);
    void (*fail)(int);
    const char *(*run)(void *);
    void *stream;
    int call;
    if (driver == NULL || dlsym(driver, "stand_in_stream") == NULL) {
        return;
    }
    *(void **)&stream_of = dlsym(driver, "stand_in_stream");
    *(void **)&fail = dlsym(driver, "stand_in_fail");
    *(void **)&run = dlsym(driver, "stand_in_run");
    if (without_device(op)) {
        reached[MIAMIX_STATUS_CUDA_UNAVAILABLE] = 1;
    } else {
        n_failed++;
    }
    stream = stream_of(0);
    clear();
    for (call = 1;; call++) { /* each call of the driver fails in turn */
        miamix_status status;
        fail(call);
        status = mix(op, MIAMIX_DEVICE_TYPE_CUDA, stream);
        if (status == MIAMIX_STATUS_OK) {
            break;
        }
        expect(status, MIAMIX_STATUS_CUDA, "CUDA: ", __LINE__);
        CHECK(run(stream) == NULL);
        CHECK(is_untouched() && call < 100);
        if (n_failed != 0) {
            return;
        }
    }
    fail(0);
    CHECK(call > 1 && run(stream) == NULL && !is_untouched());
}

int main(void) {
    miamix_op *op = NULL;
    for (int i = 0; i < ELEMENTS; i++) {
        images[i] = (float)i;
    }
    EXPECT(miamix_op_create(NULL, &op), OK, "");
    test_arguments(op);
    test_out_of_memory(op);
    test_internal(op);
    test_cuda(op);
    miamix_op_free(op);
    printf("reached");
    for (int status = 0; status < STATUSES; status++) {
        if (reached[status]) {
            printf(" %d", status);
        }
    }
    printf("\n");
    return n_failed == 0 ? 0 : 1;
}
