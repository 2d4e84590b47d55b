// What all kernels share: the width of vectors and the types that describe a problem.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace cosmictagger {

#ifdef __AVX512F__
constexpr int VECTOR_BYTES = 64, REGISTERS = 32;
#else
constexpr int VECTOR_BYTES = 32, REGISTERS = 16;
#endif

template <class T>
struct Simd {
  typedef T V __attribute__((vector_size(VECTOR_BYTES)));
  typedef T Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int LANES = VECTOR_BYTES / sizeof(T);
  static V load(const T* from) { return *reinterpret_cast<const Unaligned*>(from); }
  static void store(T* to, V value) { *reinterpret_cast<Unaligned*>(to) = value; }
};

// A vector of one number, for what is left over behind whole ones.
template <class T>
struct Single {
  typedef T V;
  static constexpr int LANES = 1;
  static V load(const T* from) { return *from; }
  static void store(T* to, V value) { *to = value; }
};

// vector * x0 x0 x0 ..., or with a GROUP of two, vector * x0 x1 x0 x1 ...
template <class T, int GROUP>
inline typename Simd<T>::V scaled(typename Simd<T>::V vector, const T* x) {
  if constexpr (GROUP == 1) {
    return *x * vector;
  } else {
    static_assert(GROUP == 2 && sizeof(T) == 4, "two floats move as one double, whose value does not matter");
    double d;
    std::memcpy(&d, x, sizeof d);
#ifdef __AVX512F__
    typename Simd<double>::V pairs = {d, d, d, d, d, d, d, d};
#else
    typename Simd<double>::V pairs = {d, d, d, d};
#endif
    return (typename Simd<T>::V)pairs * vector;
  }
}

// Fetch memory into the cache that will be written. Processors do so by themselves, long before, with memory that is read.
template <class T>
inline void fetch_to_write(const T* at) {
  __builtin_prefetch(at, 1, 2);
}

constexpr int LINE_BYTES = 64;     // of a line of the caches
constexpr int AHEAD_BYTES = 2048;  // how far ahead of a pass to fetch

}  // namespace cosmictagger
