// A small convolutional net, trained by LibTorch on images of 3 x 32 x 32 with MiAMix and without it.
//
//     trainer DATA [--epochs 10] [--plain-epochs 1] [--samples 0] [--batch-size 128] [--seed 0]
//
// DATA is a folder in the binary format of CIFAR-10: data_batch_*.bin to train on, test_batch.bin, and class names in
// batches.meta.txt; pack_pictures.py makes one from pictures. While a batch trains, the next one is mixed on a second
// thread, from and into torch tensors without a copy.

#include <miamix.hpp>

#include <torch/nn.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace fs = std::filesystem;

// ---- MiAMix on torch tensors: the same memory, shape and strides ----

miamix_dtype dtype_of(const torch::Tensor& tensor) {
    switch (tensor.scalar_type()) {
        case torch::kFloat: return miamix::dtype_of<float>;
        case torch::kHalf: return miamix::dtype_of<miamix::Float16>;
        case torch::kBFloat16: return miamix::dtype_of<miamix::BFloat16>;
        case torch::kByte: return miamix::dtype_of<std::uint8_t>;
        case torch::kLong: return miamix::dtype_of<std::int64_t>;
        default: throw std::invalid_argument("tensor: must be of a type that is mixed, got " + tensor.toString());
    }
}

miamix::TensorView view(const torch::Tensor& tensor) {
    return miamix::TensorView::of(dtype_of(tensor), tensor.const_data_ptr(), tensor.sizes(), tensor.strides());
}

miamix::MutableTensorView mutable_view(torch::Tensor& tensor) {
    return miamix::MutableTensorView::of(dtype_of(tensor), tensor.mutable_data_ptr(), tensor.sizes(), tensor.strides());
}

// ---- Data ----

constexpr std::int64_t side = 32, n_channels = 3, n_bytes = n_channels * side * side;

struct Images {
    torch::Tensor pixels;  // [N, 3, 32, 32] of uint8
    torch::Tensor labels;  // [N] of int64

    std::int64_t size() const { return labels.size(0); }
};

/// Records of a byte for the class and 3 x 32 x 32 for the pixels, from all files together.
Images read_images(const std::vector<fs::path>& files) {
    std::vector<char> bytes;
    for (const fs::path& file : files) {
        std::ifstream stream(file, std::ios::binary);
        bytes.insert(bytes.end(), std::istreambuf_iterator<char>(stream), {});
    }
    constexpr std::int64_t record = 1 + n_bytes;
    const auto n = static_cast<std::int64_t>(bytes.size()) / record;
    if (n == 0 || n * record != static_cast<std::int64_t>(bytes.size())) {
        throw std::runtime_error("DATA: must hold data_batch_*.bin and test_batch.bin with records of 3073 bytes");
    }
    const torch::Tensor records = torch::from_blob(bytes.data(), {n, record}, torch::kByte);
    return {records.slice(1, 1).reshape({n, n_channels, side, side}).clone(), records.select(1, 0).to(torch::kLong)};
}

std::vector<fs::path> training_files(const fs::path& data) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(data)) {
        if (entry.path().filename().string().rfind("data_batch_", 0) == 0) {
            files.push_back(entry.path());
        }
    }
    std::sort(files.begin(), files.end());
    return files;
}

std::int64_t count_lines(const fs::path& file) {
    std::ifstream stream(file);
    std::int64_t n = 0;
    for (std::string line; std::getline(stream, line);) {
        n += !line.empty();
    }
    return n;
}

/// Numbers around 0 that nets like, [N, 3, 32, 32] of float.
torch::Tensor normalised(const torch::Tensor& pixels) { return pixels.to(torch::kFloat).div_(64.0).sub_(2.0); }

// ---- Mixing ----

/// CPU time of the calling thread, seconds: what it worked, however many threads share the machine.
double thread_cpu_s() {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct MixedBatch {
    torch::Tensor images;  // [N, 3, 32, 32] of float
    torch::Tensor labels;  // [N, K] of float
    double mixing_cpu_s;
};

/// The samples `index` of the training images, mixed. MiAMix makes the two views that it mixes, too: each is flipped
/// and shifted on its own while it is read.
MixedBatch mixed_batch(const miamix::Op& op, const Images& train, const torch::Tensor& index, std::int64_t n_classes,
                       std::uint64_t seed, std::uint64_t first_sample) {
    const torch::Tensor images = normalised(train.pixels.index_select(0, index));
    const torch::Tensor labels = train.labels.index_select(0, index);
    MixedBatch mixed{torch::empty_like(images), torch::empty({index.size(0), n_classes}), 0};

    const double start = thread_cpu_s();
    op.mix({.images = view(images), .labels = view(labels), .num_classes = static_cast<std::size_t>(n_classes)},
           {.mixed_images = mutable_view(mixed.images), .mixed_labels = mutable_view(mixed.labels)}, seed,
           first_sample);
    mixed.mixing_cpu_s = thread_cpu_s() - start;
    return mixed;
}

// ---- Training ----

struct Options {
    fs::path data;
    std::int64_t epochs = 10, plain_epochs = 1, samples = 0, batch_size = 128, seed = 0;
};

torch::nn::Sequential make_net(std::int64_t n_classes) {
    using namespace torch::nn;
    Sequential net;
    for (std::int64_t n_in = n_channels, n_out = 32; n_out <= 128; n_in = n_out, n_out *= 2) {
        net->push_back(Conv2d(Conv2dOptions(n_in, n_out, 3).padding(1).bias(false)));
        net->push_back(BatchNorm2d(n_out));
        net->push_back(ReLU(ReLUOptions(true)));
        net->push_back(MaxPool2d(2));
    }
    net->push_back(AdaptiveAvgPool2d(1));
    net->push_back(Flatten());
    net->push_back(Linear(128, n_classes));
    return net;
}

/// The share of test images whose class the net finds.
double accuracy(torch::nn::Sequential& net, const Images& test) {
    const torch::NoGradGuard no_grad;
    net->eval();
    std::int64_t n_right = 0;
    for (std::int64_t i = 0; i < test.size(); i += 500) {
        const std::int64_t end = std::min(i + 500, test.size());
        const torch::Tensor found = net->forward(normalised(test.pixels.slice(0, i, end))).argmax(1);
        n_right += found.eq(test.labels.slice(0, i, end)).sum().item<std::int64_t>();
    }
    net->train();
    return static_cast<double>(n_right) / static_cast<double>(test.size());
}

/// Trains a net anew and prints how it goes; returns its accuracy.
double train(const Options& options, const Images& images, const Images& test, std::int64_t n_classes, bool mixing) {
    // One thread, the worker's: so its clock has all that mixing takes.
    const miamix::Config config = miamix::Config().p_flip(0.5f).pad_px(4).label_smoothing(0.05f).n_threads(1);
    const miamix::Op mixed(config), plain(miamix::Config(config).p_apply(0));

    torch::manual_seed(static_cast<std::uint64_t>(options.seed));
    torch::nn::Sequential net = make_net(n_classes);
    torch::optim::AdamW optimizer(net->parameters(), torch::optim::AdamWOptions(2e-3).weight_decay(0.01));
    const std::int64_t n_steps = images.size() / options.batch_size;
    std::uint64_t first_sample = 0;
    double training_cpu_s = 0, mixing_cpu_s = 0;
    for (std::int64_t epoch = 0; epoch < options.epochs; epoch++) {
        // As papers do it: the last epochs see images as they are.
        const bool is_mixed = mixing && epoch < options.epochs - options.plain_epochs;
        const torch::Tensor order = torch::randperm(images.size(), torch::kLong);
        const auto begin_batch = [&](std::int64_t step) {
            const torch::Tensor index = order.slice(0, step * options.batch_size, (step + 1) * options.batch_size);
            return std::async(std::launch::async, mixed_batch, std::cref(is_mixed ? mixed : plain), std::cref(images),
                              index, n_classes, static_cast<std::uint64_t>(options.seed),
                              std::exchange(first_sample, first_sample + index.size(0)));
        };
        double loss_sum = 0;
        std::future<MixedBatch> next = begin_batch(0);
        for (std::int64_t step = 0; step < n_steps; step++) {
            const MixedBatch batch = next.get();
            if (step + 1 < n_steps) {
                next = begin_batch(step + 1);
            }
            const double start = thread_cpu_s();
            optimizer.zero_grad();
            const torch::Tensor loss = torch::cross_entropy_loss(net->forward(batch.images), batch.labels);
            loss.backward();
            optimizer.step();
            loss_sum += loss.item<double>();
            if (is_mixed) {
                training_cpu_s += thread_cpu_s() - start;
                mixing_cpu_s += batch.mixing_cpu_s;
            }
        }
        std::printf("  epoch %lld: loss %.3f%s\n", static_cast<long long>(epoch + 1),
                    loss_sum / static_cast<double>(n_steps), is_mixed ? "" : ", not mixed");
        std::fflush(stdout);
    }
    if (mixing_cpu_s > 0) {
        const double n = static_cast<double>(n_steps * (options.epochs - options.plain_epochs));
        std::printf("  mixing takes %.2f %% of the CPU time of a step: %.2f ms beside %.1f ms of training\n",
                    100 * mixing_cpu_s / (mixing_cpu_s + training_cpu_s), 1e3 * mixing_cpu_s / n,
                    1e3 * training_cpu_s / n);
    }
    return accuracy(net, test);
}

// ---- The program ----

constexpr char usage[] =
    "usage: trainer DATA [--epochs 10] [--plain-epochs 1] [--samples 0] [--batch-size 128] [--seed 0]";

Options parse(const std::vector<std::string>& arguments) {
    Options options;
    const std::pair<std::string, std::int64_t*> numbers[] = {{"--epochs", &options.epochs},
                                                             {"--plain-epochs", &options.plain_epochs},
                                                             {"--samples", &options.samples},
                                                             {"--batch-size", &options.batch_size},
                                                             {"--seed", &options.seed}};
    for (std::size_t i = 0; i < arguments.size(); i++) {
        const auto* number = std::find_if(std::begin(numbers), std::end(numbers),
                                          [&](const auto& known) { return known.first == arguments[i]; });
        if (number == std::end(numbers)) {
            options.data = arguments[i];
            continue;
        }
        const std::string value = ++i < arguments.size() ? arguments[i] : "";
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *number->second);
        if (error != std::errc() || end != value.data() + value.size() || *number->second < 0) {
            throw std::invalid_argument(number->first + ": must be a number of at least 0, got \"" + value + "\"");
        }
    }
    if (!fs::is_directory(options.data)) {
        throw std::invalid_argument("DATA: must be a folder, got " + options.data.string() + "\n" + usage);
    }
    if (options.epochs <= options.plain_epochs) {
        throw std::invalid_argument("--epochs: must be more than --plain-epochs, got " +
                                    std::to_string(options.epochs));
    }
    return options;
}

int main(int argc, char** argv) try {
    const Options options = parse({argv + 1, argv + argc});
    // One thread trains and one mixes: so the clock of a thread has all that its work takes.
    at::set_num_threads(1);
    Images images = read_images(training_files(options.data));
    const Images test = read_images({options.data / "test_batch.bin"});
    const std::int64_t n_classes = count_lines(options.data / "batches.meta.txt");
    if (options.samples > 0) {  // 0: all
        images = {images.pixels.slice(0, 0, options.samples), images.labels.slice(0, 0, options.samples)};
    }
    if (options.batch_size < 1 || options.batch_size > images.size()) {
        throw std::invalid_argument("--batch-size: must be in 1..=" + std::to_string(images.size()) + ", got " +
                                    std::to_string(options.batch_size));
    }

    std::printf("with MiAMix\n");
    const double with = train(options, images, test, n_classes, true);
    std::printf("without\n");
    const double without = train(options, images, test, n_classes, false);
    std::printf("%lld classes, %lld training images; accuracy on %lld test images:\n",
                static_cast<long long>(n_classes), static_cast<long long>(images.size()),
                static_cast<long long>(test.size()));
    std::printf("  with MiAMix  %5.1f %%\n  without      %5.1f %%\n  chance       %5.1f %%\n", 100 * with,
                100 * without, 100.0 / static_cast<double>(n_classes));
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
