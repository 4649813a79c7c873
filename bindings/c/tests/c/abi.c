/* Meets every function of miamix.h as a C or C++ program does. Prints each check that fails. */

#include "miamix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An odd batch of odd images: a swapped axis or sample shows. */
enum { N = 5, C = 3, H = 7, W = 9, K = 4, PIXELS = H * W, ELEMENTS = N * C * PIXELS };

static int n_failed = 0;

static void check(int ok, int line, const char *what) {
    if (!ok) {
        printf("line %d: %s (last error: %s)\n", line, what, miamix_last_error_message());
        n_failed++;
    }
}
#define CHECK(condition) check((condition) != 0, __LINE__, #condition)

/* A call that succeeds leaves no message. */
#define OK(call) check((call) == MIAMIX_STATUS_OK && *miamix_last_error_message() == 0, __LINE__, #call)

static void check_failure(miamix_status status, miamix_status expected, const char *message, int line) {
    if (status != expected || strcmp(miamix_last_error_message(), message) != 0) {
        printf("line %d: status %d, \"%s\"\n  expected %d, \"%s\"\n", line, (int)status, miamix_last_error_message(),
               (int)expected, message);
        n_failed++;
    }
}
#define FAILS(call, status, message) check_failure((call), MIAMIX_STATUS_##status, (message), __LINE__)

static miamix_tensor tensor(void *data, int code, int bits, int ndim, int64_t *shape, int64_t *strides) {
    miamix_tensor t;
    memset(&t, 0, sizeof t);
    t.data = data;
    t.device.device_type = MIAMIX_DEVICE_TYPE_CPU;
    t.ndim = ndim;
    t.dtype.code = (uint8_t)code;
    t.dtype.bits = (uint8_t)bits;
    t.dtype.lanes = 1;
    t.shape = shape;
    t.strides = strides;
    return t;
}

static int64_t IMAGE_SHAPE[4] = {N, C, H, W};
static int64_t NHWC_STRIDES[4] = {PIXELS * C, 1, W * C, C};
static int64_t MAP_SHAPE[3] = {N, H, W};
static int64_t LABEL_SHAPE[2] = {N, K};

/* The buffers of one call, and tensors over them. Outputs begin as a pattern that no result has. */
typedef struct {
    float images[ELEMENTS], partner_images[ELEMENTS], mixed_images[ELEMENTS];
    int64_t ids[N];
    float mixed_labels[N * K], label_weight[N];
    int64_t partner_index[N];
    miamix_tensor t_images, t_partner_images, t_labels, t_mixed_images, t_mixed_labels, t_label_weight,
        t_partner_index;
} batch;

static void clear_outputs(batch *b) {
    memset(b->mixed_images, 0xA5, sizeof b->mixed_images);
    memset(b->mixed_labels, 0xA5, sizeof b->mixed_labels);
    memset(b->label_weight, 0xA5, sizeof b->label_weight);
    memset(b->partner_index, 0xA5, sizeof b->partner_index);
}

static int is_pattern(const void *memory, size_t size) {
    const unsigned char *byte = (const unsigned char *)memory;
    size_t i;
    for (i = 0; i < size; i++) {
        if (byte[i] != 0xA5) {
            return 0;
        }
    }
    return 1;
}

static int is_untouched(const batch *b) {
    return is_pattern(b->mixed_images, sizeof b->mixed_images) && is_pattern(b->mixed_labels, sizeof b->mixed_labels) &&
           is_pattern(b->label_weight, sizeof b->label_weight) &&
           is_pattern(b->partner_index, sizeof b->partner_index);
}

static void init_batch(batch *b) {
    int i;
    memset(b, 0, sizeof *b);
    for (i = 0; i < ELEMENTS; i++) {
        b->images[i] = (float)(i % 251);
        b->partner_images[i] = (float)((i * 7 + 3) % 241);
    }
    for (i = 0; i < N; i++) {
        b->ids[i] = (i * 3) % K;
    }
    b->t_images = tensor(b->images, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NULL);
    b->t_partner_images = tensor(b->partner_images, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NULL);
    b->t_labels = tensor(b->ids, MIAMIX_DTYPE_CODE_INT, 64, 1, LABEL_SHAPE, NULL);
    b->t_mixed_images = tensor(b->mixed_images, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NULL);
    b->t_mixed_labels = tensor(b->mixed_labels, MIAMIX_DTYPE_CODE_FLOAT, 32, 2, LABEL_SHAPE, NULL);
    b->t_label_weight = tensor(b->label_weight, MIAMIX_DTYPE_CODE_FLOAT, 32, 1, LABEL_SHAPE, NULL);
    b->t_partner_index = tensor(b->partner_index, MIAMIX_DTYPE_CODE_INT, 64, 1, LABEL_SHAPE, NULL);
    clear_outputs(b);
}

static miamix_status apply(const miamix_op *op, const miamix_plan *plan, batch *b) {
    return miamix_apply(op, plan, &b->t_images, &b->t_partner_images, &b->t_labels, K, &b->t_mixed_images,
                        &b->t_mixed_labels, &b->t_label_weight, &b->t_partner_index, NULL);
}

static miamix_status mix(const miamix_op *op, uint64_t seed, batch *b) {
    return miamix_mix(op, seed, 0, &b->t_images, &b->t_partner_images, &b->t_labels, K, &b->t_mixed_images,
                      &b->t_mixed_labels, &b->t_label_weight, &b->t_partner_index, NULL);
}

static miamix_shape batch_shape(void) {
    miamix_shape shape;
    shape.samples = N;
    shape.height = H;
    shape.width = W;
    return shape;
}

/* fma(mask, primary, (1 - mask) * partner), which no compiler contracts further. */
static float blend(float primary, float partner, float mask) {
    volatile float rest = 1.0f - mask;
    volatile float product = rest * partner;
    return mask == 1.0f ? primary : mask == 0.0f ? partner : fmaf(mask, primary, product);
}

static float half_to_float(uint16_t bits) {
    float magnitude = (bits >> 10 & 31) == 0 ? ldexpf((float)(bits & 1023), -24)
                                             : ldexpf((float)(1024 + (bits & 1023)), (bits >> 10 & 31) - 25);
    return bits >> 15 ? -magnitude : magnitude;
}

/* Of an integer from 0 to 2048. */
static uint16_t half_from_integer(int value) {
    int exponent = 0;
    if (value == 0) {
        return 0;
    }
    while (value >> (exponent + 1) != 0) {
        exponent++;
    }
    return (uint16_t)((exponent + 15) << 10 | ((value << (10 - exponent)) & 1023));
}

static float bfloat_to_float(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Of a number that a bfloat16 has. */
static uint16_t bfloat_from_float(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    return (uint16_t)(wide >> 16);
}

static void test_versions(void) {
    int status;
    CHECK(*miamix_last_error_message() == 0);
    CHECK(miamix_abi_version() == MIAMIX_ABI_VERSION);
    CHECK(strcmp(miamix_version(), EXPECTED_VERSION) == 0);
    CHECK(strcmp(miamix_status_name(MIAMIX_STATUS_OK), "ok") == 0);
    CHECK(strcmp(miamix_status_name(MIAMIX_STATUS_DTYPE), "dtype or layout") == 0);
    for (status = -1; status <= 10; status++) {
        int is_known = strcmp(miamix_status_name(status), "unknown status") != 0;
        CHECK(is_known == (0 <= status && status <= 9));
    }
    CHECK(sizeof(miamix_config) % 8 == 0);
    CHECK(sizeof(void *) != 8 || sizeof(miamix_tensor) == 48);
}

static void test_config(void) {
    const char *bad_size = "struct_size: must be sizeof(miamix_config), which is in 128..=4096, got ";
    char message[128];
    union {
        miamix_config config;
        unsigned char bytes[sizeof(miamix_config) + 16];
    } newer;
    miamix_config config;
    miamix_op *op = NULL;

    memset(&config, 0xA5, sizeof config);
    OK(miamix_config_init(&config, sizeof config));
    CHECK(config.struct_size == sizeof config);
    CHECK(config.alpha == 1.0f && config.k_min == 1 && config.k_max == 2);
    CHECK(config.method_weights[MIAMIX_METHOD_MIXUP] == 2.0f && config.method_weights[MIAMIX_METHOD_CUTMIX] == 1.0f);
    CHECK(config.method_weights[MIAMIX_METHOD_AGMIX] == 1.0f && config.method_weights[MIAMIX_METHOD_GMIX] == 0.0f);
    CHECK(config.p_apply == 1.0f && config.p_self == 0.1f && config.p_aug == 0.25f && config.p_smooth == 0.5f);
    CHECK(config.merge == MIAMIX_MERGE_PRODUCT && config.label_weight == MIAMIX_LABEL_WEIGHT_MERGED);
    CHECK(config.lambda_reading == MIAMIX_LAMBDA_READING_COMPLEMENT && config.pairing == MIAMIX_PAIRING_PERMUTATION);
    CHECK(config.gaussian_sigma == MIAMIX_GAUSSIAN_SIGMA_PAPER && config.cutmix_box == MIAMIX_CUTMIX_BOX_CLIPPED);
    CHECK(config.grid_range[0] == 2 && config.grid_range[1] == 8 && config.decay_power == 3.0f);
    CHECK(config.smooth_range_px[0] == 3 && config.smooth_range_px[1] == 7 && config.shear_max == 0.3f);
    CHECK(config.p_flip == 0.0f && config.pad_px == 0 && config.label_smoothing == 0.0f && config.n_threads == 0);

    FAILS(miamix_config_init(NULL, sizeof config), INVALID_ARGUMENT, "config: must not be NULL, got NULL");
    sprintf(message, "%s%d", bad_size, 127);
    FAILS(miamix_config_init(&config, 127), INVALID_ARGUMENT, message);
    sprintf(message, "%s%d", bad_size, 4097);
    FAILS(miamix_config_init(&config, 4097), INVALID_ARGUMENT, message);

    FAILS(miamix_op_create(&config, NULL), INVALID_ARGUMENT, "out_op: must not be NULL, got NULL");
    config.struct_size = 0;
    sprintf(message, "%s%d", bad_size, 0);
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT, message);
    config.struct_size = UINT64_MAX;
    sprintf(message, "%s%s", bad_size, "18446744073709551615");
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT, message);

    OK(miamix_config_init(&config, sizeof config));
    config.merge = 2;
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT, "merge: must be 0 (product) or 1 (sum), got 2");
    config.merge = MIAMIX_MERGE_SUM;
    config.label_weight = UINT32_MAX;
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT,
          "label_weight: must be 0 (merged) or 1 (drawn), got 4294967295");
    config.label_weight = MIAMIX_LABEL_WEIGHT_DRAWN;
    config.lambda_reading = 7;
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT,
          "lambda_reading: must be 0 (complement) or 1 (keep), got 7");
    config.lambda_reading = MIAMIX_LAMBDA_READING_KEEP;
    config.gaussian_sigma = 2;
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT, "gaussian_sigma: must be 0 (paper) or 1 (area), got 2");
    config.gaussian_sigma = MIAMIX_GAUSSIAN_SIGMA_AREA;
    config.pairing = 2;
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT,
          "pairing: must be 0 (permutation) or 1 (uniform), got 2");
    config.pairing = MIAMIX_PAIRING_UNIFORM;
    config.cutmix_box = 2;
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT, "cutmix_box: must be 0 (clipped) or 1 (inside), got 2");
    config.cutmix_box = MIAMIX_CUTMIX_BOX_INSIDE;
    config.alpha = -1.0f;
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT, "alpha: must be finite and greater than 0, got -1");
    config.alpha = 0.5f;
    config.n_threads = 257;
    FAILS(miamix_op_create(&config, &op), INVALID_ARGUMENT, "n_threads: must be at most 256, got 257");
    CHECK(op == NULL);
    config.n_threads = 3;
    OK(miamix_op_create(&config, &op));
    miamix_op_free(op);

    /* A program compiled with a newer header: what it has beyond this library is 0, or an error. */
    memset(&newer, 0xA5, sizeof newer);
    OK(miamix_config_init(&newer.config, sizeof newer));
    CHECK(newer.config.struct_size == sizeof newer && newer.bytes[sizeof(miamix_config)] == 0);
    OK(miamix_op_create(&newer.config, &op));
    miamix_op_free(op);
    op = NULL;
    newer.bytes[sizeof newer - 1] = 1;
    FAILS(miamix_op_create(&newer.config, &op), UNSUPPORTED,
          "config: must be 0 beyond the 128 bytes that this library knows, got a parameter at byte 143");
    CHECK(op == NULL);

    /* The message outlives functions without a status, and ends with the next success. */
    miamix_op_free(NULL);
    miamix_plan_free(NULL);
    CHECK(*miamix_last_error_message() != 0);
    OK(miamix_op_create(NULL, &op));
    miamix_op_free(op);
}

static void test_plans(const miamix_op *op) {
    const char *hand = "{\"version\": 1, \"height\": 2, \"width\": 2, \"merge\": \"product\", \"label_weight\": "
                       "\"merged\", \"lambda_reading\": \"complement\", \"samples\": [{\"partner_index\": 0, "
                       "\"primary_view\": {\"flip\": false, \"dx\": 0, \"dy\": 0}, \"partner_view\": {\"flip\": "
                       "false, \"dx\": 0, \"dy\": 0}, \"layers\": [{\"method\": \"mixup\", \"lambda\": 2, "
                       "\"given\": 0.5}]}]}";
    miamix_shape shape = batch_shape(), got;
    miamix_plan *plan = NULL, *again = NULL, *none = NULL;
    char message[128], *json, *json_again;
    size_t length = 0, length_again = 0;
    int64_t partner_index[N];
    uint32_t n_layers;
    int i;

    OK(miamix_plan_draw(op, &shape, 42, 1000, &plan));
    OK(miamix_plan_shape(plan, &got));
    CHECK(memcmp(&got, &shape, sizeof shape) == 0);
    OK(miamix_plan_partner_index(plan, partner_index, N));
    for (i = 0; i < N; i++) {
        CHECK(0 <= partner_index[i] && partner_index[i] < N);
        n_layers = 99;
        OK(miamix_plan_n_layers(plan, (size_t)i, &n_layers));
        CHECK(1 <= n_layers && n_layers <= 2);
    }

    /* The text: its length, too little room, just enough. */
    OK(miamix_plan_to_json(plan, NULL, 0, &length));
    CHECK(length > 100);
    json = (char *)malloc(length + 2);
    memset(json, 0xA5, length + 2);
    sprintf(message, "capacity: must be at least %u, the text and its terminator, got %u", (unsigned)length + 1,
            (unsigned)length);
    FAILS(miamix_plan_to_json(plan, json, length, &length_again), INVALID_ARGUMENT, message);
    CHECK(length_again == length && is_pattern(json, length + 2));
    OK(miamix_plan_to_json(plan, json, length + 1, &length_again));
    CHECK(strlen(json) == length && is_pattern(json + length + 1, 1));

    /* Read back it is the same plan, and so is one drawn again into other memory. */
    OK(miamix_plan_from_json(json, length, &again));
    json_again = (char *)malloc(length + 1);
    OK(miamix_plan_to_json(again, json_again, length + 1, &length_again));
    CHECK(strcmp(json, json_again) == 0);
    shape.samples = 2;
    OK(miamix_plan_redraw(op, &shape, 42, 1000, again));
    OK(miamix_plan_shape(again, &got));
    CHECK(got.samples == 2);
    shape.height = 0;
    FAILS(miamix_plan_redraw(op, &shape, 42, 1000, again), INVALID_ARGUMENT, "height: must be in 1..=32768, got 0");
    OK(miamix_plan_shape(again, &got));
    CHECK(got.samples == 2 && got.height == H);
    shape = batch_shape();
    OK(miamix_plan_redraw(op, &shape, 42, 1000, again));
    OK(miamix_plan_to_json(again, json_again, length + 1, &length_again));
    CHECK(strcmp(json, json_again) == 0);

    /* Text that is no plan. */
    FAILS(miamix_plan_from_json(hand, strlen(hand), &none), PLAN,
          "plan: samples[0].layers[0].lambda: must be in [0, 1], got 2");
    CHECK(miamix_plan_from_json(json, length - 1, &none) == MIAMIX_STATUS_PLAN);
    CHECK(miamix_plan_from_json("", 0, &none) == MIAMIX_STATUS_PLAN);
    CHECK(miamix_plan_from_json("{\"\\u0000\": 1}", 13, &none) == MIAMIX_STATUS_PLAN);
    FAILS(miamix_plan_from_json("\xff", 1, &none), PLAN,
          "plan: text: invalid utf-8 sequence of 1 bytes from index 0");
    FAILS(miamix_plan_from_json(json, SIZE_MAX, &none), INVALID_ARGUMENT,
          "json: must be of less than 2^63 bytes, got 18446744073709551615 elements");

    /* Sizes. */
    shape.width = 32769;
    FAILS(miamix_plan_draw(op, &shape, 0, 0, &none), INVALID_ARGUMENT, "width: must be in 1..=32768, got 32769");
    shape.width = W;
    shape.samples = UINT64_MAX;
    FAILS(miamix_plan_draw(op, &shape, 0, 0, &none), INVALID_ARGUMENT,
          "batch size: must be at most 268435455, got 18446744073709551615");
    shape.samples = 0;
    OK(miamix_plan_redraw(op, &shape, 0, 0, again));
    OK(miamix_plan_partner_index(again, NULL, 0));
    FAILS(miamix_plan_n_layers(again, 0, &n_layers), INVALID_ARGUMENT,
          "sample: must be below the batch size 0, got 0");
    FAILS(miamix_plan_n_layers(plan, N, &n_layers), INVALID_ARGUMENT,
          "sample: must be below the batch size 5, got 5");
    FAILS(miamix_plan_partner_index(plan, partner_index, N + 1), SHAPE,
          "out_partner_index: expected shape [5], got [6]");

    /* NULL for each pointer in turn. */
    shape = batch_shape();
    FAILS(miamix_plan_draw(NULL, &shape, 0, 0, &none), INVALID_ARGUMENT, "op: must not be NULL, got NULL");
    FAILS(miamix_plan_draw(op, NULL, 0, 0, &none), INVALID_ARGUMENT, "shape: must not be NULL, got NULL");
    FAILS(miamix_plan_draw(op, &shape, 0, 0, NULL), INVALID_ARGUMENT, "out_plan: must not be NULL, got NULL");
    FAILS(miamix_plan_redraw(NULL, &shape, 0, 0, again), INVALID_ARGUMENT, "op: must not be NULL, got NULL");
    FAILS(miamix_plan_redraw(op, NULL, 0, 0, again), INVALID_ARGUMENT, "shape: must not be NULL, got NULL");
    FAILS(miamix_plan_redraw(op, &shape, 0, 0, NULL), INVALID_ARGUMENT, "plan: must not be NULL, got NULL");
    FAILS(miamix_plan_from_json(NULL, 5, &none), INVALID_ARGUMENT, "json: must not be NULL, got NULL");
    FAILS(miamix_plan_from_json(json, length, NULL), INVALID_ARGUMENT, "out_plan: must not be NULL, got NULL");
    FAILS(miamix_plan_to_json(NULL, json, length, &length), INVALID_ARGUMENT, "plan: must not be NULL, got NULL");
    FAILS(miamix_plan_to_json(plan, json, length, NULL), INVALID_ARGUMENT, "length: must not be NULL, got NULL");
    FAILS(miamix_plan_shape(NULL, &got), INVALID_ARGUMENT, "plan: must not be NULL, got NULL");
    FAILS(miamix_plan_shape(plan, NULL), INVALID_ARGUMENT, "out_shape: must not be NULL, got NULL");
    FAILS(miamix_plan_partner_index(NULL, partner_index, N), INVALID_ARGUMENT,
          "plan: must not be NULL, got NULL");
    FAILS(miamix_plan_partner_index(plan, NULL, N), INVALID_ARGUMENT,
          "out_partner_index: must not be NULL, got NULL");
    FAILS(miamix_plan_n_layers(NULL, 0, &n_layers), INVALID_ARGUMENT, "plan: must not be NULL, got NULL");
    FAILS(miamix_plan_n_layers(plan, 0, NULL), INVALID_ARGUMENT, "out_n_layers: must not be NULL, got NULL");
    CHECK(none == NULL);

    free(json);
    free(json_again);
    miamix_plan_free(plan);
    miamix_plan_free(again);
}

/* Every output in its place, from the masks of the same plan. */
static void test_mixing(const miamix_op *op) {
    static batch b, replay;
    static float masks[N * PIXELS];
    static float nhwc[ELEMENTS], nhwc_out[ELEMENTS];
    static uint16_t halves[ELEMENTS], mixed_halves[ELEMENTS];
    static unsigned char bytes[ELEMENTS], mixed_bytes[ELEMENTS];
    float weights[N], soft[N * K], soft_out[N * K];
    int32_t ids32[N];
    miamix_tensor t_masks = tensor(masks, MIAMIX_DTYPE_CODE_FLOAT, 32, 3, MAP_SHAPE, NULL);
    miamix_tensor t_weights = tensor(weights, MIAMIX_DTYPE_CODE_FLOAT, 32, 1, LABEL_SHAPE, NULL);
    miamix_tensor in, out;
    miamix_shape shape = batch_shape();
    miamix_plan *plan = NULL;
    int i, j, n, c, p, n_partial = 0;

    init_batch(&b);
    init_batch(&replay);
    OK(miamix_plan_draw(op, &shape, 7, 0, &plan));
    OK(miamix_masks(op, plan, &t_masks, &t_weights, NULL));
    OK(apply(op, plan, &b));
    for (i = 0; i < N; i++) {
        j = (int)b.partner_index[i];
        CHECK(b.label_weight[i] == weights[i]);
        for (c = 0; c < K; c++) {
            float primary = b.ids[i] == c ? 1.0f : 0.0f, partner = b.ids[j] == c ? 1.0f : 0.0f;
            CHECK(b.mixed_labels[i * K + c] == blend(primary, partner, weights[i]));
        }
        for (c = 0; c < C; c++) {
            for (p = 0; p < PIXELS; p++) {
                float mask = masks[i * PIXELS + p];
                float primary = b.images[(i * C + c) * PIXELS + p];
                float partner = b.partner_images[(j * C + c) * PIXELS + p];
                n_partial += mask > 0.0f && mask < 1.0f;
                CHECK(b.mixed_images[(i * C + c) * PIXELS + p] == blend(primary, partner, mask));
            }
        }
    }
    CHECK(n_partial > 0);

    /* Drawing within the call gives the same. */
    OK(mix(op, 7, &replay));
    CHECK(memcmp(b.mixed_images, replay.mixed_images, sizeof b.mixed_images) == 0);
    CHECK(memcmp(b.mixed_labels, replay.mixed_labels, sizeof b.mixed_labels) == 0);
    CHECK(memcmp(b.label_weight, replay.label_weight, sizeof b.label_weight) == 0);
    CHECK(memcmp(b.partner_index, replay.partner_index, sizeof b.partner_index) == 0);

    /* One view alone, pixels alone. */
    OK(miamix_apply(op, plan, &b.t_images, NULL, NULL, 0, &replay.t_mixed_images, NULL, NULL, NULL, NULL));
    for (i = 0; i < ELEMENTS; i++) {
        n = i / (C * PIXELS);
        j = (int)b.partner_index[n] * C * PIXELS + i % (C * PIXELS);
        CHECK(replay.mixed_images[i] == blend(b.images[i], b.images[j], masks[n * PIXELS + i % PIXELS]));
    }

    /* Ids of 32 bits give the same rows as those of 64; negative ids give none. */
    for (i = 0; i < N; i++) {
        ids32[i] = (int32_t)b.ids[i];
    }
    in = tensor(ids32, MIAMIX_DTYPE_CODE_INT, 32, 1, LABEL_SHAPE, NULL);
    clear_outputs(&replay);
    OK(miamix_apply(op, plan, &b.t_images, NULL, &in, K, &replay.t_mixed_images, &replay.t_mixed_labels, NULL, NULL,
                    NULL));
    CHECK(memcmp(b.mixed_labels, replay.mixed_labels, sizeof b.mixed_labels) == 0);
    for (i = 0; i < N; i++) {
        ids32[i] = -1;
    }
    OK(miamix_apply(op, plan, &b.t_images, NULL, &in, K, &replay.t_mixed_images, &replay.t_mixed_labels, NULL, NULL,
                    NULL));
    for (i = 0; i < N * K; i++) {
        CHECK(replay.mixed_labels[i] == 0.0f);
    }

    /* Rows of numbers; num_classes is K or 0. The second time columns first, and rows from the last. */
    for (i = 0; i < N * K; i++) {
        soft[i] = (float)(i + 1);
    }
    in = tensor(soft, MIAMIX_DTYPE_CODE_FLOAT, 32, 2, LABEL_SHAPE, NULL);
    out = tensor(soft_out, MIAMIX_DTYPE_CODE_FLOAT, 32, 2, LABEL_SHAPE, NULL);
    OK(miamix_apply(op, plan, &b.t_images, NULL, &in, K, &replay.t_mixed_images, &out, NULL, NULL, NULL));
    for (i = 0; i < N * K; i++) {
        CHECK(soft_out[i] == blend(soft[i], soft[(int)b.partner_index[i / K] * K + i % K], weights[i / K]));
    }
    {
        float turned[N * K], turned_out[N * K];
        int64_t strides[2] = {-1, N};
        for (i = 0; i < N * K; i++) {
            turned[i % K * N + (N - 1 - i / K)] = soft[i];
        }
        in = tensor(turned + N - 1, MIAMIX_DTYPE_CODE_FLOAT, 32, 2, LABEL_SHAPE, strides);
        out.data = turned_out;
        OK(miamix_apply(op, plan, &b.t_images, NULL, &in, 0, &replay.t_mixed_images, &out, NULL, NULL, NULL));
        CHECK(memcmp(turned_out, soft_out, sizeof soft_out) == 0);
        FAILS(miamix_apply(op, plan, &b.t_images, NULL, &in, K + 1, &replay.t_mixed_images, &out, NULL, NULL, NULL),
              INVALID_ARGUMENT, "num_classes: must be 0 or 4, the columns of labels, got 5");
    }

    /* NHWC is the same batch under other strides, in and out. */
    for (i = 0; i < ELEMENTS; i++) {
        n = i / (C * PIXELS), c = i / PIXELS % C, p = i % PIXELS;
        nhwc[(n * PIXELS + p) * C + c] = b.images[i];
    }
    in = tensor(nhwc, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NHWC_STRIDES);
    out = tensor(nhwc_out, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NHWC_STRIDES);
    OK(miamix_apply(op, plan, &in, &b.t_partner_images, NULL, 0, &out, NULL, NULL, NULL, NULL));
    for (i = 0; i < ELEMENTS; i++) {
        n = i / (C * PIXELS), c = i / PIXELS % C, p = i % PIXELS;
        CHECK(nhwc_out[(n * PIXELS + p) * C + c] == b.mixed_images[i]);
    }

    /* A batch of clips, [N, T, C, H, W], is a batch of T C channels; an offset is added to the address. */
    {
        int64_t clip_shape[5] = {N, C, 1, H, W};
        int64_t padded_shape[5] = {N - 1, 1, C, H, W};
        in = tensor(b.images, MIAMIX_DTYPE_CODE_FLOAT, 32, 5, clip_shape, NULL);
        out = tensor(replay.mixed_images, MIAMIX_DTYPE_CODE_FLOAT, 32, 5, clip_shape, NULL);
        OK(miamix_apply(op, plan, &in, &b.t_partner_images, NULL, 0, &out, NULL, NULL, NULL, NULL));
        CHECK(memcmp(b.mixed_images, replay.mixed_images, sizeof b.mixed_images) == 0);

        clear_outputs(&replay);
        in = tensor(b.images, MIAMIX_DTYPE_CODE_FLOAT, 32, 5, padded_shape, NULL);
        out = tensor(replay.mixed_images, MIAMIX_DTYPE_CODE_FLOAT, 32, 5, padded_shape, NULL);
        in.byte_offset = out.byte_offset = C * PIXELS * sizeof(float);
        OK(miamix_mix(op, 7, 0, &in, NULL, NULL, 0, &out, NULL, NULL, NULL, NULL));
        CHECK(is_pattern(replay.mixed_images, C * PIXELS * sizeof(float)));
        CHECK(!is_pattern(replay.mixed_images + C * PIXELS, sizeof(float)));
    }
    {
        int64_t clip_shape[5] = {N, 2, 3, 1, 1}, strides[5] = {20, 4, 1, 1, 1};
        in = tensor(b.images, MIAMIX_DTYPE_CODE_FLOAT, 32, 5, clip_shape, strides);
        FAILS(miamix_mix(op, 7, 0, &in, NULL, NULL, 0, &replay.t_mixed_images, NULL, NULL, NULL, NULL), DTYPE,
              "images: must have a stride of T that is 3 times that of C (T and C as one axis), got 4 and 1");
    }

    /* Bytes round half to even. */
    for (i = 0; i < ELEMENTS; i++) {
        bytes[i] = (unsigned char)b.images[i];
    }
    in = tensor(bytes, MIAMIX_DTYPE_CODE_UINT, 8, 4, IMAGE_SHAPE, NULL);
    out = tensor(mixed_bytes, MIAMIX_DTYPE_CODE_UINT, 8, 4, IMAGE_SHAPE, NULL);
    in.device.device_type = MIAMIX_DEVICE_TYPE_CUDA_HOST;
    OK(miamix_apply(op, plan, &in, NULL, NULL, 0, &out, NULL, NULL, NULL, NULL));
    OK(miamix_apply(op, plan, &b.t_images, NULL, NULL, 0, &replay.t_mixed_images, NULL, NULL, NULL, NULL));
    for (i = 0; i < ELEMENTS; i++) {
        CHECK((float)mixed_bytes[i] == rintf(replay.mixed_images[i]));
    }

    /* Halves: at most half a step from the result in 32 bits, 2^-11 of it, or 2^-25 below the normal ones. */
    for (i = 0; i < ELEMENTS; i++) {
        halves[i] = half_from_integer(bytes[i]);
    }
    in = tensor(halves, MIAMIX_DTYPE_CODE_FLOAT, 16, 4, IMAGE_SHAPE, NULL);
    out = tensor(mixed_halves, MIAMIX_DTYPE_CODE_FLOAT, 16, 4, IMAGE_SHAPE, NULL);
    OK(miamix_apply(op, plan, &in, NULL, NULL, 0, &out, NULL, NULL, NULL, NULL));
    for (i = 0; i < ELEMENTS; i++) {
        float exact = replay.mixed_images[i];
        CHECK(fabsf(half_to_float(mixed_halves[i]) - exact) <= ldexpf(exact, -11) + ldexpf(1.0f, -25));
    }

    /* The same for bfloat16, whose half step is 2^-8 of the result. Bytes below 256 are bfloat16 numbers. */
    for (i = 0; i < ELEMENTS; i++) {
        halves[i] = bfloat_from_float((float)bytes[i]);
    }
    in.dtype.code = out.dtype.code = MIAMIX_DTYPE_CODE_BFLOAT;
    OK(miamix_apply(op, plan, &in, NULL, NULL, 0, &out, NULL, NULL, NULL, NULL));
    for (i = 0; i < ELEMENTS; i++) {
        float exact = replay.mixed_images[i];
        CHECK(fabsf(bfloat_to_float(mixed_halves[i]) - exact) <= ldexpf(exact, -8));
    }

    /* An empty batch needs no memory. */
    {
        int64_t empty[4] = {0, C, H, W};
        in = tensor(NULL, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, empty, NULL);
        OK(miamix_mix(op, 7, 0, &in, NULL, NULL, 0, &in, NULL, NULL, NULL, NULL));
    }
    miamix_plan_free(plan);
}

static void test_maps(const miamix_op *op) {
    static float masks[N * PIXELS];
    static int64_t maps[N * PIXELS], mixed[N * PIXELS];
    const int codes[2] = {MIAMIX_DTYPE_CODE_INT, MIAMIX_DTYPE_CODE_UINT};
    miamix_tensor t_masks = tensor(masks, MIAMIX_DTYPE_CODE_FLOAT, 32, 3, MAP_SHAPE, NULL), in, out;
    miamix_shape shape = batch_shape();
    miamix_plan *plan = NULL;
    int64_t partner_index[N];
    int bits, code, i, size;

    OK(miamix_plan_draw(op, &shape, 11, 0, &plan));
    OK(miamix_plan_partner_index(plan, partner_index, N));
    OK(miamix_masks(op, plan, &t_masks, NULL, NULL));
    for (i = 0; i < (int)sizeof maps; i++) {
        ((unsigned char *)maps)[i] = (unsigned char)(i * 37 % 255);
    }
    for (code = 0; code < 2; code++) {
        for (bits = 8; bits <= 64; bits *= 2) {
            size = bits / 8;
            memset(mixed, 0xA5, sizeof mixed);
            in = tensor(maps, codes[code], bits, 3, MAP_SHAPE, NULL);
            out = tensor(mixed, codes[code], bits, 3, MAP_SHAPE, NULL);
            OK(miamix_apply_maps(op, plan, &in, NULL, &out, NULL));
            for (i = 0; i < N * PIXELS; i++) {
                int from = masks[i] >= 0.5f ? i : (int)partner_index[i / PIXELS] * PIXELS + i % PIXELS;
                CHECK(memcmp((char *)mixed + i * size, (char *)maps + from * size, (size_t)size) == 0);
            }
        }
    }
    in = tensor(maps, MIAMIX_DTYPE_CODE_BOOL, 8, 3, MAP_SHAPE, NULL);
    out = tensor(mixed, MIAMIX_DTYPE_CODE_BOOL, 8, 3, MAP_SHAPE, NULL);
    OK(miamix_apply_maps(op, plan, &in, &in, &out, NULL));

    memset(mixed, 0xA5, sizeof mixed);
    in = tensor(maps, MIAMIX_DTYPE_CODE_INT, 32, 3, MAP_SHAPE, NULL);
    out = tensor(mixed, MIAMIX_DTYPE_CODE_UINT, 32, 3, MAP_SHAPE, NULL);
    FAILS(miamix_apply_maps(op, plan, &in, NULL, &out, NULL), DTYPE,
          "mixed_maps: must be of int32 as maps are, got uint32");
    in.dtype.code = out.dtype.code = MIAMIX_DTYPE_CODE_FLOAT;
    FAILS(miamix_apply_maps(op, plan, &in, NULL, &out, NULL), DTYPE,
          "maps: must be of uint8, int8, uint16, int16, uint32, int32, uint64, int64 or bool, got float32");
    in.dtype.code = out.dtype.code = MIAMIX_DTYPE_CODE_INT;
    FAILS(miamix_apply_maps(NULL, plan, &in, NULL, &out, NULL), INVALID_ARGUMENT, "op: must not be NULL, got NULL");
    FAILS(miamix_apply_maps(op, NULL, &in, NULL, &out, NULL), INVALID_ARGUMENT, "plan: must not be NULL, got NULL");
    FAILS(miamix_apply_maps(op, plan, NULL, NULL, &out, NULL), INVALID_ARGUMENT,
          "maps: must not be NULL, got NULL");
    FAILS(miamix_apply_maps(op, plan, &in, NULL, NULL, NULL), INVALID_ARGUMENT,
          "mixed_maps: must not be NULL, got NULL");
    FAILS(miamix_apply_maps(op, plan, &in, &out, &out, NULL), INVALID_ARGUMENT,
          "mixed_maps: must not overlap partner_maps, got 1260 bytes in common");
    in.ndim = 2;
    FAILS(miamix_apply_maps(op, plan, &in, NULL, &out, NULL), SHAPE, "maps: expected shape [N, H, W], got [5, 7]");
    CHECK(is_pattern(mixed, sizeof mixed));

    memset(masks, 0xA5, sizeof masks);
    FAILS(miamix_masks(NULL, plan, &t_masks, NULL, NULL), INVALID_ARGUMENT, "op: must not be NULL, got NULL");
    FAILS(miamix_masks(op, NULL, &t_masks, NULL, NULL), INVALID_ARGUMENT, "plan: must not be NULL, got NULL");
    OK(miamix_masks(op, plan, NULL, NULL, NULL));
    {
        int64_t weight_shape[1] = {N}, column_first[3] = {PIXELS, 1, H};
        miamix_tensor weight = tensor(masks + 3, MIAMIX_DTYPE_CODE_FLOAT, 32, 1, weight_shape, NULL);
        FAILS(miamix_masks(op, plan, &t_masks, &weight, NULL), INVALID_ARGUMENT,
              "label_weight: must not overlap masks, got 20 bytes in common");
        t_masks.strides = column_first;
        FAILS(miamix_masks(op, plan, &t_masks, NULL, NULL), DTYPE,
              "masks: must be compact, the last axis the closest, got strides [63, 1, 7]");
    }
    CHECK(is_pattern(masks, sizeof masks));
    miamix_plan_free(plan);
}

/* Sums over ascending samples, in float. */
static void test_backward(const miamix_op *op) {
    static float masks[N * PIXELS], grad[ELEMENTS], images[ELEMENTS], partner[ELEMENTS], both[ELEMENTS];
    miamix_tensor t_masks = tensor(masks, MIAMIX_DTYPE_CODE_FLOAT, 32, 3, MAP_SHAPE, NULL),
                  t_grad = tensor(grad, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NULL),
                  t_images = tensor(images, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NULL),
                  t_partner = tensor(partner, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NHWC_STRIDES),
                  t_both = tensor(both, MIAMIX_DTYPE_CODE_FLOAT, 32, 4, IMAGE_SHAPE, NULL);
    miamix_shape shape = batch_shape();
    miamix_plan *plan = NULL;
    int64_t partner_index[N];
    int t, i, c, p;

    OK(miamix_plan_draw(op, &shape, 11, 0, &plan));
    OK(miamix_plan_partner_index(plan, partner_index, N));
    OK(miamix_masks(op, plan, &t_masks, NULL, NULL));
    for (i = 0; i < ELEMENTS; i++) {
        grad[i] = (float)(i * 37 % 255) - 100.5f;
    }
    OK(miamix_backward(op, plan, &t_grad, &t_images, &t_partner, NULL));
    OK(miamix_backward(op, plan, &t_grad, &t_both, NULL, NULL));
    for (t = 0; t < N; t++) {
        for (c = 0; c < C; c++) {
            for (p = 0; p < PIXELS; p++) {
                float own = masks[t * PIXELS + p] * grad[(t * C + c) * PIXELS + p], sum = 0.0f, total = own;
                for (i = 0; i < N; i++) {
                    if (partner_index[i] == t) {
                        float share = 1.0f - masks[i * PIXELS + p];
                        volatile float term = share * grad[(i * C + c) * PIXELS + p]; /* rounded before it is added */
                        sum += term;
                        total += term;
                    }
                }
                CHECK(images[(t * C + c) * PIXELS + p] == own);
                CHECK(partner[(t * PIXELS + p) * C + c] == sum);
                CHECK(both[(t * C + c) * PIXELS + p] == total);
            }
        }
    }

    memset(images, 0xA5, sizeof images);
    FAILS(miamix_backward(NULL, plan, &t_grad, &t_images, NULL, NULL), INVALID_ARGUMENT,
          "op: must not be NULL, got NULL");
    FAILS(miamix_backward(op, NULL, &t_grad, &t_images, NULL, NULL), INVALID_ARGUMENT,
          "plan: must not be NULL, got NULL");
    FAILS(miamix_backward(op, plan, NULL, &t_images, NULL, NULL), INVALID_ARGUMENT,
          "grad_mixed: must not be NULL, got NULL");
    FAILS(miamix_backward(op, plan, &t_grad, NULL, NULL, NULL), INVALID_ARGUMENT,
          "grad_images: must not be NULL, got NULL");
    FAILS(miamix_backward(op, plan, &t_grad, &t_images, &t_images, NULL), INVALID_ARGUMENT,
          "grad_partner_images: must not overlap grad_images, got 3780 bytes in common");
    FAILS(miamix_backward(op, plan, &t_images, &t_images, NULL, NULL), INVALID_ARGUMENT,
          "grad_images: must not overlap grad_mixed, got 3780 bytes in common");
    t_grad.dtype.code = MIAMIX_DTYPE_CODE_UINT;
    t_grad.dtype.bits = 8;
    FAILS(miamix_backward(op, plan, &t_grad, &t_images, NULL, NULL), DTYPE,
          "grad_mixed: must be of float32, float16 or bfloat16, got uint8");
    t_grad.dtype.code = MIAMIX_DTYPE_CODE_BFLOAT;
    t_grad.dtype.bits = 16;
    FAILS(miamix_backward(op, plan, &t_grad, &t_images, NULL, NULL), DTYPE,
          "grad_images: must be bfloat16 as grad_mixed is, got float32");
    CHECK(is_pattern(images, sizeof images));
    miamix_plan_free(plan);
}

/* Whatever is wrong with a tensor is said, and nothing is written. */
static void test_bad_tensors(const miamix_op *op) {
    static batch good, b;
    miamix_shape shape = batch_shape();
    miamix_plan *plan = NULL;
    int64_t other_shape[7] = {N, C, H, W, 1, 1, 1};
    int64_t other_strides[4] = {C * PIXELS, PIXELS, W, 1};

    init_batch(&good);
    OK(miamix_plan_draw(op, &shape, 7, 0, &plan));

/* Spoils one thing and expects an error that leaves the outputs as they were. */
#define SPOILED(change, status, message)          \
    do {                                          \
        init_batch(&b);                           \
        change;                                   \
        FAILS(apply(op, plan, &b), status, message); \
        FAILS(mix(op, 7, &b), status, message);   \
        CHECK(is_untouched(&b));                  \
    } while (0)

    init_batch(&b);
    FAILS(apply(NULL, plan, &b), INVALID_ARGUMENT, "op: must not be NULL, got NULL");
    FAILS(apply(op, NULL, &b), INVALID_ARGUMENT, "plan: must not be NULL, got NULL");
    FAILS(mix(NULL, 7, &b), INVALID_ARGUMENT, "op: must not be NULL, got NULL");
    FAILS(miamix_apply(op, plan, NULL, NULL, NULL, 0, &b.t_mixed_images, NULL, NULL, NULL, NULL), INVALID_ARGUMENT,
          "images: must not be NULL, got NULL");
    FAILS(miamix_apply(op, plan, &b.t_images, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL), INVALID_ARGUMENT,
          "mixed_images: must not be NULL, got NULL");
    FAILS(miamix_apply(op, plan, &b.t_images, NULL, &b.t_labels, K, &b.t_mixed_images, NULL, NULL, NULL, NULL),
          INVALID_ARGUMENT, "mixed_labels: must be given where labels are, got none");
    FAILS(miamix_apply(op, plan, &b.t_images, NULL, NULL, K, &b.t_mixed_images, NULL, NULL, NULL, NULL),
          INVALID_ARGUMENT, "num_classes: must be 0 where there are no labels, got 4");
    FAILS(miamix_mix(op, 7, 0, NULL, NULL, NULL, 0, &b.t_mixed_images, NULL, NULL, NULL, NULL), INVALID_ARGUMENT,
          "images: must not be NULL, got NULL");
    FAILS(miamix_mix(op, 7, 0, &b.t_images, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL), INVALID_ARGUMENT,
          "mixed_images: must not be NULL, got NULL");
    CHECK(is_untouched(&b));

    /* Pointers within tensors. */
    SPOILED(b.t_images.shape = NULL, INVALID_ARGUMENT, "images.shape: must not be NULL, got NULL");
    SPOILED(b.t_images.data = NULL, INVALID_ARGUMENT, "images.data: must not be NULL, got NULL");
    SPOILED(b.t_mixed_labels.data = NULL, INVALID_ARGUMENT, "mixed_labels.data: must not be NULL, got NULL");
    SPOILED(b.t_partner_index.shape = NULL, INVALID_ARGUMENT, "partner_index.shape: must not be NULL, got NULL");
    init_batch(&b);
    b.t_labels.byte_offset = 4;
    CHECK(apply(op, plan, &b) == MIAMIX_STATUS_DTYPE && is_untouched(&b));
    CHECK(strncmp(miamix_last_error_message(), "labels: must be aligned to 8 bytes, got 0x", 42) == 0);
    SPOILED(b.t_images.byte_offset = UINT64_MAX, INVALID_ARGUMENT,
            "images.byte_offset: must be inside the memory, got 18446744073709551615");

    /* Devices. */
    init_batch(&b);
    b.t_images.device.device_type = MIAMIX_DEVICE_TYPE_CUDA;
    miamix_status on_cuda = apply(op, plan, &b);
    CHECK(is_untouched(&b));
    if (on_cuda == MIAMIX_STATUS_CUDA_UNAVAILABLE) {
        const char *start = "images: is on CUDA device 0, and CUDA is not available: ";
        CHECK(strncmp(miamix_last_error_message(), start, strlen(start)) == 0);
    } else { /* a machine with a driver: the other tensors are elsewhere */
        CHECK(on_cuda == MIAMIX_STATUS_INVALID_ARGUMENT);
        CHECK(strcmp(miamix_last_error_message(),
                     "partner_images: must be in the memory of images (CUDA device 0), got CPU memory") == 0);
    }
    SPOILED(b.t_mixed_images.device.device_type = 8, UNSUPPORTED,
            "mixed_images: must be in CPU memory, got DLPack device type 8");

    /* Element types. */
    SPOILED(b.t_images.dtype.bits = 64, DTYPE,
            "images: must be of float32, float16, bfloat16 or uint8, got float64");
    SPOILED(b.t_images.dtype.lanes = 4, DTYPE,
            "images: must be of float32, float16, bfloat16 or uint8, got float32 in 4 lanes");
    SPOILED(b.t_images.dtype.code = 200, DTYPE,
            "images: must be of float32, float16, bfloat16 or uint8, got code 200, 32 bits, 1 lanes");
    SPOILED(b.t_images.dtype.bits = 16, DTYPE, "partner_images: must be float16 as images are, got float32");
    SPOILED(b.t_labels.dtype.bits = 16, DTYPE, "labels: must be of int64, int32 or float32, got int16");
    SPOILED(b.t_partner_index.dtype.bits = 32, DTYPE, "partner_index: must be of int64, got int32");

    /* Axes and extents. */
    SPOILED(b.t_images.ndim = 3, SHAPE,
            "images: expected shape [N, C, H, W] or [N, T, C, H, W], got [5, 3, 7]");
    SPOILED(b.t_images.ndim = -1, SHAPE, "images: expected shape of 1 to 5 axes, got -1 axes");
    SPOILED(b.t_images.ndim = 0, SHAPE, "images: expected shape of 1 to 5 axes, got 0 axes");
    SPOILED((b.t_images.ndim = 7, b.t_images.shape = other_shape), SHAPE,
            "images: expected shape of 1 to 5 axes, got 7 axes");
    other_shape[0] = -1;
    SPOILED(b.t_images.shape = other_shape, SHAPE,
            "images: expected shape of at least 0 and less than 2^63 bytes, got [-1, 3, 7, 9]");
    other_shape[0] = N, other_shape[1] = INT64_MAX;
    SPOILED(b.t_images.shape = other_shape, SHAPE,
            "images: expected shape of at least 0 and less than 2^63 bytes, got [5, 9223372036854775807, 7, 9]");
    other_shape[0] = 0;
    SPOILED(b.t_images.shape = other_shape, SHAPE,
            "images: expected shape of at least 0 and less than 2^63 bytes, got [0, 9223372036854775807, 7, 9]");
    other_shape[0] = N, other_shape[1] = C - 1;
    SPOILED(b.t_mixed_images.shape = other_shape, SHAPE,
            "mixed_images: expected shape [5, 3, 7, 9], got [5, 2, 7, 9]");
    other_shape[0] = N - 1;
    SPOILED(b.t_labels.shape = other_shape, SHAPE, "labels: expected shape [5], got [4]");
    SPOILED(b.t_mixed_labels.shape = other_shape, SHAPE, "mixed_labels: expected shape [5, 4], got [4, 2]");
    SPOILED(b.t_label_weight.shape = other_shape, SHAPE, "label_weight: expected shape [5], got [4]");
    SPOILED(b.t_partner_index.shape = other_shape, SHAPE, "partner_index: expected shape [5], got [4]");
    other_shape[1] = C;
    init_batch(&b);
    b.t_images.shape = other_shape;
    FAILS(apply(op, plan, &b), SHAPE, "images: expected shape [5, C, 7, 9], as the plan, got [4, 3, 7, 9]");

    /* Strides. */
    other_strides[0] = INT64_MAX;
    SPOILED(b.t_images.strides = other_strides, SHAPE,
            "images: expected shape within the address space, got [5, 3, 7, 9] with strides [9223372036854775807, "
            "63, 9, 1]");
    other_strides[0] = INT64_MIN;
    SPOILED(b.t_images.strides = other_strides, SHAPE,
            "images: expected shape within the address space, got [5, 3, 7, 9] with strides [-9223372036854775808, "
            "63, 9, 1]");
    other_strides[0] = 0;
    SPOILED(b.t_mixed_images.strides = other_strides, DTYPE,
            "mixed_images: must have strides under which no element is met twice, got [0, 63, 9, 1]");
    other_strides[0] = 1, other_strides[1] = N;
    SPOILED(b.t_mixed_labels.strides = other_strides, DTYPE,
            "mixed_labels: must be compact, the last axis the closest, got strides [1, 5]");
    other_strides[0] = 0;
    SPOILED(b.t_label_weight.strides = other_strides, DTYPE,
            "label_weight: must be compact, the last axis the closest, got strides [0]");

    /* Memory used twice. */
    SPOILED(b.t_mixed_images.data = b.images, INVALID_ARGUMENT, "mixed_images: must not overlap images, got 3780 bytes in common");
    SPOILED(b.t_mixed_images.data = b.partner_images, INVALID_ARGUMENT,
            "mixed_images: must not overlap partner_images, got 3780 bytes in common");
    SPOILED(b.t_mixed_labels.data = b.ids, INVALID_ARGUMENT, "mixed_labels: must not overlap labels, got 40 bytes in common");
    SPOILED(b.t_label_weight.data = b.mixed_labels + N * K - 1, INVALID_ARGUMENT,
            "label_weight: must not overlap mixed_labels, got 4 bytes in common");
    SPOILED(b.t_partner_index.data = b.mixed_images + 1 + ((uintptr_t)b.mixed_images / 4 + 1) % 2, INVALID_ARGUMENT,
            "partner_index: must not overlap mixed_images, got 40 bytes in common");
    CHECK(memcmp(good.images, b.images, sizeof good.images) == 0);

    /* Labels. */
    SPOILED(b.ids[2] = K, INVALID_ARGUMENT, "labels[2]: must be below num_classes = 4, got 4");
    SPOILED(b.ids[0] = INT64_MAX, INVALID_ARGUMENT,
            "labels[0]: must be below num_classes = 4, got 9223372036854775807");
    other_shape[0] = N, other_shape[1] = 1;
    SPOILED((b.t_labels.ndim = 2, b.t_labels.shape = other_shape), SHAPE,
            "labels: expected shape [N], got [5, 1]");

    /* And the same batch unspoiled. */
    init_batch(&b);
    OK(apply(op, plan, &b));
    CHECK(!is_pattern(b.mixed_images, sizeof(float)));
    miamix_plan_free(plan);
}

/* The tensors of a call, one after the other: whatever is wrong with any of them is an error. */
static void test_each_tensor_in_turn(const miamix_op *op) {
    enum { TENSORS = 7 };
    static const char *const names[TENSORS] = {"images",       "partner_images", "labels",       "mixed_images",
                                               "mixed_labels", "label_weight",   "partner_index"};
    static batch b;
    miamix_shape shape = batch_shape();
    miamix_plan *plan = NULL;
    char message[128];
    int i, spoiling;

    OK(miamix_plan_draw(op, &shape, 7, 0, &plan));
    for (i = 0; i < TENSORS; i++) {
        for (spoiling = 0;; spoiling++) {
            miamix_tensor *tensors[TENSORS], *spoiled;
            int64_t extents[5] = {N, C, H, W, 1}, strides[5] = {1, 1, 1, 1, 1};
            miamix_status status;
            init_batch(&b);
            tensors[0] = &b.t_images, tensors[1] = &b.t_partner_images, tensors[2] = &b.t_labels;
            tensors[3] = &b.t_mixed_images, tensors[4] = &b.t_mixed_labels, tensors[5] = &b.t_label_weight;
            tensors[6] = &b.t_partner_index;
            spoiled = tensors[i];
            memcpy(extents, spoiled->shape, (size_t)spoiled->ndim * sizeof *extents);
            spoiled->shape = extents;
            message[0] = 0;
            switch (spoiling) {
            case 0: /* The struct itself, at an address that it cannot have. */
                tensors[i] = (miamix_tensor *)((char *)spoiled + 1);
                sprintf(message, "%s: must be aligned to 8 bytes, got %p", names[i], (void *)tensors[i]);
                break;
            case 1:
                spoiled->data = NULL;
                sprintf(message, "%s.data: must not be NULL, got NULL", names[i]);
                break;
            case 2:
                spoiled->shape = NULL;
                sprintf(message, "%s.shape: must not be NULL, got NULL", names[i]);
                break;
            case 3: spoiled->shape = (int64_t *)((char *)extents + 4); break;
            case 4: spoiled->strides = (int64_t *)((char *)strides + 4); break;
            case 5: spoiled->byte_offset = UINT64_MAX; break;
            case 6: spoiled->byte_offset = 1; break;
            case 7: spoiled->device.device_type = 0; break;
            case 8: spoiled->device.device_type = INT32_MIN; break;
            case 9: spoiled->device.device_type = INT32_MAX; break;
            case 10: spoiled->ndim = INT32_MIN; break;
            case 11: spoiled->ndim = 0; break;
            case 12: spoiled->ndim = 6; break;
            case 13: spoiled->ndim = INT32_MAX; break;
            case 14: spoiled->dtype.code = 255; break;
            case 15: spoiled->dtype.bits = 0; break;
            case 16: spoiled->dtype.bits = 255; break;
            case 17: spoiled->dtype.lanes = 0; break;
            case 18: spoiled->dtype.lanes = UINT16_MAX; break;
            case 19: extents[0] = -1; break;
            case 20: extents[0] = INT64_MIN; break;
            case 21: extents[0] = INT64_MAX; break;
            case 22: extents[0] = INT64_MAX / 8; break;
            case 23: extents[0] = N + 1; break;
            case 24: spoiled->strides = strides, strides[0] = INT64_MAX; break;
            case 25: spoiled->strides = strides, strides[0] = INT64_MIN; break;
            case 26: spoiled->strides = strides, strides[0] = INT64_MAX / N; break;
            default: spoiling = -1; break;
            }
            if (spoiling < 0) {
                break;
            }
            status = miamix_apply(op, plan, tensors[0], tensors[1], tensors[2], K, tensors[3], tensors[4],
                                  tensors[5], tensors[6], NULL);
            if (status == MIAMIX_STATUS_OK || !is_untouched(&b)) {
                printf("%s, spoiled in way %d: status %d, outputs %s\n", names[i], spoiling, (int)status,
                       is_untouched(&b) ? "untouched" : "written");
                n_failed++;
            }
            /* The message names the tensor, or both of two that would share memory. */
            CHECK(message[0] ? strcmp(miamix_last_error_message(), message) == 0
                             : strstr(miamix_last_error_message(), names[i]) != NULL);
        }
    }
    miamix_plan_free(plan);
}

/* What the chapter on CUDA asks of its arguments before it asks for a driver. */
static void test_cuda_arguments(const miamix_op *op) {
    miamix_shape shape = batch_shape();
    miamix_plan *plan = NULL, *none = NULL;
    size_t bytes = 7;
    int32_t device = 7;
    OK(miamix_plan_draw(op, &shape, 7, 0, &plan));
    FAILS(miamix_cuda_sizes(NULL, &shape, &bytes, NULL, NULL), INVALID_ARGUMENT, "op: must not be NULL, got NULL");
    FAILS(miamix_cuda_sizes(op, NULL, &bytes, NULL, NULL), INVALID_ARGUMENT, "shape: must not be NULL, got NULL");
    FAILS(miamix_plan_on_device(NULL, &shape, plan, 1, NULL, 0, &none), INVALID_ARGUMENT,
          "op: must not be NULL, got NULL");
    FAILS(miamix_plan_on_device(op, NULL, plan, 1, NULL, 0, &none), INVALID_ARGUMENT,
          "shape: must not be NULL, got NULL");
    FAILS(miamix_plan_on_device(op, &shape, plan, 1, NULL, 0, NULL), INVALID_ARGUMENT,
          "out_plan: must not be NULL, got NULL");
    FAILS(miamix_plan_upload(NULL, plan, NULL), INVALID_ARGUMENT, "plan: must not be NULL, got NULL");
    FAILS(miamix_plan_upload(plan, NULL, NULL), INVALID_ARGUMENT, "device_plan: must not be NULL, got NULL");
    FAILS(miamix_cuda_device_of(plan, NULL), INVALID_ARGUMENT, "out_device: must not be NULL, got NULL");
    CHECK(miamix_cuda_device_of(NULL, &device) != MIAMIX_STATUS_OK);
    /* Too little memory, none, and more than there is. */
    CHECK(miamix_plan_on_device(op, &shape, plan, 0, NULL, 0, &none) != MIAMIX_STATUS_OK);
    CHECK(miamix_plan_on_device(op, &shape, NULL, SIZE_MAX, NULL, 0, &none) != MIAMIX_STATUS_OK);
    shape.samples = UINT64_MAX;
    CHECK(miamix_cuda_sizes(op, &shape, &bytes, &bytes, &bytes) != MIAMIX_STATUS_OK);
    CHECK(miamix_plan_on_device(op, &shape, plan, SIZE_MAX, NULL, 0, &none) != MIAMIX_STATUS_OK);
    CHECK(bytes == 7 && device == 7 && none == NULL);
    miamix_plan_free(plan);
}

int main(void) {
    miamix_op *op = NULL;
    test_versions();
    test_config();
    OK(miamix_op_create(NULL, &op));
    test_plans(op);
    test_mixing(op);
    test_maps(op);
    test_backward(op);
    test_bad_tensors(op);
    test_each_tensor_in_turn(op);
    test_cuda_arguments(op);
    miamix_op_free(op);
    if (n_failed != 0) {
        printf("%d checks failed\n", n_failed);
        return 1;
    }
    return 0;
}
