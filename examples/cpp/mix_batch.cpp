// Mixes one batch: eight images of 3 x 32 x 32 with class ids below 10.
//
//     c++ -std=c++17 mix_batch.cpp -lmiamix -o mix_batch
#include <miamix.hpp>

#include <cstdio>

int main() try {
    std::vector<float> images(8 * 3 * 32 * 32), mixed_images(images.size()), mixed_labels(8 * 10);
    std::vector<std::int64_t> labels = {0, 1, 2, 3, 4, 5, 6, 7};

    miamix::Batch batch;
    batch.images = {images, {8, 3, 32, 32}};
    batch.labels = labels;
    batch.num_classes = 10;
    miamix::Output output;
    output.mixed_images = {mixed_images, {8, 3, 32, 32}};
    output.mixed_labels = {mixed_labels, {8, 10}};

    const miamix::Op op;  // the defaults
    op.mix(batch, output, 42);

    for (std::size_t i = 0; i < mixed_labels.size(); i++) {
        std::printf("%.2f%c", static_cast<double>(mixed_labels[i]), i % 10 == 9 ? '\n' : ' ');
    }
} catch (const miamix::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
