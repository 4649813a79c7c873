// The kernels as they are written.

#include "cuda_on_cpu.h"

#include "../../kernels/miamix.cu"

namespace {
// Deliberate mistakes, which the stand-in must notice.
void without_a_barrier(const void* parameter) {
  int* shared = (int*)on_cpu::dynamic_shared();
  shared[threadIdx.x] = (int)threadIdx.x;
  (*(int* const*)parameter)[threadIdx.x] = shared[63 - threadIdx.x];
}
void barrier_of_a_part(const void*) {
  if (threadIdx.x < 40) __syncthreads();
}
void past_the_end(const void*) { ((int*)on_cpu::dynamic_shared())[64 + threadIdx.x] = 1; }

template <void (*kernel)(const Launch)>
void run(const void* parameter) {
  kernel(*(const Launch*)parameter);
}
}  // namespace

namespace on_cpu {
const Kernel source_kernels[] = {
    {"miamix_small", run<miamix_small>, sizeof(Launch)},
    {"miamix_large", run<miamix_large>, sizeof(Launch)},
    {"miamix_backward", run<miamix_backward>, sizeof(Launch)},
    {"without_a_barrier", without_a_barrier, 8},
    {"barrier_of_a_part", barrier_of_a_part, 8},
    {"past_the_end", past_the_end, 8},
};
const size_t n_source_kernels = sizeof source_kernels / sizeof *source_kernels;
}  // namespace on_cpu
