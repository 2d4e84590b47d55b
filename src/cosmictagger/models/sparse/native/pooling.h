// Maximum over active children, and copies to them, forward and backward.
#pragma once

#include "simd.h"

namespace cosmictagger {

// Eight channels at a time: their values, and as many integers of the same width to compare and select with.
template <class T>
struct Eight {
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T V __attribute__((vector_size(8 * sizeof(T))));
  typedef T Unaligned __attribute__((vector_size(8 * sizeof(T)), aligned(sizeof(T)), may_alias));
  typedef Integer I __attribute__((vector_size(8 * sizeof(T))));
  typedef uint8_t Bytes __attribute__((vector_size(8), aligned(1), may_alias));
  static V load(const T* from) { return *reinterpret_cast<const Unaligned*>(from); }
  static void store(T* to, V value) { *reinterpret_cast<Unaligned*>(to) = value; }
  static I slots(const uint8_t* from) { return __builtin_convertvector(*reinterpret_cast<const Bytes*>(from), I); }
  static void slots(uint8_t* to, I slot) { *reinterpret_cast<Bytes*>(to) = __builtin_convertvector(slot, Bytes); }
};

// The maximum over active children, and the slot that holds it.
template <class T>
void pool(const T* values, const int32_t* children, int64_t parents, int channels, T* result, uint8_t* slot, int threads) {
  using E = Eight<T>;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t parent = 0; parent < parents; ++parent) {
    const T* x[4];
    int number[4], active = 0;
    for (int s = 0; s < 4; ++s) {
      // Written always and counted where there is a child: whether there is one cannot be predicted.
      int32_t child = children[4 * parent + s];
      x[active] = values + static_cast<int64_t>(child) * channels, number[active] = s;
      active += child >= 0;
    }
    T* best = result + parent * channels;
    uint8_t* from = slot + parent * channels;
    int c = 0;
    for (; c + 8 <= channels; c += 8) {
      typename E::V most = E::load(x[0] + c);
      typename E::I where = {};
      where += number[0];
      for (int k = 1; k < active; ++k) {
        typename E::V other = E::load(x[k] + c);
        typename E::I larger = other > most;
        most = larger ? other : most;
        where = (larger & number[k]) | (~larger & where);
      }
      E::store(best + c, most);
      E::slots(from + c, where);
    }
    for (; c < channels; ++c) {
      int most = 0;
      for (int k = 1; k < active; ++k)
        if (x[k][c] > x[most][c]) most = k;
      best[c] = x[most][c], from[c] = static_cast<uint8_t>(number[most]);
    }
  }
}

template <class T>
void pool_slopes(const T* slope, const uint8_t* slot, const int32_t* family, int64_t sites, int channels, T* result, int threads) {
  using E = Eight<T>;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t site = 0; site < sites; ++site) {
    int64_t parent = family[site] >> 2;
    int own = family[site] & 3;
    const T* dy = slope + parent * channels;
    const uint8_t* from = slot + parent * channels;
    T* dx = result + site * channels;
    int c = 0;
    for (; c + 8 <= channels; c += 8)
      E::store(dx + c, E::slots(from + c) == own ? E::load(dy + c) : typename E::V{});
    for (; c < channels; ++c) dx[c] = from[c] == own ? dy[c] : T(0);
  }
}

// Copies to active children, to which `added` [sites, channels] is added where it is not null.
template <class T>
void unpool(const T* values, const int32_t* family, int64_t sites, int channels, const T* added, T* result, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t site = 0; site < sites; ++site) {
    const T* parent = values + static_cast<int64_t>(family[site] >> 2) * channels;
    T* to = result + site * channels;
    if (added) {
      const T* more = added + site * channels;
      for (int c = 0; c < channels; ++c) to[c] = parent[c] + more[c];
    } else {
      std::memcpy(to, parent, sizeof(T) * channels);
    }
  }
}

template <class T>
void unpool_slopes(const T* slope, const int32_t* children, int64_t parents, int channels, T* result, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t parent = 0; parent < parents; ++parent) {
    T* total = result + parent * channels;
    std::memset(total, 0, sizeof(T) * channels);
    for (int s = 0; s < 4; ++s) {
      int32_t child = children[4 * parent + s];
      if (child < 0) continue;
      const T* dy = slope + static_cast<int64_t>(child) * channels;
      for (int c = 0; c < channels; ++c) total[c] += dy[c];
    }
  }
}

}  // namespace cosmictagger
