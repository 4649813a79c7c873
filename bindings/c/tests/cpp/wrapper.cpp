// Meets miamix.hpp as a C++ program does: every call gives the bytes that its function of miamix.h gives, and every
// error is the exception of its status with the library's message. Prints each check that fails.

#include "wrapper.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>
#if __cplusplus >= 202002L
#include <span>
#endif

namespace {

using miamix::dtype_of;
using miamix::Extents;
using miamix::MutableTensorView;
using miamix::TensorView;

int n_failed = 0;

void check(bool ok, int line, const char* what) {
    if (!ok) {
        std::printf("line %d: %s\n", line, what);
        n_failed++;
    }
}
#define CHECK(condition) check((condition), __LINE__, #condition)

/// Expects exactly the exception class `Expected`, with this status and message.
template <class Expected, class Call>
void check_throws(Call call, miamix_status status, const std::string& message, int line) {
    try {
        call();
        std::printf("line %d: nothing was thrown\n", line);
    } catch (const miamix::Error& error) {
        if (typeid(error) == typeid(Expected) && error.status() == status && message == error.what()) {
            return;
        }
        std::printf("line %d: threw %s, status %d, \"%s\"\n  expected status %d, \"%s\"\n", line, typeid(error).name(),
                    static_cast<int>(error.status()), error.what(), static_cast<int>(status), message.c_str());
    }
    n_failed++;
}
#define THROWS(Expected, status, message, ...) \
    check_throws<miamix::Expected>([&] { __VA_ARGS__; }, MIAMIX_STATUS_##status, message, __LINE__)

// An odd batch of odd images: a swapped axis or sample shows.
constexpr std::int64_t N = 5, C = 3, H = 7, W = 9, K = 4;
constexpr std::size_t samples = N, pixels = N * H * W, elements = C * pixels, entries = N * K;
const miamix::BatchShape batch_shape = {N, H, W};
const Extents image_shape = {N, C, H, W}, map_shape = {N, H, W}, label_shape = {N, K};

/// Numbers without a pattern that a mistake keeps.
template <class T>
std::vector<T> numbers(std::size_t size, int modulus) {
    std::vector<T> values(size);
    for (std::size_t i = 0; i < size; i++) {
        values[i] = static_cast<T>(static_cast<int>(i * 37 + 11) % modulus);
    }
    return values;
}

template <class T>
bool equal_bytes(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// A tensor for miamix.h, written out by hand.
miamix_tensor c_tensor(const void* data, std::uint8_t code, std::uint8_t bits, std::vector<std::int64_t>& shape,
                       std::int64_t* strides = nullptr) {
    return {const_cast<void*>(data), {MIAMIX_DEVICE_TYPE_CPU, 0}, static_cast<std::int32_t>(shape.size()),
            {code, bits, 1}, shape.data(), strides, 0};
}

/// The fields of DLPack's DLTensor, in another order, of other types.
struct LikeDLTensor {
    enum DeviceType { cpu = 1, pinned = 3 };
    struct Device {
        int device_id;
        DeviceType device_type;
    };
    struct DataType {
        unsigned lanes, bits, code;
    };
    std::uint64_t byte_offset;
    long long* strides;
    long long* shape;
    DataType dtype;
    int ndim;
    Device device;
    void* data;
};

/// A 16-bit type of a user's own.
struct Half {
    std::uint16_t bits;
};

}  // namespace

template <>
struct miamix::Dtype<Half> : miamix::Dtype<miamix::Float16> {};

namespace {

bool is(miamix_dtype dtype, int code, int bits) {
    return dtype.code == code && dtype.bits == bits && dtype.lanes == 1;
}

void test_elements() {
    CHECK(is(dtype_of<float>, MIAMIX_DTYPE_CODE_FLOAT, 32) && is(dtype_of<const double>, MIAMIX_DTYPE_CODE_FLOAT, 64));
    CHECK(is(dtype_of<std::uint8_t>, MIAMIX_DTYPE_CODE_UINT, 8) && is(dtype_of<bool>, MIAMIX_DTYPE_CODE_BOOL, 8));
    CHECK(is(dtype_of<std::int64_t>, MIAMIX_DTYPE_CODE_INT, 64) && is(dtype_of<short>, MIAMIX_DTYPE_CODE_INT, 16));
    CHECK(is(dtype_of<long long>, MIAMIX_DTYPE_CODE_INT, 64));
    CHECK(is(dtype_of<unsigned>, MIAMIX_DTYPE_CODE_UINT, 32) && is(dtype_of<Half>, MIAMIX_DTYPE_CODE_FLOAT, 16));
    CHECK(is(dtype_of<miamix::Float16>, MIAMIX_DTYPE_CODE_FLOAT, 16));
    CHECK(is(dtype_of<miamix::BFloat16>, MIAMIX_DTYPE_CODE_BFLOAT, 16));
    CHECK(miamix::version() == EXPECTED_VERSION);
}

/// What a function of miamix.h is given for a view.
struct Given {
    explicit Given(const TensorView& view) {
        const miamix_tensor tensor = view.to_c();
        data = tensor.data;
        dtype = tensor.dtype;
        device_type = tensor.device.device_type;
        device_id = tensor.device.device_id;
        byte_offset = tensor.byte_offset;
        shape.assign(tensor.shape, tensor.shape + tensor.ndim);
        if (tensor.strides != nullptr) {
            strides.assign(tensor.strides, tensor.strides + tensor.ndim);
        }
    }

    const void* data;
    miamix_dtype dtype;
    std::int32_t device_type, device_id;
    std::uint64_t byte_offset;
    std::vector<std::int64_t> shape, strides;
};

void test_views() {
    using Numbers = std::vector<std::int64_t>;
    std::vector<float> values(24);
    const std::vector<float>& read = values;
    std::int64_t extents[2] = {4, 6}, strides[2] = {1, 4};

    // A pointer and a shape.
    const TensorView view(read.data(), {4, 6});
    Given given(view);
    CHECK(view && given.data == values.data() && given.shape == Numbers({4, 6}) && given.strides.empty());
    CHECK(given.byte_offset == 0 && given.device_type == MIAMIX_DEVICE_TYPE_CPU && given.device_id == 0);
    CHECK(is(given.dtype, MIAMIX_DTYPE_CODE_FLOAT, 32) && is(view.dtype(), MIAMIX_DTYPE_CODE_FLOAT, 32));
    CHECK(view.shape().size() == 2 && view.shape()[1] == 6);
    // With strides, from ranges of any integers, of which the view has its own copy.
    TensorView turned;
    {
        const std::vector<int> shape = {4, 6};
        const std::array<std::int64_t, 2> column_first = {1, 4};
        turned = TensorView(values.data(), shape, column_first);
    }
    const TensorView copy = turned;
    CHECK(Given(copy).shape == Numbers({4, 6}) && Given(copy).strides == Numbers({1, 4}));
    CHECK(copy.to_c().shape != turned.to_c().shape);
    CHECK(Given(TensorView(values.data(), extents, strides)).strides == Numbers({1, 4}));
    // A container, which has as many elements as its shape says.
    CHECK(Given(TensorView(values, {2, 3, 4})).shape == Numbers({2, 3, 4}));
    CHECK(Given(values).shape == Numbers({24}) && Given(values).data == values.data());
    CHECK(Given(extents).data == extents && Given(extents).shape == Numbers({2}));
    CHECK(Given(TensorView(std::vector<float>(), {0, 7})).shape == Numbers({0, 7}));
    // A type that is known at run time.
    void* const bytes = values.data();
    given = Given(TensorView::of({MIAMIX_DTYPE_CODE_BFLOAT, 16, 1}, bytes, {6, 8}, {8, 1}));
    CHECK(given.data == bytes && is(given.dtype, MIAMIX_DTYPE_CODE_BFLOAT, 16) && given.strides == Numbers({8, 1}));
    CHECK(Given(MutableTensorView::of(dtype_of<float>, bytes, {24})).data == bytes);
    // On a device.
    given = Given(view.on_cuda(3));
    CHECK(given.device_type == MIAMIX_DEVICE_TYPE_CUDA && given.device_id == 3 && given.shape == Numbers({4, 6}));
    CHECK(MutableTensorView(values).on_cuda().device().device_type == MIAMIX_DEVICE_TYPE_CUDA);
    // Nothing, and a tensor without elements, are two things.
    CHECK(!TensorView() && !MutableTensorView() && TensorView(static_cast<float*>(nullptr), {0}));

    // Whatever has the fields of a DLTensor.
    long long shape[2] = {4, 3}, row_strides[2] = {6, 1};
    LikeDLTensor tensor = {4, row_strides, shape, {1, 16, 4}, 2, {7, LikeDLTensor::pinned}, values.data()};
    given = Given(tensor);
    CHECK(given.data == values.data() && given.byte_offset == 4 && given.shape == Numbers({4, 3}));
    CHECK(is(given.dtype, MIAMIX_DTYPE_CODE_BFLOAT, 16) && given.strides == Numbers({6, 1}));
    CHECK(given.device_type == MIAMIX_DEVICE_TYPE_CUDA_HOST && given.device_id == 7);
    tensor.strides = nullptr;
    CHECK(Given(MutableTensorView(tensor)).strides.empty());
    const miamix_tensor c_view = view.to_c();
    CHECK(Given(c_view).shape == Numbers({4, 6}) && is(Given(c_view).dtype, MIAMIX_DTYPE_CODE_FLOAT, 32));

    THROWS(ShapeError, SHAPE, "tensor: must have the elements of shape [4, 5], got 24 elements",
           TensorView(values, {4, 5}));
    THROWS(ShapeError, SHAPE, "tensor: must have the elements of shape [-4, -6], got 24 elements",
           TensorView(values, {-4, -6}));
    THROWS(ShapeError, SHAPE, "tensor: must have the elements of shape [4294967296, 4294967296], got 0 elements",
           MutableTensorView(*std::make_unique<std::vector<float>>(), {1LL << 32, 1LL << 32}));
    THROWS(ShapeError, SHAPE, "tensor: expected shape of at most 8 axes, got 9 axes",
           TensorView(values.data(), {1, 2, 3, 4, 5, 6, 7, 8, 9}));
    THROWS(ShapeError, SHAPE, "strides: must be as many as the axes of shape [4, 6], got [1]",
           TensorView(values.data(), {4, 6}, {1}));
    tensor.ndim = -1;
    THROWS(ShapeError, SHAPE, "tensor: expected shape of at most 8 axes, got -1 axes", TensorView{tensor});
    tensor.shape = nullptr;
    THROWS(InvalidArgument, INVALID_ARGUMENT, "tensor.shape: must not be NULL, got NULL", TensorView{tensor});
    THROWS(ShapeError, SHAPE, "shape: expected shape [N, C, H, W], got 3 axes", miamix::nhwc_strides({1, 2, 3}));

#if __cplusplus >= 202002L
    const std::span<float> span = values;
    CHECK(Given(TensorView(span, {4, 6})).data == values.data() && Given(span.first(3)).shape == Numbers({3}));
    CHECK(Given(MutableTensorView(std::span(values))).data == values.data());
    CHECK(MutableTensorView(span, std::span(extents)).shape()[1] == 6);
#endif
}

// What must not compile does not: outputs are neither const nor temporaries, handles are not copied.
template <class... Arguments>
constexpr bool is_output = std::is_constructible_v<MutableTensorView, Arguments...>;
static_assert(is_output<float*, Extents> && !is_output<const float*, Extents>);
static_assert(is_output<std::vector<float>&> && !is_output<std::vector<float>>);
static_assert(!is_output<const std::vector<float>&>);
static_assert(is_output<std::vector<float>&, Extents> && !is_output<std::vector<float>, Extents>);
static_assert(!is_output<TensorView> && std::is_convertible_v<MutableTensorView, TensorView>);
static_assert(!is_output<void*, Extents> && !std::is_constructible_v<TensorView, void*, Extents>);
static_assert(!std::is_constructible_v<TensorView, std::vector<std::string>> && !is_output<int>);
static_assert(!std::is_copy_constructible_v<miamix::Op> && !std::is_copy_constructible_v<miamix::Plan>);
static_assert(std::is_nothrow_move_constructible_v<miamix::Op> && std::is_nothrow_move_assignable_v<miamix::Plan>);
static_assert(std::is_nothrow_move_constructible_v<miamix::Plan> && std::is_nothrow_move_assignable_v<miamix::Op>);
#if __cplusplus >= 202002L
static_assert(is_output<std::span<float>> && !is_output<std::span<const float>>);
#endif

void test_config() {
    miamix_config c;
    miamix::check(miamix_config_init(&c, sizeof c));
    CHECK(std::memcmp(&miamix::Config().get(), &c, sizeof c) == 0);

    c.alpha = 0.5f;
    c.k_min = 2;
    c.k_max = 3;
    const float weights[6] = {0.25f, 1, 2, 3, 4, 5};
    std::memcpy(c.method_weights, weights, sizeof weights);
    c.p_apply = 0.875f;
    c.p_self = 0.75f;
    c.p_aug = 0.625f;
    c.p_smooth = 0.375f;
    c.merge = MIAMIX_MERGE_SUM;
    c.label_weight = MIAMIX_LABEL_WEIGHT_DRAWN;
    c.lambda_reading = MIAMIX_LAMBDA_READING_KEEP;
    c.gaussian_sigma = MIAMIX_GAUSSIAN_SIGMA_AREA;
    c.pairing = MIAMIX_PAIRING_UNIFORM;
    c.cutmix_box = MIAMIX_CUTMIX_BOX_INSIDE;
    c.grid_range[0] = 4;
    c.grid_range[1] = 6;
    c.decay_power = 2.5f;
    c.rotate_max_rad = 0.125f;
    c.shear_max = 0.0625f;
    c.smooth_range_px[0] = 5;
    c.smooth_range_px[1] = 9;
    c.p_flip = 0.5f;
    c.pad_px = 8;
    c.label_smoothing = 0.03125f;
    c.n_threads = 7;

    using miamix::Method;
    const miamix::Config config = miamix::Config()
                                      .alpha(0.5f)
                                      .k_min(2)
                                      .k_max(3)
                                      .method_weights({{Method::mixup, 0.25f},
                                                       {Method::cutmix, 1.0f},
                                                       {Method::fmix, 2.0f},
                                                       {Method::gridmix, 3.0f},
                                                       {Method::agmix, 4.0f},
                                                       {Method::gmix, 5.0f}})
                                      .p_apply(0.875f)
                                      .p_self(0.75f)
                                      .p_aug(0.625f)
                                      .p_smooth(0.375f)
                                      .merge(miamix::Merge::sum)
                                      .label_weight(miamix::LabelWeight::drawn)
                                      .lambda_reading(miamix::LambdaReading::keep)
                                      .gaussian_sigma(miamix::GaussianSigma::area)
                                      .pairing(miamix::Pairing::uniform)
                                      .cutmix_box(miamix::CutmixBox::inside)
                                      .grid_range(4, 6)
                                      .decay_power(2.5f)
                                      .rotate_max_rad(0.125f)
                                      .shear_max(0.0625f)
                                      .smooth_range_px(5, 9)
                                      .p_flip(0.5f)
                                      .pad_px(8)
                                      .label_smoothing(0.03125f)
                                      .n_threads(7);
    CHECK(std::memcmp(&config.get(), &c, sizeof c) == 0);

    const float cutmix_alone[6] = {0, 3, 0, 0, 0, 0};
    const miamix::Config named = miamix::Config(config).method_weights({{Method::cutmix, 3.0f}});
    CHECK(std::memcmp(named.get().method_weights, cutmix_alone, sizeof cutmix_alone) == 0);

    THROWS(InvalidArgument, INVALID_ARGUMENT, "alpha: must be finite and greater than 0, got -1",
           miamix::Op(miamix::Config().alpha(-1)));
    THROWS(InvalidArgument, INVALID_ARGUMENT, "merge: must be 0 (product) or 1 (sum), got 9",
           miamix::Op(miamix::Config().merge(static_cast<miamix::Merge>(9))));
}

void test_plans(const miamix::Op& op) {
    miamix_plan* c_plan = nullptr;
    miamix::check(miamix_plan_draw(op.get(), &batch_shape, 42, 1000, &c_plan));
    const miamix::Plan expected(c_plan);
    std::vector<char> text(1 << 20);
    std::size_t length = 0;
    miamix::check(miamix_plan_to_json(c_plan, text.data(), text.size(), &length));
    std::vector<std::int64_t> partner_index(samples);
    miamix::check(miamix_plan_partner_index(c_plan, partner_index.data(), samples));

    miamix::Plan plan = op.draw(batch_shape, 42, 1000);
    CHECK(plan.to_json() == text.data() && plan.to_json().size() == length);
    CHECK(plan.shape().samples == samples && plan.shape().height == H && plan.shape().width == W);
    CHECK(plan.partner_index() == partner_index);
    bool mixed = false;
    for (std::size_t i = 0; i < samples; i++) {
        std::uint32_t n_layers = 99;
        miamix::check(miamix_plan_n_layers(c_plan, i, &n_layers));
        CHECK(plan.n_layers(i) == n_layers);
        mixed = mixed || n_layers > 0;
    }
    CHECK(mixed);
    CHECK(op.draw(batch_shape, 42).to_json() == op.draw(batch_shape, 42, 0).to_json());
    CHECK(op.draw(batch_shape, 42).to_json() != plan.to_json());

    // What was stored is the same plan; a terminator is not part of it.
    const std::string json = plan.to_json();
    CHECK(miamix::Plan::from_json(std::string_view(text.data(), length)).to_json() == json);
    op.redraw(plan, {2, H, W}, 7);
    CHECK(plan.shape().samples == 2);
    THROWS(InvalidArgument, INVALID_ARGUMENT, "height: must be in 1..=32768, got 0", op.redraw(plan, {2, 0, W}, 7));
    CHECK(plan.shape().samples == 2);
    op.redraw(plan, batch_shape, 42, 1000);
    CHECK(plan.to_json() == json);

    // Handles move.
    miamix::Plan moved = std::move(plan);
    CHECK(moved.to_json() == json);
    plan = std::move(moved);
    CHECK(plan.to_json() == json);
    const miamix::Op other = std::move(*std::make_unique<miamix::Op>());
    CHECK(other.draw(batch_shape, 42, 1000).to_json() == json);
    THROWS(InvalidArgument, INVALID_ARGUMENT, "plan: must not be NULL, got NULL", moved.to_json());

    THROWS(InvalidArgument, INVALID_ARGUMENT, "width: must be in 1..=32768, got 32769",
           op.draw({1, 1, 32769}, 0));
    THROWS(InvalidArgument, INVALID_ARGUMENT, "sample: must be below the batch size 5, got 5", plan.n_layers(samples));
    THROWS(PlanError, PLAN, "plan: text: invalid utf-8 sequence of 1 bytes from index 0",
           miamix::Plan::from_json("\xff"));
    THROWS(PlanError, PLAN, "plan: text: EOF while parsing a value at line 1 column 0",
           miamix::Plan::from_json(std::string_view()));
}

/// The outputs of one call.
template <class T>
struct Results {
    std::vector<T> images = std::vector<T>(elements);
    std::vector<float> labels = std::vector<float>(entries), weight = std::vector<float>(samples);
    std::vector<std::int64_t> partner_index = std::vector<std::int64_t>(samples);

    miamix::Output output() { return {{images, image_shape}, {labels, label_shape}, weight, partner_index}; }
    /// In place: views of them stay.
    void clear() {
        std::fill(images.begin(), images.end(), T());
        std::fill(labels.begin(), labels.end(), -1.0f);
        std::fill(weight.begin(), weight.end(), -1.0f);
        std::fill(partner_index.begin(), partner_index.end(), -1);
    }

    bool operator==(const Results& other) const {
        return equal_bytes(images, other.images) && equal_bytes(labels, other.labels) &&
               equal_bytes(weight, other.weight) && equal_bytes(partner_index, other.partner_index);
    }
};

/// Images of a type and layout, with class ids.
template <class T>
void test_mixing(const miamix::Op& op, std::uint8_t code, bool nhwc) {
    const std::vector<T> images = numbers<T>(elements, 251), partner_images = numbers<T>(elements, 241);
    const std::vector<std::int64_t> ids = numbers<std::int64_t>(samples, K);
    std::vector<std::int64_t> shape = {N, C, H, W}, vector_shape = {N}, rows = {N, K};
    std::int64_t strides[4] = {H * W * C, 1, W * C, C};
    std::int64_t* const order = nhwc ? strides : nullptr;
    const std::uint8_t bits = 8 * sizeof(T);

    Results<T> expected, got;
    CHECK(expected == got);
    const miamix_tensor in = c_tensor(images.data(), code, bits, shape, order),
                        partner_in = c_tensor(partner_images.data(), code, bits, shape, order),
                        c_ids = c_tensor(ids.data(), MIAMIX_DTYPE_CODE_INT, 64, vector_shape);
    miamix_tensor out = c_tensor(expected.images.data(), code, bits, shape, order),
                  mixed_rows = c_tensor(expected.labels.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, rows),
                  weight = c_tensor(expected.weight.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, vector_shape),
                  index = c_tensor(expected.partner_index.data(), MIAMIX_DTYPE_CODE_INT, 64, vector_shape);
    miamix::check(
        miamix_mix(op.get(), 9, 100, &in, &partner_in, &c_ids, K, &out, &mixed_rows, &weight, &index, nullptr));
    CHECK(!(expected == got));

    const Extents view_strides = nhwc ? miamix::nhwc_strides(image_shape) : Extents();
    miamix::Batch batch;
    batch.images = {images.data(), image_shape, view_strides};
    batch.partner_images = {partner_images.data(), image_shape, view_strides};
    batch.labels = ids;
    batch.num_classes = K;
    miamix::Output output = got.output();
    output.mixed_images = {got.images.data(), image_shape, view_strides};
    op.mix(batch, output, 9, 100);
    CHECK(expected == got);

    // In two steps, and from tensors of DLPack's kind.
    const miamix::Plan plan = op.draw(batch_shape, 9, 100);
    got.clear();
    op.apply(plan, batch, output);
    CHECK(expected == got);
    got.clear();
    output.mixed_images = MutableTensorView(output.mixed_images.to_c());
    op.apply(plan, {in, partner_in, c_ids, K}, output);
    CHECK(expected == got);

    // One view, no labels, pixels alone.
    miamix::check(
        miamix_apply(op.get(), plan.get(), &in, nullptr, nullptr, 0, &out, nullptr, nullptr, nullptr, nullptr));
    op.apply(plan, {batch.images}, {output.mixed_images});
    CHECK(equal_bytes(expected.images, got.images));
}

void test_labels(const miamix::Op& op) {
    const std::vector<float> images = numbers<float>(elements, 251), soft = numbers<float>(entries, 19);
    const std::vector<std::int32_t> ids = {1, -1, 3, 0, 2};
    std::vector<std::int64_t> shape = {N, C, H, W}, vector_shape = {N}, rows = {N, K};
    Results<float> expected, got;
    const miamix_tensor in = c_tensor(images.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, shape);
    miamix_tensor out = c_tensor(expected.images.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, shape),
                  mixed_rows = c_tensor(expected.labels.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, rows);
    const miamix::Output output = {{got.images, image_shape}, {got.labels, label_shape}};

    miamix_tensor labels = c_tensor(soft.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, rows);
    miamix::check(miamix_mix(op.get(), 3, 0, &in, nullptr, &labels, 0, &out, &mixed_rows, nullptr, nullptr, nullptr));
    op.mix({{images, image_shape}, {}, {soft, label_shape}}, output, 3);
    CHECK(expected == got);
    labels = c_tensor(ids.data(), MIAMIX_DTYPE_CODE_INT, 32, vector_shape);
    miamix::check(miamix_mix(op.get(), 3, 0, &in, nullptr, &labels, K, &out, &mixed_rows, nullptr, nullptr, nullptr));
    CHECK(!(expected == got));
    op.mix({{images, image_shape}, {}, ids, K}, output, 3);
    CHECK(expected == got);
}

void test_masks_maps_gradients(const miamix::Op& op) {
    const miamix::Plan plan = op.draw(batch_shape, 11);
    std::vector<std::int64_t> shape = {N, C, H, W}, three = {N, H, W}, vector_shape = {N};
    std::vector<float> masks(pixels), weight(samples), some_masks(pixels), some_weight(samples);
    miamix_tensor c_masks = c_tensor(masks.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, three),
                  c_weight = c_tensor(weight.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, vector_shape);
    miamix::check(miamix_masks(op.get(), plan.get(), &c_masks, &c_weight, nullptr));
    CHECK(equal_bytes(op.masks(plan), masks) && equal_bytes(op.label_weight(plan), weight));
    op.masks(plan, {some_masks, map_shape}, some_weight);
    CHECK(equal_bytes(some_masks, masks) && equal_bytes(some_weight, weight));

    const auto maps = numbers<std::int16_t>(pixels, 251), others = numbers<std::int16_t>(pixels, 241);
    std::vector<std::int16_t> expected(pixels), got(pixels);
    const miamix_tensor c_maps = c_tensor(maps.data(), MIAMIX_DTYPE_CODE_INT, 16, three),
                        c_others = c_tensor(others.data(), MIAMIX_DTYPE_CODE_INT, 16, three);
    miamix_tensor c_mixed = c_tensor(expected.data(), MIAMIX_DTYPE_CODE_INT, 16, three);
    miamix::check(miamix_apply_maps(op.get(), plan.get(), &c_maps, nullptr, &c_mixed, nullptr));
    op.apply_maps(plan, {maps, map_shape}, {}, {got, map_shape});
    CHECK(equal_bytes(expected, got));
    miamix::check(miamix_apply_maps(op.get(), plan.get(), &c_maps, &c_others, &c_mixed, nullptr));
    CHECK(!equal_bytes(expected, got));
    op.apply_maps(plan, {maps, map_shape}, {others, map_shape}, {got, map_shape});
    CHECK(equal_bytes(expected, got));

    const std::vector<float> grad = numbers<float>(elements, 255);
    std::vector<float> both(elements), own(elements), partner(elements), got_own(elements), got_partner(elements);
    const miamix_tensor c_grad = c_tensor(grad.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, shape);
    miamix_tensor c_both = c_tensor(both.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, shape),
                  c_own = c_tensor(own.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, shape),
                  c_partner = c_tensor(partner.data(), MIAMIX_DTYPE_CODE_FLOAT, 32, shape);
    miamix::check(miamix_backward(op.get(), plan.get(), &c_grad, &c_both, nullptr, nullptr));
    miamix::check(miamix_backward(op.get(), plan.get(), &c_grad, &c_own, &c_partner, nullptr));
    op.backward(plan, {grad, image_shape}, {got_own, image_shape});
    CHECK(equal_bytes(got_own, both));
    op.backward(plan, {grad, image_shape}, {got_own, image_shape}, {got_partner, image_shape});
    CHECK(equal_bytes(got_own, own) && equal_bytes(got_partner, partner));
}

/// Status and message of a call of miamix.hpp.
template <class Call>
std::pair<miamix_status, std::string> outcome(Call call) {
    try {
        call();
        return {MIAMIX_STATUS_OK, ""};
    } catch (const miamix::Error& error) {
        return {error.status(), error.what()};
    }
}

std::pair<miamix_status, std::string> outcome_of(miamix_status status) { return {status, miamix_last_error_message()}; }

/// The same as miamix.h, whether there is a driver or not; no address here is read or written.
void test_cuda(const miamix::Op& op) {
    const miamix::CudaSizes sizes = op.cuda_sizes(batch_shape);
    std::size_t plan_bytes = 0, workspace_bytes = 0, backward_bytes = 0;
    miamix::check(miamix_cuda_sizes(op.get(), &batch_shape, &plan_bytes, &workspace_bytes, &backward_bytes));
    CHECK(sizes.plan == plan_bytes && sizes.workspace == workspace_bytes && sizes.backward_workspace == backward_bytes);
    CHECK(plan_bytes > 0 && backward_bytes > workspace_bytes);

    alignas(256) static char memory[512];
    miamix_plan* c_plan = nullptr;
    CHECK(outcome([&] { CHECK(op.plan_on_device(batch_shape, memory, sizes.plan).shape().samples == samples); }) ==
          outcome_of(miamix_plan_on_device(op.get(), &batch_shape, memory, sizes.plan, nullptr, 0, &c_plan)));
    miamix_plan_free(c_plan);
    const auto too_small = outcome_of(miamix_plan_on_device(op.get(), &batch_shape, memory, 1, memory, 2, &c_plan));
    CHECK(too_small.first == MIAMIX_STATUS_INVALID_ARGUMENT);
    CHECK(outcome([&] { op.plan_on_device(batch_shape, memory, 1, memory, 2); }) == too_small);
    const miamix::Plan plan = op.draw(batch_shape, 0);
    const auto uploaded = outcome_of(miamix_plan_upload(plan.get(), plan.get(), nullptr));
    CHECK(uploaded.first != MIAMIX_STATUS_OK && outcome([&] { plan.upload(plan); }) == uploaded);
    CHECK(outcome([] { miamix::check_labels(); }) == outcome_of(miamix_check_labels(nullptr)));
    std::int32_t device = 0;
    CHECK(outcome([] { miamix::cuda_device_of(memory); }) == outcome_of(miamix_cuda_device_of(memory, &device)));
}

/// Each error that a call can be made to give is the exception of its status, with the library's words.
void test_errors(const miamix::Op& op) {
    std::vector<float> images(elements), mixed(elements, -1.0f), rows(entries);
    std::vector<std::int64_t> ids(samples);
    const miamix::Batch batch = {{images, image_shape}, {}, ids, K};
    const miamix::Output output = {{mixed, image_shape}, {rows, label_shape}};

    THROWS(InvalidArgument, INVALID_ARGUMENT, "images: must not be NULL, got NULL", op.mix({}, output, 0));
    THROWS(InvalidArgument, INVALID_ARGUMENT, "mixed_images: must not be NULL, got NULL", op.mix(batch, {}, 0));
    THROWS(InvalidArgument, INVALID_ARGUMENT, "mixed_labels: must be given where labels are, got none",
           op.mix(batch, {output.mixed_images}, 0));
    ids[2] = K;
    THROWS(InvalidArgument, INVALID_ARGUMENT, "labels[2]: must be below num_classes = 4, got 4",
           op.mix(batch, output, 0));
    ids[2] = 0;
    THROWS(ShapeError, SHAPE, "images: expected shape [4, C, 7, 9], as the plan, got [5, 3, 7, 9]",
           op.apply(op.draw({4, H, W}, 0), batch, output));
    THROWS(ShapeError, SHAPE, "images: expected shape of 1 to 5 axes, got 6 axes",
           op.mix({{images, {N, C, H, W, 1, 1}}}, output, 0));
    THROWS(DtypeError, DTYPE, "images: must be of float32, float16, bfloat16 or uint8, got float64",
           op.mix({{std::vector<double>(elements), image_shape}}, output, 0));
    miamix_tensor elsewhere = batch.images.to_c();
    elsewhere.device.device_type = 8;
    THROWS(Unsupported, UNSUPPORTED, "images: must be in CPU memory, got DLPack device type 8",
           op.mix({elsewhere}, output, 0));
    try {
        op.mix({batch.images.on_cuda()}, output, 0);
        CHECK(false);
    } catch (const miamix::CudaUnavailable& error) {
        CHECK(std::string_view(error.what()).rfind("images: is on CUDA device 0, and CUDA is not available: ", 0) == 0);
    } catch (const miamix::InvalidArgument& error) {  // a machine with a driver: the outputs are elsewhere
        CHECK(std::string_view(error.what()).find("must be in the memory of images (CUDA device 0)") !=
              std::string_view::npos);
    }
    CHECK(mixed == std::vector<float>(elements, -1.0f));

    // Those that no program can cause at will, and one of a newer library.
    THROWS(OutOfMemory, OUT_OF_MEMORY, "x", miamix::throw_error(MIAMIX_STATUS_OUT_OF_MEMORY, "x"));
    THROWS(CudaUnavailable, CUDA_UNAVAILABLE, "x", miamix::throw_error(MIAMIX_STATUS_CUDA_UNAVAILABLE, "x"));
    THROWS(CudaError, CUDA, "x", miamix::throw_error(MIAMIX_STATUS_CUDA, "x"));
    THROWS(InternalError, INTERNAL, "x", miamix::throw_error(MIAMIX_STATUS_INTERNAL, "x"));
    check_throws<miamix::Error>([] { miamix::throw_error(static_cast<miamix_status>(99), "x"); },
                                static_cast<miamix_status>(99), "x", __LINE__);
    // Every one of them is a std::exception, and what is wrong with arguments is an InvalidArgument.
    try {
        miamix::throw_error(MIAMIX_STATUS_SHAPE, "x");
    } catch (const std::exception& error) {
        CHECK(std::string_view(error.what()) == "x");
    }
    static_assert(std::is_base_of_v<miamix::InvalidArgument, miamix::PlanError>);
    static_assert(std::is_base_of_v<miamix::InvalidArgument, miamix::DtypeError>);
}

}  // namespace

int main() {
    const miamix::Op op;
    test_elements();
    test_views();
    test_config();
    test_plans(op);
    for (const bool nhwc : {false, true}) {
        test_mixing<float>(op, MIAMIX_DTYPE_CODE_FLOAT, nhwc);
        test_mixing<miamix::Float16>(op, MIAMIX_DTYPE_CODE_FLOAT, nhwc);
        test_mixing<miamix::BFloat16>(op, MIAMIX_DTYPE_CODE_BFLOAT, nhwc);
        test_mixing<std::uint8_t>(op, MIAMIX_DTYPE_CODE_UINT, nhwc);
    }
    test_labels(op);
    test_masks_maps_gradients(op);
    test_cuda(op);
    test_errors(op);
    // From another translation unit that has the header, too.
    CHECK(drawn_elsewhere(miamix::Op(), batch_shape).to_json() == op.draw(batch_shape, 5).to_json());
    if (n_failed != 0) {
        std::printf("%d checks failed\n", n_failed);
        return 1;
    }
}
