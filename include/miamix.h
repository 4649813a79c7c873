/*
 * miamix.h: the C interface of MiAMix, multi-stage mixed-sample augmentation.
 *
 *     config + seed + shape --> plan --> masks --> mix --> images, labels
 *                               draws    pure      pure
 *
 * An operator (miamix_op) holds checked parameters. A plan (miamix_plan) holds every random decision for one
 * batch, as plain data. Applying a plan mixes each image of the batch, the primary, with another one, its
 * partner, under the mask of the plan: a mask of 1 keeps the primary's pixel, a mask of 0 takes the partner's.
 * Labels are mixed by the share of pixels that the primary keeps. Equal parameters, shapes and seeds give
 * equal bits, whatever the number of threads, the machine or the language.
 *
 *     miamix_op *op = NULL;
 *     miamix_op_create(NULL, &op);    // the parameters of the paper
 *     for (first_sample = 0; next_batch(&images, &labels); first_sample += n)
 *         miamix_mix(op, seed, first_sample, &images, NULL, &labels, 10,
 *                    &mixed_images, &mixed_labels, NULL, NULL, NULL);
 *     miamix_op_free(op);
 *
 * That is all that a training loop needs; to keep, read or write a plan, draw it with miamix_plan_draw() and use
 * it with miamix_apply(). The chapters: versions and errors, parameters, the operator, plans, tensors, mixing, CUDA.
 *
 * Ownership. miamix_op_create(), miamix_plan_draw(), miamix_plan_from_json() and miamix_plan_on_device()
 * give a handle to the caller, who releases it with the _free() function of its type; freeing NULL does
 * nothing. All other arguments are borrowed for the call: tensors, their shapes and their memory stay with
 * the caller. An argument that is a pointer to const is not changed. Strings that a function returns belong
 * to the library.
 *
 * Threads. Every function may be called on any thread, and operators and plans may be used by any number of
 * threads at once, except that miamix_plan_redraw() and the _free() functions need their handle alone.
 * A call works on several threads (miamix_config.n_threads), which are the library's own, and returns when all are
 * done; a small batch is mixed on the calling thread. The child of a fork(), at whatever moment, may go on with
 * the operators and plans that it has: the library starts threads anew there.
 *
 * Streams. Calls on tensors in CPU memory are synchronous and ignore the argument stream, which is there
 * for tensors on CUDA devices. A stream is used, never owned; no call waits for a device. Functions
 * without that argument touch no device.
 *
 * Errors. A call returns MIAMIX_STATUS_OK (0), or says why not: by a status, and by
 * miamix_last_error_message(), "name: rule, got value". Arguments are checked before anything is
 * written. NULL where it is not allowed, numbers out of range and sizes that overflow are errors; what
 * cannot be checked is that memory is there: addresses, shapes and strides must be true. After
 * MIAMIX_STATUS_OUT_OF_MEMORY, MIAMIX_STATUS_CUDA and MIAMIX_STATUS_INTERNAL, which can come in the middle of the
 * work, outputs may be written in part; after any other error they are as they were.
 *
 * Versions. Within one ABI version (MIAMIX_ABI_VERSION) functions, numbers and layouts are only added to.
 * Structs that may grow begin with struct_size, the size that the caller was compiled with.
 *
 * Generated from bindings/c/src/abi by MIAMIX_BLESS=1 cargo test -p miamix-c; do not edit.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 */

#ifndef MIAMIX_H
#define MIAMIX_H

#include <stddef.h>
#include <stdint.h>

/* Define MIAMIX_SHARED on Windows to link to the shared library. */
#if defined(_WIN32) && defined(MIAMIX_SHARED)
#define MIAMIX_API __declspec(dllimport)
#else
#define MIAMIX_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * ---- Versions and errors ----
 */

/**
 * The version of the interface that this header describes.
 */
#define MIAMIX_ABI_VERSION 1

/**
 * What a call answers in C, Python and Java. Numbers are never reused.
 */
enum miamix_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    MIAMIX_STATUS_OK = 0,
    /**
     * A parameter, a label or another value is outside its range.
     */
    MIAMIX_STATUS_INVALID_ARGUMENT = 1,
    /**
     * Shapes disagree.
     */
    MIAMIX_STATUS_SHAPE = 2,
    /**
     * An element type or a memory layout that the call does not take.
     */
    MIAMIX_STATUS_DTYPE = 3,
    /**
     * A plan that is malformed.
     */
    MIAMIX_STATUS_PLAN = 4,
    /**
     * A combination that the library does not provide.
     */
    MIAMIX_STATUS_UNSUPPORTED = 5,
    /**
     * Memory could not be had.
     */
    MIAMIX_STATUS_OUT_OF_MEMORY = 6,
    /**
     * No usable CUDA driver or device on this machine.
     */
    MIAMIX_STATUS_CUDA_UNAVAILABLE = 7,
    /**
     * CUDA reported an error.
     */
    MIAMIX_STATUS_CUDA = 8,
    /**
     * A bug of the library.
     */
    MIAMIX_STATUS_INTERNAL = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum miamix_status miamix_status;
#else
typedef int32_t miamix_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The version of the interface that the loaded library provides.
 *
 * A program compiled with this header works with every library that answers MIAMIX_ABI_VERSION. One that
 * loads the library by hand (dlopen) compares the two before it calls anything else.
 *
 * @return The number.
 *
 * Threads: any.
 */
MIAMIX_API uint32_t miamix_abi_version(void);

/**
 * The version of the loaded library, as "0.1.0".
 *
 * @return A static string.
 *
 * Threads: any.
 */
MIAMIX_API const char *miamix_version(void);

/**
 * What a status means, in a few words.
 *
 * @param[in] status What a call returned.
 * @return A static string; "unknown status" for a number that is none.
 *
 * Threads: any.
 */
MIAMIX_API const char *miamix_status_name(int32_t status);

/**
 * Why the last call of this thread failed, as "name: rule, got value".
 *
 * @return Never NULL; empty if that call succeeded, or if there was none. Valid until the next call on this
 *         thread that returns a status: functions that return none, miamix_plan_free() for instance,
 *         leave the message as it is.
 *
 * Threads: each has a message of its own, so ask on the thread whose call failed.
 */
MIAMIX_API const char *miamix_last_error_message(void);

/*
 * ---- Parameters ----
 *
 * Table 1 of the paper, and a switch for each thing that it leaves open.
 */

/**
 * Mixing methods: the index of each in miamix_config.method_weights.
 */
typedef enum miamix_method {
    /**
     * A constant mask.
     */
    MIAMIX_METHOD_MIXUP = 0,
    /**
     * A box.
     */
    MIAMIX_METHOD_CUTMIX = 1,
    /**
     * The level set of low-frequency noise.
     */
    MIAMIX_METHOD_FMIX = 2,
    /**
     * Cells of a grid.
     */
    MIAMIX_METHOD_GRIDMIX = 3,
    /**
     * An adaptive Gaussian, rotated and stretched.
     */
    MIAMIX_METHOD_AGMIX = 4,
    /**
     * A round Gaussian.
     */
    MIAMIX_METHOD_GMIX = 5,
} miamix_method;

/**
 * How the masks of a sample's layers become one.
 */
typedef enum miamix_merge {
    /**
     * The product of the masks.
     */
    MIAMIX_MERGE_PRODUCT = 0,
    /**
     * The sum of the masks, clipped to [0, 1].
     */
    MIAMIX_MERGE_SUM = 1,
} miamix_merge;

/**
 * Which weight the primary's label gets.
 */
typedef enum miamix_label_weight {
    /**
     * The mean of the merged mask.
     */
    MIAMIX_LABEL_WEIGHT_MERGED = 0,
    /**
     * What follows from the drawn ratios alone: their sum under MIAMIX_MERGE_SUM, 1 minus it under
     * MIAMIX_MERGE_PRODUCT; refused with MIAMIX_MERGE_PRODUCT and MIAMIX_LAMBDA_READING_KEEP.
     */
    MIAMIX_LABEL_WEIGHT_DRAWN = 1,
} miamix_label_weight;

/**
 * What the ratio lambda of a layer is the share of.
 */
typedef enum miamix_lambda_reading {
    /**
     * Lambda goes to the partner.
     */
    MIAMIX_LAMBDA_READING_COMPLEMENT = 0,
    /**
     * The primary keeps lambda.
     */
    MIAMIX_LAMBDA_READING_KEEP = 1,
} miamix_lambda_reading;

/**
 * How wide the Gaussian of a share g is.
 */
typedef enum miamix_gaussian_sigma {
    /**
     * sigma^2 = g H W, as published.
     */
    MIAMIX_GAUSSIAN_SIGMA_PAPER = 0,
    /**
     * sigma^2 = g H W / (2 pi), under which the whole area of a round Gaussian is g H W.
     */
    MIAMIX_GAUSSIAN_SIGMA_AREA = 1,
} miamix_gaussian_sigma;

/**
 * How partners are found.
 */
typedef enum miamix_pairing {
    /**
     * By a permutation of the batch.
     */
    MIAMIX_PAIRING_PERMUTATION = 0,
    /**
     * Each uniformly over the batch.
     */
    MIAMIX_PAIRING_UNIFORM = 1,
} miamix_pairing;

/**
 * Where cutmix puts its box.
 */
typedef enum miamix_cutmix_box {
    /**
     * Centre anywhere, the box cut at the border, as published.
     */
    MIAMIX_CUTMIX_BOX_CLIPPED = 0,
    /**
     * The whole box inside the image.
     */
    MIAMIX_CUTMIX_BOX_INSIDE = 1,
} miamix_cutmix_box;

/**
 * The parameters of an operator. Fill it with miamix_config_init(), then change what should differ.
 *
 * Probabilities are in [0, 1]. The struct grows at its end, in steps of 8 bytes; a new field at 0 means what
 * libraries without it do.
 */
typedef struct miamix_config {
    /**
     * sizeof(miamix_config); miamix_config_init() writes it.
     */
    uint64_t struct_size;
    /**
     * Dirichlet parameter, greater than 0. Default 1.
     */
    float alpha;
    /**
     * Fewest layers, 1 to k_max. Default 1.
     */
    uint32_t k_min;
    /**
     * Most layers, k_min to 8; the number is uniform in between. Default 2.
     */
    uint32_t k_max;
    /**
     * Relative odds of a layer's method, indexed by miamix_method; at least 0, not all 0.
     * Default 2, 1, 1, 1, 1, 0.
     */
    float method_weights[6];
    /**
     * Probability that a sample is mixed at all. Default 1.
     */
    float p_apply;
    /**
     * Probability that a sample is mixed with itself (its other view). Default 0.1.
     */
    float p_self;
    /**
     * Probability, per layer, that its mask is rotated and sheared. Default 0.25.
     */
    float p_aug;
    /**
     * Probability, per layer, that its mask is smoothed. Default 0.5.
     */
    float p_smooth;
    /**
     * A miamix_merge. Default MIAMIX_MERGE_PRODUCT.
     */
    uint32_t merge;
    /**
     * A miamix_label_weight. Default MIAMIX_LABEL_WEIGHT_MERGED.
     */
    uint32_t label_weight;
    /**
     * A miamix_lambda_reading. Default MIAMIX_LAMBDA_READING_COMPLEMENT.
     */
    uint32_t lambda_reading;
    /**
     * A miamix_gaussian_sigma. Default MIAMIX_GAUSSIAN_SIGMA_PAPER.
     */
    uint32_t gaussian_sigma;
    /**
     * A miamix_pairing. Default MIAMIX_PAIRING_PERMUTATION.
     */
    uint32_t pairing;
    /**
     * A miamix_cutmix_box. Default MIAMIX_CUTMIX_BOX_CLIPPED.
     */
    uint32_t cutmix_box;
    /**
     * Gridmix: fewest and most cells a side, 1 to 16. Default 2, 8.
     */
    uint32_t grid_range[2];
    /**
     * Fmix: power of the spectrum's decay, at least 2. Default 3.
     */
    float decay_power;
    /**
     * Rotation of a mask, uniform in plus or minus this, radians. Default pi / 4.
     */
    float rotate_max_rad;
    /**
     * Horizontal shear of a mask, uniform in plus or minus this, at most 1000. Default 0.3.
     */
    float shear_max;
    /**
     * Smoothing window, uniform over the odd numbers in this range, pixels, 1 to 15. Default 3, 7.
     */
    uint32_t smooth_range_px[2];
    /**
     * Built-in views: probability of a horizontal flip. Default 0.
     */
    float p_flip;
    /**
     * Built-in views: shift uniform in plus or minus this after zero padding, pixels. Default 0.
     */
    uint32_t pad_px;
    /**
     * Label smoothing of class ids, 0 to 1. Default 0.
     */
    float label_smoothing;
    /**
     * Threads of the operator, at most 256; 0: one for each core, or the calling thread alone in a child of
     * fork(). It changes no result. Default 0.
     */
    uint32_t n_threads;
} miamix_config;

/**
 * Fills a configuration with the defaults.
 *
 * @param[out] config      The caller's; written whole, struct_size included.
 * @param[in]  struct_size sizeof(miamix_config).
 * @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_INVALID_ARGUMENT; config is written only on success.
 *
 * Threads: no other thread may use config meanwhile.
 */
MIAMIX_API miamix_status miamix_config_init(struct miamix_config *config, size_t struct_size);

/*
 * ---- The operator ----
 */

/**
 * An operator: parameters that have been checked, and the threads it works on. It keeps no random state.
 */
typedef struct miamix_op miamix_op;

/**
 * Makes an operator.
 *
 * @param[in]  config Borrowed; NULL for the defaults. Its struct_size may be that of another version of this
 *                    header: what an older one lacks has its default, and what a newer one has beyond this
 *                    library must be 0, else the status is MIAMIX_STATUS_UNSUPPORTED.
 * @param[out] out_op Owned by the caller; release with miamix_op_free().
 * @return MIAMIX_STATUS_OK, or an error that names the first parameter outside its range; out_op is written
 *         only on success.
 *
 * Threads: an operator may be shared by any number of threads. Its own are started with the first work for
 * them, and operators of the same n_threads share theirs.
 */
MIAMIX_API miamix_status miamix_op_create(const miamix_config *config, struct miamix_op **out_op);

/**
 * Releases an operator. Plans that it drew live on.
 *
 * @param[in] op Not used again; NULL is fine.
 *
 * Threads: no call with the operator may still be at work.
 */
MIAMIX_API void miamix_op_free(struct miamix_op *op);

/*
 * ---- Plans ----
 *
 * Everything random in a batch, as plain data: drawn, stored, read, and applied any number of times.
 */

/**
 * A plan: for each sample its partner, its views, and the layers of its mask. Its JSON form shows all of it.
 */
typedef struct miamix_plan miamix_plan;

/**
 * What a plan is drawn for. Channels and element type do not matter to it.
 */
typedef struct miamix_shape {
    /**
     * N, the number of samples, at most 268435455; 0 is an empty batch.
     */
    uint64_t samples;
    /**
     * H, pixels, 1 to 32768.
     */
    uint64_t height;
    /**
     * W, pixels, 1 to 32768.
     */
    uint64_t width;
} miamix_shape;

/**
 * Draws every random decision for one batch.
 *
 * @param[in]  op, shape    Borrowed.
 * @param[in]  seed         Equal seeds give equal plans on every device and in every language.
 * @param[in]  first_sample Global index of the batch's first sample: a running counter lets one seed serve a
 *                          whole training run, and data-parallel ranks differ by it.
 * @param[out] out_plan     Owned by the caller; release with miamix_plan_free().
 * @return MIAMIX_STATUS_OK, or an error; out_plan is written only on success.
 *
 * Threads: a plan may be shared by any number of threads.
 */
MIAMIX_API
miamix_status miamix_plan_draw(const miamix_op *op,
                               const struct miamix_shape *shape,
                               uint64_t seed,
                               uint64_t first_sample,
                               struct miamix_plan **out_plan);

/**
 * Draws again into a plan, whose memory is used again: a training loop allocates nothing.
 *
 * @param[in]     op, shape, seed, first_sample As for miamix_plan_draw().
 * @param[in,out] plan Wherever it came from. It is unchanged if the call fails.
 * @return MIAMIX_STATUS_OK, or an error.
 *
 * Threads: no other thread may use the plan meanwhile; op may be shared.
 */
MIAMIX_API
miamix_status miamix_plan_redraw(const miamix_op *op,
                                 const struct miamix_shape *shape,
                                 uint64_t seed,
                                 uint64_t first_sample,
                                 struct miamix_plan *plan);

/**
 * Reads a plan that was stored as JSON, or written by hand.
 *
 * @param[in]  json     Borrowed; UTF-8, a terminator is not needed.
 * @param[in]  length   Bytes of json, without a terminator.
 * @param[out] out_plan Owned by the caller; release with miamix_plan_free().
 * @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_PLAN with a message that names the sample and the layer; out_plan is
 *         written only on success. Where memory for the text's numbers cannot be had the process is aborted.
 *
 * Threads: a plan may be shared by any number of threads.
 */
MIAMIX_API
miamix_status miamix_plan_from_json(const char *json,
                                    size_t length,
                                    struct miamix_plan **out_plan);

/**
 * Writes a plan as JSON.
 *
 * Ask for the length with buffer NULL, then for the text with length + 1 bytes of room.
 *
 * @param[in]  plan     Borrowed.
 * @param[out] buffer   Gets the text and a terminating 0, if all of it fits; NULL to ask for the length.
 * @param[in]  capacity Bytes of room in buffer, more than *length.
 * @param[out] length   Bytes of the text without the terminator. Written even where the room is too small.
 * @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_INVALID_ARGUMENT where the room is too small; then nothing is
 *         written to buffer. Where memory for the text cannot be had the process is aborted.
 *
 * Threads: any; the plan may be shared.
 */
MIAMIX_API
miamix_status miamix_plan_to_json(const struct miamix_plan *plan,
                                  char *buffer,
                                  size_t capacity,
                                  size_t *length);

/**
 * What a plan was drawn for.
 *
 * @param[in]  plan      Borrowed.
 * @param[out] out_shape The caller's; gets samples, height and width.
 * @return MIAMIX_STATUS_OK, or an error.
 *
 * Threads: any; the plan may be shared.
 */
MIAMIX_API miamix_status miamix_plan_shape(const struct miamix_plan *plan, struct miamix_shape *out_shape);

/**
 * Which sample of the batch each sample is mixed with.
 *
 * @param[in]  plan              Borrowed.
 * @param[out] out_partner_index The caller's, room for count numbers; a sample's own index where it is mixed
 *                               with itself or not at all.
 * @param[in]  count             The number of samples.
 * @return MIAMIX_STATUS_OK, or an error: MIAMIX_STATUS_SHAPE if count is another number.
 *
 * Threads: any; the plan may be shared.
 */
MIAMIX_API
miamix_status miamix_plan_partner_index(const struct miamix_plan *plan,
                                        int64_t *out_partner_index,
                                        size_t count);

/**
 * How many layers the mask of one sample has.
 *
 * @param[in]  plan         Borrowed.
 * @param[in]  sample       Index in the batch.
 * @param[out] out_n_layers The caller's; 0 to 8, 0 where the sample is not mixed.
 * @return MIAMIX_STATUS_OK, or an error.
 *
 * Threads: any; the plan may be shared.
 */
MIAMIX_API
miamix_status miamix_plan_n_layers(const struct miamix_plan *plan,
                                   size_t sample,
                                   uint32_t *out_n_layers);

/**
 * Releases a plan.
 *
 * @param[in] plan Not used again; NULL is fine.
 *
 * Threads: no call with the plan may still be at work.
 */
MIAMIX_API void miamix_plan_free(struct miamix_plan *plan);

/*
 * ---- Tensors ----
 *
 * Arrays in memory of the caller. A miamix_tensor has the layout of DLPack's DLTensor, so that a tensor of
 * any framework is passed as it is, without a copy.
 */

/**
 * Where memory is, as DLPack numbers it.
 */
typedef enum miamix_device_type {
    /**
     * Main memory.
     */
    MIAMIX_DEVICE_TYPE_CPU = 1,
    /**
     * Memory of a CUDA device, all tensors of a call on the same one: see the argument stream. Not yet confirmed
     * on hardware. MIAMIX_STATUS_CUDA_UNAVAILABLE where there is no driver.
     */
    MIAMIX_DEVICE_TYPE_CUDA = 2,
    /**
     * Main memory, pinned by CUDA: the same as MIAMIX_DEVICE_TYPE_CPU here.
     */
    MIAMIX_DEVICE_TYPE_CUDA_HOST = 3,
} miamix_device_type;

/**
 * What an element is, as DLPack numbers it.
 */
typedef enum miamix_dtype_code {
    /**
     * A signed integer.
     */
    MIAMIX_DTYPE_CODE_INT = 0,
    /**
     * An unsigned integer.
     */
    MIAMIX_DTYPE_CODE_UINT = 1,
    /**
     * An IEEE 754 number.
     */
    MIAMIX_DTYPE_CODE_FLOAT = 2,
    /**
     * A bfloat16.
     */
    MIAMIX_DTYPE_CODE_BFLOAT = 4,
    /**
     * A truth value of 8 bits.
     */
    MIAMIX_DTYPE_CODE_BOOL = 6,
} miamix_dtype_code;

/**
 * DLPack's DLDevice.
 */
typedef struct miamix_device {
    /**
     * A miamix_device_type.
     */
    int32_t device_type;
    /**
     * Which device of that type; 0 for main memory.
     */
    int32_t device_id;
} miamix_device;

/**
 * DLPack's DLDataType.
 */
typedef struct miamix_dtype {
    /**
     * A miamix_dtype_code.
     */
    uint8_t code;
    /**
     * Bits of an element.
     */
    uint8_t bits;
    /**
     * 1.
     */
    uint16_t lanes;
} miamix_dtype;

/**
 * DLPack's DLTensor.
 *
 * Shapes are in the order [N, C, H, W] (images), [N, H, W] (maps, masks), [N, K] or [N] (labels). The order
 * in memory is what the strides say: NHWC images have shape {N, C, H, W} and strides {H W C, 1, W C, C}.
 * Images of five axes, [N, T, C, H, W], are taken as T C channels if the strides of T and C let them be one axis.
 *
 * What is read may have any strides, 0 and negative ones too. Images and maps that are written may have any
 * strides under which no element is met twice; all other arrays that are written are compact.
 */
typedef struct miamix_tensor {
    /**
     * Aligned for the element after byte_offset is added; may be NULL where the shape has a 0.
     */
    void *data;
    /**
     * Where data is.
     */
    struct miamix_device device;
    /**
     * Number of axes.
     */
    int32_t ndim;
    /**
     * What an element is.
     */
    struct miamix_dtype dtype;
    /**
     * ndim extents.
     */
    int64_t *shape;
    /**
     * ndim distances in elements; NULL for a compact tensor, the last axis the closest.
     */
    int64_t *strides;
    /**
     * Added to data, bytes.
     */
    uint64_t byte_offset;
} miamix_tensor;

/*
 * ---- Mixing ----
 */

/**
 * Mixes a batch under a plan.
 *
 *     mixed_images[i] = mask[i] * images[i] + (1 - mask[i]) * partner_images[partner_index[i]]
 *     mixed_labels[i] = label_weight[i] * labels[i] + (1 - label_weight[i]) * labels[partner_index[i]]
 *
 * @param[in]  op, plan       Borrowed. The plan may come from another operator: op gives the threads and the
 *                            label smoothing.
 * @param[in]  images         [N, C, H, W] of float32, float16, bfloat16 or uint8.
 * @param[in]  partner_images The same batch under a second augmentation; NULL to use images twice.
 * @param[in]  labels         Class ids, [N] of int64 or int32, below num_classes, where a negative id is ignored
 *                            and gives a row of zeros; or [N, K] of float32; NULL for pixels only.
 * @param[in]  num_classes    K for class ids. For [N, K] labels K or 0; for no labels 0.
 * @param[out] mixed_images   As images.
 * @param[out] mixed_labels   [N, K] of float32; NULL where K is 0.
 * @param[out] label_weight   [N] of float32, what the primary's own label weighs; may be NULL.
 * @param[out] partner_index  [N] of int64, the sample that was mixed in; may be NULL.
 * @param[in]  stream         Of the device where the tensors are, a CUstream or cudaStream_t, or NULL for the default
 *                            stream of the current context, and of the device's primary context on a thread that
 *                            has none; ignored for tensors in CPU memory.
 * @return MIAMIX_STATUS_OK, or an error; outputs are complete only on success. The address range of an output
 *         must overlap no input's and no other output's.
 *
 * Threads: op and plan may be shared; the tensors are the call's alone as far as it writes them.
 *
 * On a CUDA device: all tensors are on it. The call returns before the work is done, which is complete in the
 * stream's order; tensors must live as long, while the plan may be freed at once. Memory that the work needs comes
 * from a pool of the library's, one for each context, which keeps it for the next call; or it is that of
 * miamix_plan_on_device(). A class id of num_classes or more gives a row of zeros, of which miamix_check_labels()
 * tells. A stream that is being captured into a graph takes only a plan from miamix_plan_on_device(), and is an error
 * with any other: MIAMIX_STATUS_UNSUPPORTED.
 */
MIAMIX_API
miamix_status miamix_apply(const miamix_op *op,
                           const miamix_plan *plan,
                           const miamix_tensor *images,
                           const miamix_tensor *partner_images,
                           const miamix_tensor *labels,
                           size_t num_classes,
                           miamix_tensor *mixed_images,
                           miamix_tensor *mixed_labels,
                           miamix_tensor *label_weight,
                           miamix_tensor *partner_index,
                           void *stream);

/**
 * Draws a plan for a batch, and mixes the batch under it: miamix_plan_draw(), then miamix_apply().
 *
 * @param[in] op           Borrowed.
 * @param[in] seed         As for miamix_plan_draw().
 * @param[in] first_sample As for miamix_plan_draw().
 *
 * All other arguments, the result, and what is said of threads and devices are those of miamix_apply().
 */
MIAMIX_API
miamix_status miamix_mix(const miamix_op *op,
                         uint64_t seed,
                         uint64_t first_sample,
                         const miamix_tensor *images,
                         const miamix_tensor *partner_images,
                         const miamix_tensor *labels,
                         size_t num_classes,
                         miamix_tensor *mixed_images,
                         miamix_tensor *mixed_labels,
                         miamix_tensor *label_weight,
                         miamix_tensor *partner_index,
                         void *stream);

/**
 * Mixes label maps (segmentation) under a plan: the primary's label where the mask is at least 1/2, else the
 * partner's.
 *
 * @param[in]  op, plan     Borrowed.
 * @param[in]  maps         [N, H, W] of integers of 8 to 64 bits, or of 8-bit truth values.
 * @param[in]  partner_maps The maps of partner_images; NULL to use maps twice.
 * @param[out] mixed_maps   As maps; must overlap neither.
 * @param[in]  stream       As for miamix_apply().
 * @return MIAMIX_STATUS_OK, or an error; mixed_maps is complete only on success.
 *
 * Threads: as for miamix_apply().
 */
MIAMIX_API
miamix_status miamix_apply_maps(const miamix_op *op,
                                const miamix_plan *plan,
                                const miamix_tensor *maps,
                                const miamix_tensor *partner_maps,
                                miamix_tensor *mixed_maps,
                                void *stream);

/**
 * Renders the masks of a plan, and what its labels weigh.
 *
 * @param[in]  op, plan     Borrowed.
 * @param[out] masks        [N, H, W] of float32, 1 keeps the primary pixel; may be NULL.
 * @param[out] label_weight [N] of float32; may be NULL.
 * @param[in]  stream       As for miamix_apply().
 * @return MIAMIX_STATUS_OK, or an error; outputs are complete only on success, and must not overlap.
 *
 * Threads: as for miamix_apply().
 */
MIAMIX_API
miamix_status miamix_masks(const miamix_op *op,
                           const miamix_plan *plan,
                           miamix_tensor *masks,
                           miamix_tensor *label_weight,
                           void *stream);

/**
 * The gradient of miamix_apply(): from that of the mixed images to those of the images.
 *
 *     grad_images[i]         = mask[i] * grad_mixed[i]
 *     grad_partner_images[t] = sum of (1 - mask[i]) * grad_mixed[i] over the i with partner_index[i] = t
 *
 * Sums go over ascending i in float32 and are rounded once. A share of 0 passes on nothing.
 *
 * @param[in]  op, plan            Borrowed.
 * @param[in]  grad_mixed          [N, C, H, W] of float32, float16 or bfloat16.
 * @param[out] grad_images         As grad_mixed.
 * @param[out] grad_partner_images As grad_mixed; NULL where images served twice: grad_images gets the sum of both.
 * @param[in]  stream              As for miamix_apply().
 * @return MIAMIX_STATUS_OK, or an error; outputs are complete only on success, and must overlap neither grad_mixed
 *         nor each other.
 *
 * Threads: as for miamix_apply().
 */
MIAMIX_API
miamix_status miamix_backward(const miamix_op *op,
                              const miamix_plan *plan,
                              const miamix_tensor *grad_mixed,
                              miamix_tensor *grad_images,
                              miamix_tensor *grad_partner_images,
                              void *stream);

/*
 * ---- CUDA ----
 *
 * Not yet confirmed on hardware. Tensors in CUDA memory are mixed by the functions above, on a stream; what is here
 * is for plans in device memory, which a captured graph needs, and for class ids that are out of range.
 *
 * A graph is captured once and replayed with other plans:
 *
 *     miamix_cuda_sizes(op, &shape, &plan_bytes, &workspace_bytes, NULL);
 *     miamix_plan_on_device(op, &shape, buffer, plan_bytes, workspace, workspace_bytes, &device_plan);
 *     miamix_plan_upload(plan, device_plan, stream);     before the capture: it also loads the kernels
 *     miamix_apply(op, device_plan, ..., stream);        while the stream is being captured
 *
 *     miamix_plan_redraw(op, &shape, seed, first_sample, plan);    and before each replay
 *     miamix_plan_upload(plan, device_plan, stream);
 *
 * What is captured follows from shapes and parameters alone, and never from what was drawn.
 */

/**
 * How much device memory plans and calls take, for any plan that the operator draws for a shape.
 *
 * @param[in]  op, shape                    Borrowed.
 * @param[out] out_plan_bytes               Of a plan in device memory; may be NULL.
 * @param[out] out_workspace_bytes          Of the workspace of every call but miamix_backward(); may be NULL.
 * @param[out] out_backward_workspace_bytes Of the workspace of every call; may be NULL.
 * @return MIAMIX_STATUS_OK, or an error.
 *
 * Threads: any; op may be shared.
 */
MIAMIX_API
miamix_status miamix_cuda_sizes(const miamix_op *op,
                                const miamix_shape *shape,
                                size_t *out_plan_bytes,
                                size_t *out_workspace_bytes,
                                size_t *out_backward_workspace_bytes);

/**
 * Makes a plan in device memory, for one batch shape: miamix_plan_upload() writes it, calls on tensors on the same
 * device take it as any other plan from then on (before, and on another device, they are an error:
 * MIAMIX_STATUS_INVALID_ARGUMENT), and nothing else reads it but miamix_plan_shape().
 *
 * @param[in]  op, shape       Borrowed. The plan has room for whatever the operator draws for the shape.
 * @param[in]  buffer          Device memory of the caller's, aligned to 16 bytes, there as long as the plan is used.
 * @param[in]  buffer_bytes    Its size, that of miamix_cuda_sizes() at least.
 * @param[in]  workspace       Device memory that calls under this plan work in, aligned to 256 bytes, for one stream
 *                             at a time; NULL: each call takes its memory from the library's pool.
 * @param[in]  workspace_bytes Its size, that of miamix_cuda_sizes() at least; 0 where there is none.
 * @param[out] out_plan        Owned by the caller; release with miamix_plan_free(), which leaves the memory alone.
 * @return MIAMIX_STATUS_OK, or an error; out_plan is written only on success.
 *
 * Threads: any; op may be shared. Calls that the plan is given to may come from several threads, but with a
 * workspace only one at a time, as they share it in the order of the stream.
 */
MIAMIX_API
miamix_status miamix_plan_on_device(const miamix_op *op,
                                    const miamix_shape *shape,
                                    void *buffer,
                                    size_t buffer_bytes,
                                    void *workspace,
                                    size_t workspace_bytes,
                                    miamix_plan **out_plan);

/**
 * Writes a plan to device memory, in one asynchronous copy in the stream's order: what was put on the stream before
 * sees the earlier one.
 *
 * @param[in] plan        Borrowed; it may be freed, or drawn again, as soon as the call returns.
 * @param[in] device_plan Borrowed; from miamix_plan_on_device(), for the shape of plan.
 * @param[in] stream      As for miamix_apply(), the device being that of the memory of device_plan. It must not be
 *                        being captured: MIAMIX_STATUS_UNSUPPORTED.
 * @return MIAMIX_STATUS_OK, or an error, MIAMIX_STATUS_UNSUPPORTED too for a plan with more layers than there is room
 *         for.
 *
 * Threads: any; both plans may be shared, as the stream orders what is done with their memory.
 */
MIAMIX_API
miamix_status miamix_plan_upload(const miamix_plan *plan,
                                 const miamix_plan *device_plan,
                                 void *stream);

/**
 * Tells whether a class id of num_classes or more was met on a device, where it gives a row of zeros instead of an
 * error: since the last check, in any call on the context of the stream, as far as the device has come. Does not
 * wait for it, so that a training loop can ask at each step.
 *
 * @param[in] stream As for miamix_apply(), the device being 0, as in the CUDA runtime.
 * @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_INVALID_ARGUMENT with a message that names the last such sample of its
 *         batch, and OK again from then on, unless more was met meanwhile; or another error.
 *
 * Threads: any; one that asks takes the answer away from the others.
 */
MIAMIX_API
miamix_status miamix_check_labels(void *stream);

/**
 * Tells which CUDA device an address is on, for descriptions that lack it.
 *
 * @param[in]  address    Of CUDA memory; not read.
 * @param[out] out_device A miamix_device.device_id.
 * @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_CUDA where it is no memory that CUDA knows, or another error.
 *
 * Threads: any.
 */
MIAMIX_API miamix_status miamix_cuda_device_of(const void *address, int32_t *out_device);

#ifdef __cplusplus
}
#endif

#endif /* MIAMIX_H */
