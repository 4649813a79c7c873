// What PTX instructions do, for the C++ that ptx_to_cpp.py makes of them.

#pragma once

#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include "cuda_on_cpu.h"

#ifdef COUNT_INSTRUCTIONS
#define COUNT(block) on_cpu::count(block)
#else
#define COUNT(block)
#endif

namespace ptx {

// Registers have a size and no type: an operand is taken as what the instruction says.
template <class To, class From> inline To as(From from) {
  if constexpr (sizeof(To) == sizeof(From) && !std::is_same_v<To, bool>) {
    return on_cpu::bits_to<To>(from);
  } else {
    return (To)from;
  }
}

inline void check_alignment(uint64_t address, size_t bytes) {
  if (address % bytes == 0) return;
  fprintf(stderr, "misaligned access of %zu bytes at %#llx\n", bytes, (unsigned long long)address);
  abort();
}
template <class T> inline T load(uint64_t address) {
  check_alignment(address, sizeof(T));
  T value;
  memcpy(&value, (const void*)address, sizeof value);
  return value;
}
template <class T> inline void store(uint64_t address, T value) {
  check_alignment(address, sizeof(T));
  memcpy((void*)address, &value, sizeof value);
}

template <class T> inline T shift_left(T value, uint32_t by) { return by >= 8 * sizeof(T) ? 0 : (T)(value << by); }
template <class T> inline T shift_right(T value, uint32_t by) {
  return by >= 8 * sizeof(T) ? (T)(value < 0 ? -1 : 0) : (T)(value >> by);
}
template <class T> inline T insert_bits(T from, T into, uint32_t at, uint32_t count) {
  at &= 255, count &= 255;
  for (uint32_t i = 0; i < count && at + i < 8 * sizeof(T); ++i) {
    into = (T)((into & ~((T)1 << (at + i))) | (T)((from >> i & 1) << (at + i)));
  }
  return into;
}
// A conversion to an integer clamps, and takes NaN as 0.
template <class T> inline T to_integer(float rounded) {
  if (rounded != rounded) return 0;
  const double value = rounded, least = std::is_signed_v<T> ? -2147483648.0 : 0.0;
  const double most = std::is_signed_v<T> ? 2147483647.0 : 4294967295.0;
  return (T)(value < least ? least : value > most ? most : value);
}

// `mode`: 'b' exchanges lanes by xor, 'u' takes from lower ones. `whole`: whether there was such a lane.
template <char mode> inline uint32_t shuffle(uint32_t value, uint32_t by, uint32_t clamp, uint32_t mask, bool& whole) {
  const uint64_t* all = on_cpu::meet_warp(mask, value, "shfl.sync");
  const int lane = (int)on_cpu::lane(), segment = (int)(clamp >> 8 & 31), limit = (lane & segment) | ((int)(clamp & 31) & ~segment);
  const int from = mode == 'b' ? lane ^ (int)(by & 31) : lane - (int)(by & 31);
  whole = mode == 'b' ? from <= limit : from >= limit;
  return (uint32_t)all[whole ? from : lane];
}

}  // namespace ptx
