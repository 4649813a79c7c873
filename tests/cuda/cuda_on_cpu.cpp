// Runs blocks one after the other, the threads of each as fibers. See cuda_on_cpu.h.

#include "cuda_on_cpu.h"

#include <sys/mman.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace on_cpu {

Index thread_index, block_index, block_size, grid_size;

namespace {

enum State { READY, AT_BLOCK, AT_WARP, DONE };

const size_t STACK_BYTES = 64 << 10;
const uint64_t GARBAGE = 0xdeadbeefdeadbeefull;
const unsigned char GARBAGE_BYTE = 0xCB;
const size_t GUARD_BYTES = 256;

struct Fiber {
#if defined(__x86_64__)
  void* stack_pointer;
#else
  ucontext_t context;
#endif
  State state;
  unsigned mask;
  uint64_t brought, met[32];
  const char* what;
};

std::vector<Fiber> fibers;
unsigned char* stacks;
size_t n_stacks;
Fiber scheduler;
Fiber* current;
const Kernel* kernel;
const void* parameter;
std::vector<unsigned char> shared;
std::string error;

#if defined(__x86_64__)
// ucontext asks the system for the signal mask at every switch, which costs more than the kernels do.
__asm__(
    ".text\n"
    "on_cpu_switch:\n"  // (void** save, void* load)
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\n"
    "mov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\n"
    "ret\n");
extern "C" void on_cpu_switch(void** save, void* load);
void switch_to(Fiber& from, Fiber& to) { on_cpu_switch(&from.stack_pointer, to.stack_pointer); }
#else
void switch_to(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
#endif

void yield() { switch_to(*current, scheduler); }

void enter() {
  kernel->run(parameter);
  current->state = DONE;
  yield();
}

void prepare(Fiber& fiber, unsigned char* stack) {
  fiber.state = READY;
#if defined(__x86_64__)
  // As the switch leaves a stack: six registers, the address to return to, and the alignment of a call.
  uint64_t* top = (uint64_t*)(stack + STACK_BYTES) - 2;
  *top = (uint64_t)&enter;
  for (int i = 0; i < 6; ++i) *--top = 0;
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = STACK_BYTES;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
#endif
}

// Lets every complete meeting of the warp that begins with fiber `first` go on.
void release_warp(size_t first) {
  const size_t count = std::min(fibers.size() - first, (size_t)32);
  for (size_t i = 0; i < count; ++i) {
    Fiber& fiber = fibers[first + i];
    if (fiber.state != AT_WARP) continue;
    const unsigned mask = fiber.mask;
    if (!(mask >> i & 1u)) {
      error = std::string(fiber.what) + ": the lane is not in its own mask";
      return;
    }
    bool complete = true;
    uint64_t brought[32];
    for (size_t j = 0; j < 32; ++j) {
      brought[j] = GARBAGE;
      if (!(mask >> j & 1u)) continue;
      if (j >= count || fibers[first + j].state == DONE) {
        error = std::string(fiber.what) + ": its mask names a lane that has ended";
        return;
      }
      const Fiber& other = fibers[first + j];
      complete &= other.state == AT_WARP && other.mask == mask && strcmp(other.what, fiber.what) == 0;
      brought[j] = other.brought;
    }
    if (!complete) continue;
    for (size_t j = 0; j < count; ++j) {
      if (!(mask >> j & 1u)) continue;
      memcpy(fibers[first + j].met, brought, sizeof brought);
      fibers[first + j].state = READY;
    }
  }
}

bool release_block() {
  size_t waiting = 0, done = 0;
  for (const Fiber& fiber : fibers) waiting += fiber.state == AT_BLOCK, done += fiber.state == DONE;
  if (waiting == 0 || waiting + done != fibers.size()) return false;
  if (done) {
    error = "__syncthreads: a part of the block has ended";
    return false;
  }
  for (Fiber& fiber : fibers) fiber.state = READY;
  return true;
}

uint64_t draw(uint64_t& state) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

#ifdef COUNT_INSTRUCTIONS
std::vector<uint32_t> visits;  // [n_blocks, lanes of all warps]
Executed so_far;

// A warp executes a block of instructions as often as the lane that comes to it most: its lanes go through it together
// where they can.
void add_visits(size_t threads) {
  std::vector<uint64_t> warps((threads + 31) / 32);
  for (size_t block = 0; block < n_blocks; ++block) {
    for (size_t first = 0; first < threads; first += 32) {
      const uint32_t* from = &visits[block * threads + first];
      warps[first / 32] += (uint64_t)block_costs[block] * *std::max_element(from, from + std::min(threads - first, (size_t)32));
    }
  }
  for (uint64_t warp : warps) {
    so_far.all_warps += warp;
    so_far.longest_warp = std::max(so_far.longest_warp, warp);
  }
}
#endif

void run_block(size_t threads, size_t shared_bytes, int order, uint64_t seed) {
  shared.assign(16 + shared_bytes + GUARD_BYTES, GARBAGE_BYTE);
#ifdef COUNT_INSTRUCTIONS
  visits.assign(n_blocks * threads, 0);
#endif
  for (size_t i = 0; i < threads; ++i) prepare(fibers[i], stacks + i * STACK_BYTES);
  const size_t warps = (threads + 31) / 32;
  size_t warp = 0, left = threads;
  while (left > 0) {
    bool ran = false;
    if (order == 2 && draw(seed) % 8 == 0) warp = draw(seed) % warps;
    for (size_t tried = 0; tried < warps && !ran; ++tried) {
      const size_t chosen = order == 0 ? warp++ % warps : order == 1 ? warps - 1 - tried : (warp + tried) % warps;
      const size_t first = chosen * 32, count = std::min(threads - first, (size_t)32);
      size_t lanes[32];
      for (size_t i = 0; i < count; ++i) lanes[i] = order == 1 ? count - 1 - i : i;
      if (order == 2) {
        for (size_t i = count; i > 1; --i) std::swap(lanes[i - 1], lanes[draw(seed) % i]);
      }
      for (size_t i = 0; i < count; ++i) {
        Fiber& fiber = fibers[first + lanes[i]];
        if (fiber.state != READY) continue;
        current = &fiber;
        thread_index = {(unsigned)(first + lanes[i]), 0, 0};
        switch_to(scheduler, fiber);
        ran = true;
        left -= fiber.state == DONE;
      }
      if (ran) {
        release_warp(first);
        if (order == 2) warp = chosen;
      }
      if (!error.empty()) return;
    }
    if (!ran && left > 0 && !release_block()) {
      if (error.empty()) error = "threads wait for one another at different places";
      return;
    }
  }
#ifdef COUNT_INSTRUCTIONS
  add_visits(threads);
#endif
  const unsigned char* guard = (unsigned char*)dynamic_shared() + shared_bytes;
  for (const unsigned char* at = guard; at < shared.data() + shared.size(); ++at) {
    if (*at != GARBAGE_BYTE) {
      error = "write past the end of shared memory";
      return;
    }
  }
}

}  // namespace

#ifdef COUNT_INSTRUCTIONS
void count(unsigned block) { ++visits[block * fibers.size() + thread_index.x]; }
Executed executed() { return std::exchange(so_far, {}); }
#endif

void* dynamic_shared() { return (void*)(((uintptr_t)shared.data() + 15) & ~(uintptr_t)15); }

unsigned lane() { return (unsigned)(current - fibers.data()) & 31u; }

void meet_block() {
  current->state = AT_BLOCK;
  yield();
}

const uint64_t* meet_warp(unsigned mask, uint64_t value, const char* what) {
  current->state = AT_WARP;
  current->mask = mask;
  current->brought = value;
  current->what = what;
  yield();
  return current->met;
}

const char* launch(const Kernel& which, unsigned blocks, unsigned threads, unsigned shared_bytes, const void* given,
                   int order, uint64_t seed) {
  if (n_stacks < threads) {
    if (stacks) munmap(stacks, n_stacks * STACK_BYTES);
    stacks = (unsigned char*)mmap(nullptr, threads * STACK_BYTES, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    n_stacks = threads;
  }
  fibers.resize(threads);
  error.clear();
  kernel = &which;
  parameter = given;
  block_size = {threads, 1, 1};
  grid_size = {blocks, 1, 1};
  for (unsigned block = 0; block < blocks; ++block) {
    // Blocks have no order either.
    block_index = {order == 1 ? blocks - 1 - block : block, 0, 0};
    run_block(threads, shared_bytes, order, (seed + block) * 0x9E3779B97F4A7C15ull + 1);
    if (!error.empty()) {
      error = std::string(which.name) + ", block " + std::to_string(block_index.x) + ": " + error;
      return error.c_str();
    }
  }
  return nullptr;
}

}  // namespace on_cpu
