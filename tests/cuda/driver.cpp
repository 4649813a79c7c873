// libcuda.so.1 for tests: the functions of the driver that the library uses, and no other.
//
// Device memory is memory, a kernel runs on the CPU, and a stream is a queue: nothing that is put on one happens before
// the test calls `stand_in_run`. So whatever the library must not touch before the device is done (pinned memory, a
// workspace) is touched too early here if it is at all. A captured queue is a graph, which runs as often as it is asked.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "cuda_on_cpu.h"

#define API extern "C" __attribute__((visibility("default")))

typedef int CUresult;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
       INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, NOT_SUPPORTED = 801,
       CAPTURE_UNSUPPORTED = 900 };

namespace {
struct Context {
  int number;
  // How often it was reset: handles of an earlier life are no good.
  int life = 0;
};
struct Work {
  std::function<void()> run;
  bool is_kernel;
};
struct Pool {
  Context* context;
  int life;
  // Kept when somebody waits for the device; no more is given before.
  uint64_t kept;
};
struct Stream {
  Context* context;
  std::deque<Work> queue;
  bool capturing;
  std::vector<Work> graph;
};
struct Event {
  bool passed;
  Context* context;
  int life;
};
struct Function {
  const on_cpu::Kernel* kernel;
  Context* context;
  int life;
};
struct Pinned {
  size_t bytes;
  Context* context;
  uint64_t number;
};

std::recursive_mutex lock;
Context context_list[2] = {{0, 0}, {1, 0}};
Stream stream_list[4] = {
    {&context_list[0], {}, false, {}}, {&context_list[0], {}, false, {}}, {&context_list[1], {}, false, {}}, {&context_list[0], {}, false, {}}};
// Those of an application; they never move.
std::deque<Stream> made_streams;
// What every call answers after a fault; 0 before.
int broken = 0;
thread_local std::vector<Context*> current;
thread_local int capture_mode = 0;
int device_of_addresses = 0;
bool no_pools = false;
int retained = 0;
std::map<const void*, size_t> allocations;
std::map<void*, Pinned> pinned;
uint64_t last_number = 0;
std::string failure;
int order = 0, use_ptx = 0, fail_call = 0;
uint64_t seed = 1;
// Contexts pushed and popped, modules loaded, kernels launched, bytes pinned, pool allocations, copies, pool frees.
unsigned long long counts[8];
// Events that were asked for.
unsigned long long queried = 0;
enum { PUSHED, POPPED, LOADED, LAUNCHED, PINNED, ALLOCATED, COPIED, FREED };

// Each context's default stream, which has no handle of its own.
Stream default_streams[2] = {{&context_list[0], {}, false, {}}, {&context_list[1], {}, false, {}}};

Stream* stream_of(void* stream) {
  if (!stream) return current.empty() ? nullptr : &default_streams[current.back()->number];
  for (Stream& known : stream_list) {
    if (&known == stream) return &known;
  }
  for (Stream& known : made_streams) {
    if (&known == stream) return &known;
  }
  for (Stream& known : default_streams) {
    if (&known == stream) return &known;
  }
  return nullptr;
}

#define LOCK std::lock_guard<std::recursive_mutex> guard(lock)

// Checks that a call can be made, and puts its work on the stream.
CUresult put(void* stream, std::function<void()> work, bool is_kernel = false) {
  LOCK;
  if (broken) return broken;
  Stream* to = stream_of(stream);
  if (!to) return INVALID_HANDLE;
  if (current.empty() || current.back() != to->context) return INVALID_CONTEXT;
  if (fail_call > 0 && --fail_call == 0) return 999;
  if (to->capturing) {
    to->graph.push_back({std::move(work), is_kernel});
  } else {
    to->queue.push_back({std::move(work), is_kernel});
  }
  return SUCCESS;
}

// What may not be done while any stream is being captured, unless the thread says that it knows what it does.
bool breaks_a_capture() {
  const int RELAXED = 2;
  bool capturing = false;
  for (const Stream& stream : stream_list) capturing |= stream.capturing;
  return capturing && capture_mode != RELAXED;
}
}  // namespace

API CUresult cuInit(unsigned) { return getenv("STAND_IN_INIT") ? atoi(getenv("STAND_IN_INIT")) : SUCCESS; }
API CUresult cuDeviceGetCount(int* count) {
  *count = getenv("STAND_IN_DEVICES") ? atoi(getenv("STAND_IN_DEVICES")) : 1;
  return SUCCESS;
}
API CUresult cuDeviceGet(int* device, int ordinal) {
  if (ordinal < 0 || ordinal > 1) return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}
API CUresult cuDevicePrimaryCtxRetain(void** context, int device) {
  LOCK;
  ++retained;
  *context = &context_list[device];
  return SUCCESS;
}
API CUresult cuCtxGetCurrent(void** context) {
  *context = current.empty() ? nullptr : current.back();
  return SUCCESS;
}
API CUresult cuCtxPushCurrent_v2(void* context) {
  LOCK;
  current.push_back((Context*)context);
  ++counts[PUSHED];
  return SUCCESS;
}
API CUresult cuCtxPopCurrent_v2(void** context) {
  LOCK;
  if (current.empty()) return INVALID_CONTEXT;
  *context = current.back();
  current.pop_back();
  ++counts[POPPED];
  return SUCCESS;
}
API CUresult cuStreamGetCtx(void* stream, void** context) {
  LOCK;
  if (!stream) return cuCtxGetCurrent(context);
  Stream* known = stream_of(stream);
  if (!known) return INVALID_HANDLE;
  *context = known->context;
  return SUCCESS;
}
API CUresult cuStreamIsCapturing(void* stream, int* status) {
  LOCK;
  Stream* known = stream_of(stream);
  if (!known) return INVALID_HANDLE;
  *status = known->capturing;
  return SUCCESS;
}
API CUresult cuCtxGetDevice(int* device) {
  if (current.empty()) return INVALID_CONTEXT;
  *device = current.back()->number;
  return SUCCESS;
}
// Memory of the stand-in's has no device of its own: the test says which one addresses are on.
API CUresult cuPointerGetAttribute(void* value, int attribute, uint64_t address) {
  LOCK;
  if (attribute == 7) {  // the number of the memory, which comes once
    const auto found = pinned.find((void*)address);
    if (found == pinned.end()) return INVALID_VALUE;
    *(uint64_t*)value = found->second.number;
    return SUCCESS;
  }
  if (attribute != 9 || !address || device_of_addresses < 0) return INVALID_VALUE;
  *(int*)value = device_of_addresses;
  return SUCCESS;
}
API CUresult cuThreadExchangeStreamCaptureMode(int* mode) {
  std::swap(*mode, capture_mode);
  return SUCCESS;
}
API CUresult cuModuleLoadData(void** module, const char* image) {
  LOCK;
  if (current.empty()) return INVALID_CONTEXT;
  for (Stream& stream : stream_list) {
    if (stream.capturing) return CAPTURE_UNSUPPORTED;
  }
  if (!strstr(image, ".version 7.0\n") || !strstr(image, ".target sm_70\n")) return INVALID_IMAGE;
  ++counts[LOADED];
  *module = current.back();
  return SUCCESS;
}
// STAND_IN_PTX: no PTX is good enough for the compiler, which says so.
API CUresult cuModuleLoadDataEx(void** module, const char* image, unsigned n_options, const int* options, void** values) {
  const int ERROR_LOG = 5, ERROR_LOG_BYTES = 6, INVALID_PTX = 218;
  char* log = nullptr;
  size_t bytes = 0;
  for (unsigned i = 0; i < n_options; ++i) {
    if (options[i] == ERROR_LOG) log = (char*)values[i];
    if (options[i] == ERROR_LOG_BYTES) bytes = (size_t)values[i] & 0xffffffffu;
  }
  if (!getenv("STAND_IN_PTX")) return cuModuleLoadData(module, image);
  if (log) snprintf(log, bytes, "ptxas application ptx input, line 9; fatal   : Parsing error near '.oops'\n");
  return INVALID_PTX;
}
API CUresult cuModuleGetFunction(void** function, void* module, const char* name) {
  LOCK;
  Context* context = (Context*)module;
  for (size_t i = 0; i < on_cpu::n_source_kernels; ++i) {
    if (strcmp(on_cpu::source_kernels[i].name, name) == 0) {
      *function = new Function{&on_cpu::source_kernels[i], context, context->life};
      return SUCCESS;
    }
  }
  return NOT_FOUND;
}
API CUresult cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                            unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** parameters,
                            void**) {
  LOCK;
  const Function* loaded = (const Function*)function;
  if (current.empty() || loaded->context != current.back() || loaded->life != loaded->context->life) return INVALID_HANDLE;
  const on_cpu::Kernel* kernel = loaded->kernel;
  if (grid_x == 0 || grid_x > 0x7fffffffu || grid_y != 1 || grid_z != 1 || block_x == 0 || block_x > 1024 ||
      block_y != 1 || block_z != 1 || shared_bytes > 48 << 10) {
    return INVALID_VALUE;
  }
  // Parameters are the driver's own from here on.
  const std::string parameter((const char*)parameters[0], kernel->bytes);
  return put(stream, [=] {
    const on_cpu::Kernel* chosen = use_ptx ? nullptr : kernel;
    for (size_t i = 0; use_ptx && i < on_cpu::n_ptx_kernels; ++i) {
      const on_cpu::Kernel& translated = on_cpu::ptx_kernels[i];
      if (strcmp(translated.name, kernel->name) == 0 && translated.bytes == kernel->bytes) chosen = &translated;
    }
    if (!chosen) {
      failure = std::string(kernel->name) + ": not in the PTX, or with another parameter";
      return;
    }
    ++counts[LAUNCHED];
    // As aligned as a parameter of 8-byte numbers is.
    std::vector<uint64_t> aligned((kernel->bytes + 7) / 8);
    memcpy(aligned.data(), parameter.data(), kernel->bytes);
    const char* error = on_cpu::launch(*chosen, grid_x, block_x, shared_bytes, aligned.data(), order, seed++);
    if (error && failure.empty()) failure = error;
  }, true);
}
API CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
  return put(stream, [=] {
    ++counts[COPIED];
    memcpy((void*)to, from, bytes);
  });
}
API CUresult cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
  return put(stream, [=] { memset((void*)to, value, bytes); });
}
// Of device memory, that of the current context's device.
API CUresult cuMemPoolCreate(void** pool, const int* properties) {
  LOCK;
  if (current.empty()) return INVALID_CONTEXT;
  // Pinned, without a handle for others, on a device.
  if (properties[0] != 1 || properties[1] != 0 || properties[2] != 1 || properties[3] != current.back()->number) {
    return INVALID_VALUE;
  }
  if (no_pools) return NOT_SUPPORTED;
  *pool = new Pool{current.back(), current.back()->life, 0};
  return SUCCESS;
}
API CUresult cuMemPoolSetAttribute(void* pool, int attribute, void* value) {
  if (attribute != 4) return INVALID_VALUE;
  ((Pool*)pool)->kept = *(uint64_t*)value;
  return SUCCESS;
}
API CUresult cuMemAllocFromPoolAsync(uint64_t* address, size_t bytes, void* pool, void* stream) {
  LOCK;
  const Pool* from = (const Pool*)pool;
  if (current.empty() || from->context != current.back() || from->life != from->context->life) return INVALID_HANDLE;
  if (from->kept != UINT64_MAX) return INVALID_VALUE;
  if (bytes > (size_t)1 << 36) return OUT_OF_MEMORY;
  void* memory = aligned_alloc(512, (bytes + 511) / 512 * 512);
  memset(memory, 0xCB, bytes);
  allocations[memory] = bytes;
  ++counts[ALLOCATED];
  *address = (uint64_t)memory;
  return put(stream, [] {});
}
API CUresult cuMemFreeAsync(uint64_t address, void* stream) {
  return put(stream, [=] {
    ++counts[FREED];
    memset((void*)address, 0xEE, allocations[(void*)address]);  // it stays, so that a graph can be run again
  });
}
API CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned flags) {
  LOCK;
  if (flags != 3) return INVALID_VALUE;  // portable, and mapped: kernels write to it
  if (breaks_a_capture()) return CAPTURE_UNSUPPORTED;
  if (current.empty()) return INVALID_CONTEXT;
  counts[PINNED] += bytes;
  *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (*memory == MAP_FAILED) return OUT_OF_MEMORY;
  pinned[*memory] = {bytes, current.back(), ++last_number};
  return SUCCESS;
}
API CUresult cuMemFreeHost(void* memory) {
  LOCK;
  const auto found = pinned.find(memory);
  if (found == pinned.end()) return INVALID_VALUE;
  munmap(memory, found->second.bytes);
  pinned.erase(found);
  return SUCCESS;
}
API CUresult cuEventCreate(void** event, unsigned) {
  if (current.empty()) return INVALID_CONTEXT;
  *event = new Event{true, current.back(), current.back()->life};
  return SUCCESS;
}
API CUresult cuEventRecord(void* event, void* stream) {
  LOCK;
  if (((Event*)event)->life != ((Event*)event)->context->life) return INVALID_HANDLE;
  ((Event*)event)->passed = false;
  return put(stream, [=] { ((Event*)event)->passed = true; });
}
API CUresult cuEventQuery(void* event) {
  LOCK;
  ++queried;
  if (breaks_a_capture()) return CAPTURE_UNSUPPORTED;
  if (((Event*)event)->life != ((Event*)event)->context->life) return INVALID_HANDLE;
  return ((Event*)event)->passed ? SUCCESS : NOT_READY;
}

// What the tests call.

// The fourth on are the default streams of the contexts.
API void* stand_in_stream(int i) { return i < 4 ? &stream_list[i] : &default_streams[i - 4]; }
API int stand_in_retained() { return retained; }
API void stand_in_set(int new_order, int new_use_ptx) { LOCK; order = new_order, use_ptx = new_use_ptx; }
API void stand_in_device_of_addresses(int device) { LOCK; device_of_addresses = device; }
// Resets the context of a stream, as cudaDeviceReset does: its address and that of the stream come again, what was made
// in it is gone. Its pinned memory is out of reach from then on, or (taken) somebody else's.
API void stand_in_reset(void* stream, int taken) {
  LOCK;
  Context* context = stream_of(stream)->context;
  ++context->life;
  for (auto at = pinned.begin(); at != pinned.end();) {
    if (at->second.context != context) {
      ++at;
    } else if (taken) {
      memset(at->first, 0x77, at->second.bytes);
      at->second.number = ++last_number;
      ++at;
    } else {
      mprotect(at->first, at->second.bytes, PROT_NONE);
      at = pinned.erase(at);
    }
  }
}
API int stand_in_capture_mode() { return capture_mode; }
API void stand_in_no_pools(int without) { LOCK; no_pools = without; }
API void stand_in_fail(int call) { LOCK; fail_call = call; }
API const unsigned long long* stand_in_counts() { return counts; }
#ifdef COUNT_INSTRUCTIONS
API on_cpu::Executed stand_in_executed() { LOCK; return on_cpu::executed(); }
#endif
API unsigned long long stand_in_queried() { return queried; }
// Does what is on a stream; null, or what went wrong.
API const char* stand_in_run(void* stream) {
  LOCK;
  static std::string told;
  failure.clear();
  Stream* from = stream_of(stream);
  while (!from->queue.empty()) {
    from->queue.front().run();
    from->queue.pop_front();
  }
  told = failure;
  return told.empty() ? nullptr : told.c_str();
}
// Does the next things that are on a stream.
API void stand_in_run_some(void* stream, int count) {
  LOCK;
  Stream* from = stream_of(stream);
  for (; count > 0 && !from->queue.empty(); --count) {
    from->queue.front().run();
    from->queue.pop_front();
  }
}
// Throws away what is on a stream.
API void stand_in_forget(void* stream) { LOCK; stream_of(stream)->queue.clear(); }
API void stand_in_begin_capture(void* stream) { LOCK; stream_of(stream)->graph.clear(), stream_of(stream)->capturing = true; }
API void stand_in_end_capture(void* stream) { LOCK; stream_of(stream)->capturing = false; }
// Puts what was captured on a stream onto it.
API void stand_in_replay(void* stream) {
  LOCK;
  for (Work& work : stream_of(stream)->graph) stream_of(stream)->queue.push_back(work);
}
// Runs one of the deliberate mistakes.
API const char* stand_in_mistake(const char* name, int order, const void* parameter) {
  LOCK;
  for (size_t i = 0; i < on_cpu::n_source_kernels; ++i) {
    const on_cpu::Kernel& kernel = on_cpu::source_kernels[i];
    if (strcmp(kernel.name, name) == 0) return on_cpu::launch(kernel, 1, 64, 256, parameter, order, 7);
  }
  return "no such kernel";
}

#include "application.h"
