// miamix.hpp: the C++ interface of MiAMix, header-only C++17 over miamix.h.
//
//     miamix::Op op(miamix::Config().k_max(3).label_smoothing(0.1f));
//
//     miamix::Batch batch;
//     batch.images = {images, {64, 3, 224, 224}};    // a pointer and a shape, a container and a shape,
//     batch.labels = class_ids;                      // a container alone, or anything like DLPack's DLTensor
//     batch.num_classes = 1000;
//     miamix::Output output;
//     output.mixed_images = {mixed_images, {64, 3, 224, 224}};
//     output.mixed_labels = {mixed_labels, {64, 1000}};
//     op.mix(batch, output, seed, first_sample);
//
// It adds ownership, exceptions and conversions, and computes nothing: what an argument means, which shapes and
// element types there are, and what streams do is said in miamix.h, at the function of the same name.
//
// Ownership. Op and Plan own their handle and move, but are not copied. Views borrow the memory that they describe
// and own their shape and strides, so that only elements have to outlive a call.
//
// Errors. A call that fails throws Error, or the class of its status that is derived from it, with the message of
// the library, "name: rule, got value". Outputs are then as they were, except after OutOfMemory, CudaError and
// InternalError, which can come in the middle of the work.
//
// Threads. Const members may be called by any number of threads at once.
//
// SPDX-License-Identifier: Apache-2.0 OR MIT

#ifndef MIAMIX_HPP
#define MIAMIX_HPP

#include "miamix.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace miamix {

/// The version of the library that is loaded, as "0.1.0".
inline std::string_view version() noexcept { return miamix_version(); }

// ---- Errors ----

/// Why a call failed.
class Error : public std::runtime_error {
public:
    Error(miamix_status status, const std::string& message) : std::runtime_error(message), status_(status) {}

    /// Its number in every language.
    miamix_status status() const noexcept { return status_; }

private:
    miamix_status status_;
};

/// A parameter, a label or another value is outside its range; also the base of what else may be wrong with arguments.
class InvalidArgument : public Error {
public:
    using Error::Error;
};

/// Shapes disagree.
class ShapeError : public InvalidArgument {
public:
    using InvalidArgument::InvalidArgument;
};

/// An element type or a memory layout that the call does not take.
class DtypeError : public InvalidArgument {
public:
    using InvalidArgument::InvalidArgument;
};

/// A plan that is malformed; the message names the sample and the layer.
class PlanError : public InvalidArgument {
public:
    using InvalidArgument::InvalidArgument;
};

/// A combination that the library does not provide.
class Unsupported : public Error {
public:
    using Error::Error;
};

/// Memory could not be had. It can come in the middle of the work, so that outputs may be written in part.
class OutOfMemory : public Error {
public:
    using Error::Error;
};

/// CUDA reported an error.
class CudaError : public Error {
public:
    using Error::Error;
};

/// No usable CUDA driver or device on this machine.
class CudaUnavailable : public CudaError {
public:
    using CudaError::CudaError;
};

/// A bug of the library.
class InternalError : public Error {
public:
    using Error::Error;
};

/// Throws the exception of a status; one that this header does not know, of a newer library, as Error.
[[noreturn]] inline void throw_error(miamix_status status, const std::string& message) {
    switch (status) {
        case MIAMIX_STATUS_INVALID_ARGUMENT: throw InvalidArgument(status, message);
        case MIAMIX_STATUS_SHAPE: throw ShapeError(status, message);
        case MIAMIX_STATUS_DTYPE: throw DtypeError(status, message);
        case MIAMIX_STATUS_PLAN: throw PlanError(status, message);
        case MIAMIX_STATUS_UNSUPPORTED: throw Unsupported(status, message);
        case MIAMIX_STATUS_OUT_OF_MEMORY: throw OutOfMemory(status, message);
        case MIAMIX_STATUS_CUDA_UNAVAILABLE: throw CudaUnavailable(status, message);
        case MIAMIX_STATUS_CUDA: throw CudaError(status, message);
        case MIAMIX_STATUS_INTERNAL: throw InternalError(status, message);
        case MIAMIX_STATUS_OK: break;
    }
    throw Error(status, message);
}

/// Turns what a function of miamix.h answers into an exception, if it is an error: `check(miamix_...(...))`.
inline void check(miamix_status status) {
    if (status != MIAMIX_STATUS_OK) {
        throw_error(status, miamix_last_error_message());
    }
}

// ---- Elements ----

/// The bits of an IEEE 754 binary16.
enum class Float16 : std::uint16_t {};

/// The bits of a bfloat16.
enum class BFloat16 : std::uint16_t {};

/// The element type of `T`, as DLPack describes it. Numbers of the language are known, and so are Float16 and BFloat16;
/// specialise it for a type of your own:
///
///     template <> struct miamix::Dtype<c10::Half> : miamix::Dtype<miamix::Float16> {};
template <class T, class = void>
struct Dtype;

template <class T>
struct Dtype<T, std::enable_if_t<std::is_integral_v<T>>> {
    static constexpr miamix_dtype value{std::is_same_v<T, bool>    ? MIAMIX_DTYPE_CODE_BOOL
                                        : std::is_signed_v<T> ? MIAMIX_DTYPE_CODE_INT
                                                              : MIAMIX_DTYPE_CODE_UINT,
                                        8 * sizeof(T), 1};
};

template <class T>
struct Dtype<T, std::enable_if_t<std::is_floating_point_v<T>>> {
    static constexpr miamix_dtype value{MIAMIX_DTYPE_CODE_FLOAT, 8 * sizeof(T), 1};
};

template <>
struct Dtype<Float16> {
    static constexpr miamix_dtype value{MIAMIX_DTYPE_CODE_FLOAT, 16, 1};
};

template <>
struct Dtype<BFloat16> {
    static constexpr miamix_dtype value{MIAMIX_DTYPE_CODE_BFLOAT, 16, 1};
};

/// `dtype_of<float>`: the element type as a value.
template <class T>
inline constexpr miamix_dtype dtype_of = Dtype<std::remove_cv_t<T>>::value;

// ---- Tensors ----

/// A number for each axis: a shape, or strides in elements. Eight at most.
class Extents {
public:
    static constexpr std::size_t max_size = 8;

    Extents() noexcept = default;

    /// `{64, 3, 224, 224}`
    Extents(std::initializer_list<std::int64_t> extents) : Extents(extents.begin(), extents.end()) {}

    /// Any range of integers: a std::vector, a std::array, a std::span, the sizes of a tensor.
    template <class Range, std::enable_if_t<std::is_integral_v<std::remove_reference_t<
                               decltype(*std::begin(std::declval<const Range&>()))>>,
                           int> = 0>
    Extents(const Range& extents) : Extents(std::begin(extents), std::end(extents)) {}

    /// Those of an iterator range.
    template <class Iterator>
    Extents(Iterator first, Iterator last) {
        const auto size = std::distance(first, last);
        if (size < 0 || size > static_cast<std::ptrdiff_t>(max_size)) {
            throw ShapeError(MIAMIX_STATUS_SHAPE,
                             "tensor: expected shape of at most 8 axes, got " + std::to_string(size) + " axes");
        }
        for (; first != last; ++first) {
            values_[size_++] = static_cast<std::int64_t>(*first);
        }
    }

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    const std::int64_t* data() const noexcept { return values_; }
    const std::int64_t* begin() const noexcept { return values_; }
    const std::int64_t* end() const noexcept { return values_ + size_; }
    std::int64_t operator[](std::size_t axis) const noexcept { return values_[axis]; }

private:
    std::int64_t values_[max_size] = {};
    std::size_t size_ = 0;
};

/// The strides of images of shape `{N, C, H, W}` whose channels lie side by side in memory: {H W C, 1, W C, C}.
inline Extents nhwc_strides(const Extents& shape) {
    if (shape.size() != 4) {
        throw ShapeError(MIAMIX_STATUS_SHAPE,
                         "shape: expected shape [N, C, H, W], got " + std::to_string(shape.size()) + " axes");
    }
    return {shape[2] * shape[3] * shape[1], 1, shape[3] * shape[1], shape[1]};
}

namespace detail {

/// Whether `T` has the fields of DLPack's DLTensor; DLTensor and miamix_tensor have.
template <class T, class = void>
inline constexpr bool is_dltensor = false;
template <class T>
inline constexpr bool is_dltensor<
    T, std::void_t<decltype(std::declval<const T&>().data), decltype(std::declval<const T&>().device.device_type),
                   decltype(std::declval<const T&>().device.device_id), decltype(std::declval<const T&>().ndim),
                   decltype(std::declval<const T&>().dtype.code), decltype(std::declval<const T&>().dtype.bits),
                   decltype(std::declval<const T&>().dtype.lanes), decltype(std::declval<const T&>().shape),
                   decltype(std::declval<const T&>().strides), decltype(std::declval<const T&>().byte_offset)>> = true;

/// What `std::data` of an argument declared `Container&&` points to: const for temporaries that own their elements.
template <class Container>
using Element = std::remove_pointer_t<decltype(std::data(std::declval<Container>()))>;

/// Whether a contiguous container can be read; and whether it can be written, without dangling.
template <class Container, class = void>
inline constexpr bool is_readable = false;
template <class Container>
inline constexpr bool is_readable<
    Container, std::void_t<decltype(Dtype<std::remove_cv_t<Element<Container>>>::value),
                           decltype(std::size(std::declval<Container>()))>> = true;
template <class Container, class = void>
inline constexpr bool is_writable = false;
template <class Container>
inline constexpr bool is_writable<Container, std::enable_if_t<is_readable<Container>>> =
    !std::is_const_v<Element<Container>>;

inline std::string to_string(const Extents& extents) {
    std::string text = "[";
    for (const std::int64_t extent : extents) {
        text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
    }
    return text + "]";
}

/// Throws unless a compact tensor of this shape has `size` elements.
inline void check_size(const Extents& shape, std::size_t size) {
    std::uint64_t product = 1;
    bool fits = true;
    for (const std::int64_t extent : shape) {
        const auto factor = static_cast<std::uint64_t>(extent);
        fits = fits && extent >= 0 && (factor == 0 || product <= std::numeric_limits<std::uint64_t>::max() / factor);
        product *= factor;
    }
    if (!fits || product != size) {
        throw ShapeError(MIAMIX_STATUS_SHAPE, "tensor: must have the elements of shape " + to_string(shape) +
                                                  ", got " + std::to_string(size) + " elements");
    }
}

}  // namespace detail

/// A tensor that is read: an address in memory of the caller, an element type, a shape and strides.
///
/// Shapes are [N, C, H, W], [N, H, W], [N, K] or [N], as miamix_tensor says. A view that was made from nothing is no
/// tensor, and what an optional argument is by default.
class TensorView {
public:
    TensorView() noexcept = default;

    /// Elements of type `T` in main memory; without strides compact, the last axis the closest.
    template <class T, std::enable_if_t<!std::is_void_v<T>, int> = 0>
    TensorView(const T* data, const Extents& shape, const Extents& strides = {})
        : TensorView(data, dtype_of<T>, shape, strides) {}

    /// A container of all elements of a compact tensor, in main memory.
    ///
    /// Throws ShapeError unless it has exactly as many.
    template <class Container, std::enable_if_t<detail::is_readable<const Container&>, int> = 0>
    TensorView(const Container& elements, const Extents& shape) : TensorView(std::data(elements), shape) {
        detail::check_size(shape, std::size(elements));
    }

    /// A container as a vector, [size].
    template <class Container, std::enable_if_t<detail::is_readable<const Container&>, int> = 0>
    TensorView(const Container& elements) : TensorView(elements, {static_cast<std::int64_t>(std::size(elements))}) {}

    /// What has the fields of DLPack's DLTensor: element type, device, strides and offset are taken as they are.
    template <class DLTensor, std::enable_if_t<detail::is_dltensor<DLTensor>, int> = 0>
    TensorView(const DLTensor& tensor) : TensorView(tensor.data, {}, axes(tensor.shape, tensor.ndim), {}) {
        tensor_.device = {static_cast<std::int32_t>(tensor.device.device_type),
                          static_cast<std::int32_t>(tensor.device.device_id)};
        tensor_.dtype = {static_cast<std::uint8_t>(tensor.dtype.code), static_cast<std::uint8_t>(tensor.dtype.bits),
                         static_cast<std::uint16_t>(tensor.dtype.lanes)};
        tensor_.byte_offset = tensor.byte_offset;
        if (tensor.strides != nullptr) {
            strides_ = axes(tensor.strides, tensor.ndim);
            has_strides_ = true;
        }
    }

    /// Elements whose type is known at run time.
    static TensorView of(miamix_dtype dtype, const void* data, const Extents& shape, const Extents& strides = {}) {
        return {data, dtype, shape, strides};
    }

    /// The same tensor in the memory of a CUDA device.
    TensorView on_cuda(std::int32_t device_id = 0) const {
        TensorView view = *this;
        view.tensor_.device = {MIAMIX_DEVICE_TYPE_CUDA, device_id};
        return view;
    }

    /// Whether it is a tensor at all.
    explicit operator bool() const noexcept { return is_tensor_; }

    const Extents& shape() const noexcept { return shape_; }
    miamix_dtype dtype() const noexcept { return tensor_.dtype; }
    miamix_device device() const noexcept { return tensor_.device; }

    /// For the functions of miamix.h; it points into this view, which must outlive it.
    miamix_tensor to_c() const&& = delete;
    miamix_tensor to_c() const& noexcept {
        miamix_tensor tensor = tensor_;
        tensor.ndim = static_cast<std::int32_t>(shape_.size());
        // DLPack's pointers are not to const, but shapes and strides are only read.
        tensor.shape = const_cast<std::int64_t*>(shape_.data());
        tensor.strides = has_strides_ ? const_cast<std::int64_t*>(strides_.data()) : nullptr;
        return tensor;
    }

protected:
    TensorView(const void* data, miamix_dtype dtype, const Extents& shape, const Extents& strides)
        : tensor_{const_cast<void*>(data), {MIAMIX_DEVICE_TYPE_CPU, 0}, 0, dtype, nullptr, nullptr, 0},
          shape_(shape),
          strides_(strides),
          has_strides_(!strides.empty()),
          is_tensor_(true) {
        if (has_strides_ && strides.size() != shape.size()) {
            throw ShapeError(MIAMIX_STATUS_SHAPE, "strides: must be as many as the axes of shape " +
                                                      detail::to_string(shape) + ", got " +
                                                      detail::to_string(strides));
        }
    }

private:
    /// Shape or strides of a DLTensor.
    template <class T>
    static Extents axes(const T* values, std::int32_t ndim) {
        if (values == nullptr && ndim != 0) {
            throw InvalidArgument(MIAMIX_STATUS_INVALID_ARGUMENT, "tensor.shape: must not be NULL, got NULL");
        }
        return {values, values + ndim};
    }

    miamix_tensor tensor_{};
    Extents shape_;
    Extents strides_;
    bool has_strides_ = false;
    bool is_tensor_ = false;
};

/// A tensor that is written. As with pointers, that the view itself is const does not keep its elements from that.
class MutableTensorView : public TensorView {
public:
    MutableTensorView() noexcept = default;

    /// As for TensorView.
    template <class T, std::enable_if_t<!std::is_void_v<T> && !std::is_const_v<T>, int> = 0>
    MutableTensorView(T* data, const Extents& shape, const Extents& strides = {}) : TensorView(data, shape, strides) {}

    /// As for TensorView; the container must be a variable, or a view such as std::span.
    template <class Container, std::enable_if_t<detail::is_writable<Container>, int> = 0>
    MutableTensorView(Container&& elements, const Extents& shape) : TensorView(elements, shape) {}

    /// As for TensorView.
    template <class Container, std::enable_if_t<detail::is_writable<Container>, int> = 0>
    MutableTensorView(Container&& elements) : TensorView(elements) {}

    /// As for TensorView.
    template <class DLTensor, std::enable_if_t<detail::is_dltensor<DLTensor>, int> = 0>
    MutableTensorView(const DLTensor& tensor) : TensorView(tensor) {}

    /// As for TensorView.
    static MutableTensorView of(miamix_dtype dtype, void* data, const Extents& shape, const Extents& strides = {}) {
        return MutableTensorView(TensorView::of(dtype, data, shape, strides));
    }

    /// As for TensorView.
    MutableTensorView on_cuda(std::int32_t device_id = 0) const {
        return MutableTensorView(TensorView::on_cuda(device_id));
    }

private:
    explicit MutableTensorView(const TensorView& view) : TensorView(view) {}
};

/// What goes into mixing.
struct Batch {
    /// [N, C, H, W] of float, Float16, BFloat16 or std::uint8_t.
    TensorView images;
    /// The same batch under a second augmentation; none to use images twice.
    TensorView partner_images = {};
    /// Class ids, [N] of std::int64_t or std::int32_t, or rows, [N, K] of float; none for pixels only.
    TensorView labels = {};
    /// K, for class ids.
    std::size_t num_classes = 0;
};

/// Where the results of mixing go. They overlap neither each other nor what goes in.
struct Output {
    /// As images.
    MutableTensorView mixed_images;
    /// [N, K] of float; none without labels.
    MutableTensorView mixed_labels = {};
    /// [N] of float, what the primary's own label weighs; may be none.
    MutableTensorView label_weight = {};
    /// [N] of std::int64_t, the sample that was mixed in; may be none.
    MutableTensorView partner_index = {};
};

// ---- Parameters ----

/// Mixing methods.
enum class Method : std::uint32_t {
    mixup = MIAMIX_METHOD_MIXUP,
    cutmix = MIAMIX_METHOD_CUTMIX,
    fmix = MIAMIX_METHOD_FMIX,
    gridmix = MIAMIX_METHOD_GRIDMIX,
    agmix = MIAMIX_METHOD_AGMIX,
    gmix = MIAMIX_METHOD_GMIX,
};

/// How the masks of a sample's layers become one.
enum class Merge : std::uint32_t { product = MIAMIX_MERGE_PRODUCT, sum = MIAMIX_MERGE_SUM };

/// Which weight the primary's label gets.
enum class LabelWeight : std::uint32_t { merged = MIAMIX_LABEL_WEIGHT_MERGED, drawn = MIAMIX_LABEL_WEIGHT_DRAWN };

/// What the ratio lambda of a layer is the share of.
enum class LambdaReading : std::uint32_t {
    complement = MIAMIX_LAMBDA_READING_COMPLEMENT,
    keep = MIAMIX_LAMBDA_READING_KEEP,
};

/// How wide the Gaussian of a share is.
enum class GaussianSigma : std::uint32_t {
    paper = MIAMIX_GAUSSIAN_SIGMA_PAPER,
    area = MIAMIX_GAUSSIAN_SIGMA_AREA,
};

/// How partners are found.
enum class Pairing : std::uint32_t { permutation = MIAMIX_PAIRING_PERMUTATION, uniform = MIAMIX_PAIRING_UNIFORM };

/// Where cutmix puts its box.
enum class CutmixBox : std::uint32_t { clipped = MIAMIX_CUTMIX_BOX_CLIPPED, inside = MIAMIX_CUTMIX_BOX_INSIDE };

/// The parameters of an operator: the defaults, then what should differ.
///
///     Config().alpha(0.5f).method_weights({{Method::cutmix, 1}, {Method::fmix, 2}}).merge(Merge::sum)
///
/// miamix_config says what each means and its range, which Op checks.
class Config {
public:
    /// The paper's.
    Config() { check(miamix_config_init(&config_, sizeof config_)); }

    Config& alpha(float value) noexcept { return set(config_.alpha, value); }
    Config& k_min(std::uint32_t n_layers) noexcept { return set(config_.k_min, n_layers); }
    Config& k_max(std::uint32_t n_layers) noexcept { return set(config_.k_max, n_layers); }

    /// A method that is not named has weight 0.
    Config& method_weights(std::initializer_list<std::pair<Method, float>> weights) noexcept {
        for (float& weight : config_.method_weights) {
            weight = 0;
        }
        for (const auto& [method, weight] : weights) {
            config_.method_weights[static_cast<std::size_t>(method)] = weight;
        }
        return *this;
    }

    Config& p_apply(float probability) noexcept { return set(config_.p_apply, probability); }
    Config& p_self(float probability) noexcept { return set(config_.p_self, probability); }
    Config& p_aug(float probability) noexcept { return set(config_.p_aug, probability); }
    Config& p_smooth(float probability) noexcept { return set(config_.p_smooth, probability); }
    Config& merge(Merge value) noexcept { return set(config_.merge, value); }
    Config& label_weight(LabelWeight value) noexcept { return set(config_.label_weight, value); }
    Config& lambda_reading(LambdaReading value) noexcept { return set(config_.lambda_reading, value); }
    Config& gaussian_sigma(GaussianSigma value) noexcept { return set(config_.gaussian_sigma, value); }
    Config& pairing(Pairing value) noexcept { return set(config_.pairing, value); }
    Config& cutmix_box(CutmixBox value) noexcept { return set(config_.cutmix_box, value); }
    Config& grid_range(std::uint32_t min, std::uint32_t max) noexcept { return set(config_.grid_range, min, max); }
    Config& decay_power(float value) noexcept { return set(config_.decay_power, value); }
    Config& rotate_max_rad(float angle) noexcept { return set(config_.rotate_max_rad, angle); }
    Config& shear_max(float value) noexcept { return set(config_.shear_max, value); }
    Config& smooth_range_px(std::uint32_t min, std::uint32_t max) noexcept {
        return set(config_.smooth_range_px, min, max);
    }
    Config& p_flip(float probability) noexcept { return set(config_.p_flip, probability); }
    Config& pad_px(std::uint32_t pixels) noexcept { return set(config_.pad_px, pixels); }
    Config& label_smoothing(float value) noexcept { return set(config_.label_smoothing, value); }
    Config& n_threads(std::uint32_t n) noexcept { return set(config_.n_threads, n); }

    /// For the functions of miamix.h, and to look at.
    const miamix_config& get() const noexcept { return config_; }

private:
    template <class Field, class Value>
    Config& set(Field& field, Value value) noexcept {
        field = static_cast<Field>(value);
        return *this;
    }

    Config& set(std::uint32_t (&range)[2], std::uint32_t min, std::uint32_t max) noexcept {
        range[0] = min;
        range[1] = max;
        return *this;
    }

    miamix_config config_;
};

// ---- Plans ----

/// What a plan is drawn for: samples, height and width.
using BatchShape = miamix_shape;

/// Every random decision for one batch, as plain data: Op draws it, and applies it any number of times.
///
/// One that was moved from may only be assigned to or destroyed.
class Plan {
public:
    /// Owns a handle from miamix.h.
    explicit Plan(miamix_plan* handle) noexcept : handle_(handle) {}

    /// Reads a plan that was stored, or written by hand; PlanError says what is wrong with it.
    static Plan from_json(std::string_view json) {
        miamix_plan* handle = nullptr;
        // A view of nothing has no address, which would be an argument that is missing.
        check(miamix_plan_from_json(json.empty() ? "" : json.data(), json.size(), &handle));
        return Plan(handle);
    }

    std::string to_json() const {
        std::size_t length = 0;
        check(miamix_plan_to_json(get(), nullptr, 0, &length));
        std::string json(length, '\0');
        check(miamix_plan_to_json(get(), json.data(), length + 1, &length));
        return json;
    }

    BatchShape shape() const {
        BatchShape shape{};
        check(miamix_plan_shape(get(), &shape));
        return shape;
    }

    /// The sample that each one is mixed with: its own index where it is mixed with itself or not at all.
    std::vector<std::int64_t> partner_index() const {
        std::vector<std::int64_t> index(static_cast<std::size_t>(shape().samples));
        check(miamix_plan_partner_index(get(), index.data(), index.size()));
        return index;
    }

    /// How many layers the mask of a sample has; 0 where it is not mixed.
    std::uint32_t n_layers(std::size_t sample) const {
        std::uint32_t n_layers = 0;
        check(miamix_plan_n_layers(get(), sample, &n_layers));
        return n_layers;
    }

    /// Writes this plan to one that Op::plan_on_device() made, in the stream's order; it may be freed, or drawn again,
    /// at once. Before a capture, as it also loads the kernels, and before each replay.
    void upload(const Plan& device_plan, void* stream = nullptr) const {
        check(miamix_plan_upload(get(), device_plan.get(), stream));
    }

    /// The handle, still owned.
    miamix_plan* get() noexcept { return handle_.get(); }
    const miamix_plan* get() const noexcept { return handle_.get(); }

private:
    struct Free {
        void operator()(miamix_plan* handle) const noexcept { miamix_plan_free(handle); }
    };

    std::unique_ptr<miamix_plan, Free> handle_;
};

// ---- CUDA ----

/// How much device memory plans and calls take, bytes.
struct CudaSizes {
    /// Of a plan.
    std::size_t plan;
    /// Of the workspace of every call but backward().
    std::size_t workspace;
    /// Of the workspace of every call.
    std::size_t backward_workspace;
};

/// Throws InvalidArgument, once, if a class id of num_classes or more was met on the device of a stream, where it gives
/// a row of zeros: as far as the device has come, for which it does not wait.
inline void check_labels(void* stream = nullptr) { check(miamix_check_labels(stream)); }

/// The CUDA device that an address is on.
inline std::int32_t cuda_device_of(const void* address) {
    std::int32_t device = 0;
    check(miamix_cuda_device_of(address, &device));
    return device;
}

// ---- The operator ----

namespace detail {

/// A view as an argument of a function of miamix.h; NULL for none.
class Argument {
public:
    explicit Argument(const TensorView& view) noexcept : tensor_(view.to_c()), is_tensor_(view) {}
    operator miamix_tensor*() noexcept { return is_tensor_ ? &tensor_ : nullptr; }

private:
    miamix_tensor tensor_;
    bool is_tensor_;
};

}  // namespace detail

/// An operator: parameters that have been checked, and the threads it works on. It keeps no random state.
///
/// `stream`, everywhere: of the device where the tensors are, a CUstream or cudaStream_t, or null for the default one;
/// ignored for tensors in main memory. One that was moved from may only be assigned to or destroyed.
class Op {
public:
    /// Throws InvalidArgument, which names the first parameter outside its range.
    explicit Op(const Config& config = Config()) {
        miamix_op* handle = nullptr;
        check(miamix_op_create(&config.get(), &handle));
        handle_.reset(handle);
    }

    /// Draws every random decision for one batch.
    ///
    /// Equal seeds give equal plans on every device and in every language. `first_sample`, the global index of the
    /// batch's first sample, is a running counter that lets one seed serve a whole training run.
    Plan draw(const BatchShape& shape, std::uint64_t seed, std::uint64_t first_sample = 0) const {
        miamix_plan* handle = nullptr;
        check(miamix_plan_draw(get(), &shape, seed, first_sample, &handle));
        return Plan(handle);
    }

    /// Draws into a plan, whose memory is used again. It is unchanged if that fails.
    void redraw(Plan& plan, const BatchShape& shape, std::uint64_t seed, std::uint64_t first_sample = 0) const {
        check(miamix_plan_redraw(get(), &shape, seed, first_sample, plan.get()));
    }

    /// Mixes a batch under a plan.
    ///
    ///     mixed_images[i] = mask[i] * images[i] + (1 - mask[i]) * partner_images[partner_index[i]]
    ///     mixed_labels[i] = label_weight[i] * labels[i] + (1 - label_weight[i]) * labels[partner_index[i]]
    ///
    /// Further images of the same batch, a depth map say, are mixed under the same plan by a second call.
    void apply(const Plan& plan, const Batch& batch, const Output& output, void* stream = nullptr) const {
        detail::Argument images(batch.images), partner_images(batch.partner_images), labels(batch.labels),
            mixed_images(output.mixed_images), mixed_labels(output.mixed_labels), label_weight(output.label_weight),
            partner_index(output.partner_index);
        check(miamix_apply(get(), plan.get(), images, partner_images, labels, batch.num_classes, mixed_images,
                           mixed_labels, label_weight, partner_index, stream));
    }

    /// Draws a plan for a batch, and mixes the batch under it: draw(), then apply().
    void mix(const Batch& batch, const Output& output, std::uint64_t seed, std::uint64_t first_sample = 0,
             void* stream = nullptr) const {
        detail::Argument images(batch.images), partner_images(batch.partner_images), labels(batch.labels),
            mixed_images(output.mixed_images), mixed_labels(output.mixed_labels), label_weight(output.label_weight),
            partner_index(output.partner_index);
        check(miamix_mix(get(), seed, first_sample, images, partner_images, labels, batch.num_classes, mixed_images,
                         mixed_labels, label_weight, partner_index, stream));
    }

    /// Mixes label maps (segmentation): the primary's label where the mask is at least 1/2, else the partner's.
    ///
    /// All maps: [N, H, W] of integers or bool. `partner_maps`: those of the partner images; none to use maps twice.
    void apply_maps(const Plan& plan, const TensorView& maps, const TensorView& partner_maps,
                    const MutableTensorView& mixed_maps, void* stream = nullptr) const {
        detail::Argument from(maps), partner(partner_maps), to(mixed_maps);
        check(miamix_apply_maps(get(), plan.get(), from, partner, to, stream));
    }

    /// Renders the masks of a plan, [N, H, W] of float, 1 keeps the primary pixel, and what its labels weigh, [N] of
    /// float; either may be none.
    void masks(const Plan& plan, const MutableTensorView& masks, const MutableTensorView& label_weight = {},
               void* stream = nullptr) const {
        detail::Argument to(masks), weights(label_weight);
        check(miamix_masks(get(), plan.get(), to, weights, stream));
    }

    /// The masks of a plan, [N, H, W].
    std::vector<float> masks(const Plan& plan) const {
        const BatchShape shape = plan.shape();
        std::vector<float> masks(static_cast<std::size_t>(shape.samples * shape.height * shape.width));
        this->masks(plan, {masks.data(), Extents{axis(shape.samples), axis(shape.height), axis(shape.width)}});
        return masks;
    }

    /// What the primary's own label weighs, [N].
    std::vector<float> label_weight(const Plan& plan) const {
        std::vector<float> weights(static_cast<std::size_t>(plan.shape().samples));
        masks(plan, {}, weights);
        return weights;
    }

    /// The gradient of apply(): from that of the mixed images to those of the images.
    ///
    ///     grad_images[i]         = mask[i] * grad_mixed[i]
    ///     grad_partner_images[t] = sum of (1 - mask[i]) * grad_mixed[i] over the i with partner_index[i] = t
    ///
    /// All three: [N, C, H, W] of float, Float16 or BFloat16. Without `grad_partner_images`, where images served
    /// twice, grad_images gets the sum of both.
    void backward(const Plan& plan, const TensorView& grad_mixed, const MutableTensorView& grad_images,
                  const MutableTensorView& grad_partner_images = {}, void* stream = nullptr) const {
        detail::Argument from(grad_mixed), to(grad_images), to_partner(grad_partner_images);
        check(miamix_backward(get(), plan.get(), from, to, to_partner, stream));
    }

    /// How much device memory plans and calls take, for any plan that this operator draws for a shape.
    CudaSizes cuda_sizes(const BatchShape& shape) const {
        CudaSizes sizes{};
        check(miamix_cuda_sizes(get(), &shape, &sizes.plan, &sizes.workspace, &sizes.backward_workspace));
        return sizes;
    }

    /// Makes a plan in device memory of the caller's, which a captured graph needs: Plan::upload() writes it, and calls
    /// on CUDA tensors take it as any other. `buffer`: aligned to 16 bytes; `workspace`: to 256, for one stream at a
    /// time, or null for the library's pool; both of cuda_sizes() at least, and there as long as the plan is used.
    Plan plan_on_device(const BatchShape& shape, void* buffer, std::size_t buffer_bytes, void* workspace = nullptr,
                        std::size_t workspace_bytes = 0) const {
        miamix_plan* handle = nullptr;
        check(miamix_plan_on_device(get(), &shape, buffer, buffer_bytes, workspace, workspace_bytes, &handle));
        return Plan(handle);
    }

    /// The handle, still owned.
    const miamix_op* get() const noexcept { return handle_.get(); }

private:
    struct Free {
        void operator()(miamix_op* handle) const noexcept { miamix_op_free(handle); }
    };

    static std::int64_t axis(std::uint64_t extent) noexcept { return static_cast<std::int64_t>(extent); }

    std::unique_ptr<miamix_op, Free> handle_;
};

}  // namespace miamix

#endif  // MIAMIX_HPP
