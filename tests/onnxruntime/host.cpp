// A C++ program that runs the operator in ONNX Runtime, and compares it with the C interface byte for byte; then the
// cases that the Rust API wrote (onnx-model/examples/host_cases.rs): results and errors.
//
//     host LIBONNXRUNTIME LIBMIAMIX MODEL CASES
//
// The model is `miamix model --num-classes 10 --masks --k-max 3 --p-flip 0.5 --label-smoothing 0.1`. Both libraries are
// opened by path, so that any ONNX Runtime serves.

#define ORT_API_MANUAL_INIT
#include <dlfcn.h>
#include <onnxruntime/onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "miamix.h"

namespace {

// What ONNX Runtime 1.17 has, the oldest that the operator runs in.
constexpr uint32_t API_VERSION = 17;
// More elements than are mixed on the calling thread alone.
constexpr int64_t N = 11, C = 3, H = 37, W = 41, K = 10;
constexpr uint64_t FIRST_SAMPLE = uint64_t{1} << 40;
constexpr int64_t SEED = -7;

void check(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

class Library {
 public:
  explicit Library(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) throw std::runtime_error(dlerror());
  }

  // The function of this name, with the type of its declaration.
  template <typename Function>
  Function* get(const char* name) const {
    auto function = reinterpret_cast<Function*>(dlsym(handle_, name));
    check(function != nullptr, std::string("no function ") + name);
    return function;
  }

 private:
  void* handle_;  // never closed: both libraries have threads
};

#define FUNCTION(library, name) (library).get<decltype(name)>(#name)

struct Batch {
  std::vector<float> images, partner_images;
  std::vector<int64_t> labels;
};

Batch make_batch() {
  Batch batch;
  for (int64_t i = 0; i < N * C * H * W; i++) {
    batch.images.push_back(static_cast<float>(i % 8191) / 7.0f);
    batch.partner_images.push_back(static_cast<float>((i * 7 + 3) % 8209) / -5.0f);
  }
  for (int64_t i = 0; i < N; i++) batch.labels.push_back(i % 5 == 4 ? -1 : i * 7 % K);
  return batch;
}

struct Results {
  std::vector<float> mixed_images = std::vector<float>(N * C * H * W);
  std::vector<float> mixed_labels = std::vector<float>(N * K);
  std::vector<float> label_weight = std::vector<float>(N);
  std::vector<int64_t> partner_index = std::vector<int64_t>(N);
  std::vector<float> masks = std::vector<float>(N * H * W);
};

// By the C interface.
Results mix(const Library& library, Batch& batch) {
  std::array<int64_t, 4> image_shape{N, C, H, W};
  std::array<int64_t, 3> mask_shape{N, H, W};
  std::array<int64_t, 2> label_shape{N, K};
  const auto tensor = [](auto& data, auto& shape, int ndim) {
    constexpr bool is_float = std::is_same_v<std::decay_t<decltype(data[0])>, float>;
    miamix_tensor t{};
    t.data = data.data();
    t.device.device_type = MIAMIX_DEVICE_TYPE_CPU;
    t.ndim = ndim;
    t.dtype.code = is_float ? MIAMIX_DTYPE_CODE_FLOAT : MIAMIX_DTYPE_CODE_INT;
    t.dtype.bits = is_float ? 32 : 64;
    t.dtype.lanes = 1;
    t.shape = shape.data();
    return t;
  };
  const auto message = FUNCTION(library, miamix_last_error_message);
  const auto ok = [&](miamix_status status) { check(status == MIAMIX_STATUS_OK, message()); };

  miamix_config config;
  ok(FUNCTION(library, miamix_config_init)(&config, sizeof config));
  config.k_max = 3;
  config.p_flip = 0.5f;
  config.label_smoothing = 0.1f;
  miamix_op* op = nullptr;
  ok(FUNCTION(library, miamix_op_create)(&config, &op));
  const miamix_shape shape{N, H, W};
  miamix_plan* plan = nullptr;
  ok(FUNCTION(library, miamix_plan_draw)(op, &shape, static_cast<uint64_t>(SEED), FIRST_SAMPLE, &plan));

  Results results;
  const miamix_tensor images = tensor(batch.images, image_shape, 4);
  const miamix_tensor partner_images = tensor(batch.partner_images, image_shape, 4);
  const miamix_tensor labels = tensor(batch.labels, label_shape, 1);
  miamix_tensor mixed_images = tensor(results.mixed_images, image_shape, 4);
  miamix_tensor mixed_labels = tensor(results.mixed_labels, label_shape, 2);
  miamix_tensor label_weight = tensor(results.label_weight, label_shape, 1);
  miamix_tensor partner_index = tensor(results.partner_index, label_shape, 1);
  miamix_tensor masks = tensor(results.masks, mask_shape, 3);
  ok(FUNCTION(library, miamix_apply)(op, plan, &images, &partner_images, &labels, K, &mixed_images, &mixed_labels,
                                     &label_weight, &partner_index, nullptr));
  ok(FUNCTION(library, miamix_masks)(op, plan, &masks, nullptr, nullptr));
  FUNCTION(library, miamix_plan_free)(plan);
  FUNCTION(library, miamix_op_free)(op);
  return results;
}

constexpr std::array INPUTS{"images", "partner_images", "labels", "seed", "first_sample", "training_mode"};
constexpr std::array OUTPUTS{"mixed_images", "mixed_labels", "label_weight", "partner_index", "masks"};

std::vector<Ort::Value> run(Ort::Session& session, Batch& batch, bool training_mode, int64_t height = H) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto value = [&](auto* data, size_t count, std::vector<int64_t> shape) {
    return Ort::Value::CreateTensor(memory, data, count, shape.data(), shape.size());
  };
  int64_t seed = SEED, first_sample = static_cast<int64_t>(FIRST_SAMPLE);
  std::vector<Ort::Value> inputs;
  inputs.push_back(value(batch.images.data(), batch.images.size(), {N, C, H, W}));
  inputs.push_back(value(batch.partner_images.data(), N * C * height * W, {N, C, height, W}));
  inputs.push_back(value(batch.labels.data(), batch.labels.size(), {N}));
  inputs.push_back(value(&seed, 1, {}));
  inputs.push_back(value(&first_sample, 1, {}));
  inputs.push_back(value(&training_mode, 1, {}));
  return session.Run(Ort::RunOptions{nullptr}, INPUTS.data(), inputs.data(), inputs.size(), OUTPUTS.data(),
                     OUTPUTS.size());
}

template <typename T>
void check_same(const Ort::Value& value, const std::vector<T>& expected, const char* name) {
  check(value.GetTensorTypeAndShapeInfo().GetElementCount() == expected.size(), std::string(name) + ": another size");
  check(std::memcmp(value.GetTensorData<T>(), expected.data(), expected.size() * sizeof(T)) == 0,
        std::string(name) + ": other bytes");
}

// What a call throws says this.
template <typename Call>
void check_throws(Call call, const char* text) {
  try {
    call();
  } catch (const Ort::Exception& exception) {
    check(std::strstr(exception.what(), text) != nullptr, std::string("thrown: ") + exception.what());
    return;
  }
  throw std::runtime_error(std::string("nothing was thrown that says ") + text);
}

void test(const OrtApiBase& base, const char* operator_path, const char* model) {
  const Library library(operator_path);
  check(FUNCTION(library, miamix_abi_version)() == MIAMIX_ABI_VERSION, "another ABI version");
  Batch batch = make_batch();
  const Results expected = mix(library, batch);

  Ort::InitApi(base.GetApi(API_VERSION));
  Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "host");
  {
    Ort::SessionOptions options;
    check_throws([&] { Ort::Session(env, model, options); }, "ai.miamix");
    check_throws([&] { options.RegisterCustomOpsLibrary("/no/such/library.so"); }, "/no/such/library.so");
  }
  for (int n_threads : {1, 3}) {
    Ort::SessionOptions options;
    options.RegisterCustomOpsLibrary(operator_path);
    options.SetIntraOpNumThreads(n_threads);
    Ort::Session session(env, model, options);

    const auto outputs = run(session, batch, true);
    check_same(outputs[0], expected.mixed_images, OUTPUTS[0]);
    check_same(outputs[1], expected.mixed_labels, OUTPUTS[1]);
    check_same(outputs[2], expected.label_weight, OUTPUTS[2]);
    check_same(outputs[3], expected.partner_index, OUTPUTS[3]);
    check_same(outputs[4], expected.masks, OUTPUTS[4]);
    check_same(run(session, batch, false)[0], batch.images, "images of evaluation");

    Batch spoiled = batch;
    spoiled.labels[3] = K;
    check_throws([&] { run(session, spoiled, true); },
                 "MiAMix 'miamix': labels[3]: must be below num_classes = 10, got 10");
    check_throws([&] { run(session, batch, true, H - 1); }, "MiAMix 'miamix': partner_images: ");
    // The session goes on.
    check_same(run(session, batch, true)[0], expected.mixed_images, OUTPUTS[0]);
  }
}

// A tensor of a case: its elements lie in a file, as in memory.
struct Tensor {
  std::string name;
  ONNXTensorElementDataType type;
  std::vector<int64_t> shape;
  std::vector<char> bytes;
};

struct Case {
  struct Run {
    std::vector<Tensor> inputs, outputs;
  };
  std::string model, error;  // what the last run, or the making of a session, must end in; empty: results
  std::vector<Run> runs;
};

ONNXTensorElementDataType element_type(const std::string& name) {
  if (name == "float") return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  if (name == "float16") return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
  if (name == "bfloat16") return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
  if (name == "uint8") return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  if (name == "int64") return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  if (name == "bool") return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
  throw std::runtime_error("no element type " + name);
}

Case read_case(const std::filesystem::path& folder) {
  Case result;
  std::ifstream lines(folder / "case.txt");
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word >> std::ws;
    if (word == "run") {
      result.runs.emplace_back();
    } else if (word == "model") {
      std::string file;
      words >> file;
      result.model = folder / file;
    } else if (word == "error") {
      std::getline(words, result.error);
    } else {
      check((word == "input" || word == "output") && !result.runs.empty(), "a case with the line " + line);
      Tensor tensor;
      std::string type, extents, file;
      words >> tensor.name >> type >> extents >> file;
      tensor.type = element_type(type);
      std::istringstream each(extents == "-" ? "" : extents);
      for (std::string extent; std::getline(each, extent, ',');) tensor.shape.push_back(std::stoll(extent));
      std::ifstream in(folder / file, std::ios::binary);
      check(in.good(), file + ": not there");
      tensor.bytes.assign(std::istreambuf_iterator<char>(in), {});
      (word == "input" ? result.runs.back().inputs : result.runs.back().outputs).push_back(std::move(tensor));
    }
  }
  check(!result.model.empty(), folder.string() + ": no case");
  return result;
}

std::vector<Ort::Value> run(Ort::Session& session, Case::Run& run) {
  // What the model gives: cases of errors name no outputs.
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<Ort::AllocatedStringPtr> names;
  std::vector<const char*> inputs, outputs;
  for (size_t i = 0; i < session.GetOutputCount(); i++) {
    names.push_back(session.GetOutputNameAllocated(i, allocator));
    outputs.push_back(names.back().get());
  }
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Ort::Value> values;
  for (Tensor& tensor : run.inputs) {
    inputs.push_back(tensor.name.c_str());
    values.push_back(Ort::Value::CreateTensor(memory, tensor.bytes.data(), tensor.bytes.size(), tensor.shape.data(),
                                              tensor.shape.size(), tensor.type));
  }
  return session.Run(Ort::RunOptions{nullptr}, inputs.data(), values.data(), values.size(), outputs.data(),
                     outputs.size());
}

// Both the results of a case and its error come from here.
void attempt(Ort::Env& env, Case& tried, const Ort::SessionOptions& options) {
  Ort::Session session(env, tried.model.c_str(), options);
  for (Case::Run& each : tried.runs) {
    const auto outputs = run(session, each);
    if (!tried.error.empty()) continue;
    check(outputs.size() == each.outputs.size(), "another number of outputs");
    for (size_t i = 0; i < outputs.size(); i++) {
      const Tensor& expected = each.outputs[i];
      const auto info = outputs[i].GetTensorTypeAndShapeInfo();
      check(info.GetElementType() == expected.type && info.GetShape() == expected.shape,
            expected.name + ": another type or shape");
      check(expected.bytes.empty() ||
                std::memcmp(outputs[i].GetTensorRawData(), expected.bytes.data(), expected.bytes.size()) == 0,
            expected.name + ": other bytes");
    }
  }
}

// How many results and errors came as they must.
std::array<int, 2> test_cases(const char* operator_path, const char* folder) {
  Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "cases");
  std::array<int, 2> passed{};
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    Case tried = read_case(entry.path());
    Ort::SessionOptions options;
    options.RegisterCustomOpsLibrary(operator_path);
    options.SetIntraOpNumThreads(2);
    std::string thrown;
    try {
      attempt(env, tried, options);
    } catch (const Ort::Exception& exception) {
      thrown = exception.what();
      thrown.erase(thrown.find_last_not_of(" \n") + 1);
    }
    const std::string& error = tried.error;
    const bool as_it_must = error.empty() ? thrown.empty()
                                          : thrown.size() >= error.size() &&
                                                thrown.compare(thrown.size() - error.size(), error.size(), error) == 0;
    check(as_it_must, entry.path().filename().string() + ": thrown \"" + thrown + "\", expected \"" + error + "\"");
    passed[error.empty() ? 0 : 1]++;
  }
  check(passed[0] > 0 && passed[1] > 0, std::string(folder) + ": no cases");
  return passed;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: host LIBONNXRUNTIME LIBMIAMIX MODEL CASES\n");
    return 2;
  }
  try {
    const Library runtime(argv[1]);
    const OrtApiBase* base = FUNCTION(runtime, OrtGetApiBase)();
    test(*base, argv[2], argv[3]);
    const auto [n_results, n_errors] = test_cases(argv[2], argv[4]);
    std::printf("ONNX Runtime %s: the bytes of the C interface; %d cases with the bytes of Rust, %d with their error\n",
                base->GetVersionString(), n_results, n_errors);
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "%s\n", exception.what());
    return 1;
  }
  return 0;
}
