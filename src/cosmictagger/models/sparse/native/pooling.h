// Maximum over active children, and copies to them, forward and backward.
#pragma once

#include "simd.h"

namespace cosmictagger {

// The maximum over active children, and the slot that holds it.
template <class T>
void pool(const T* values, const int32_t* children, int64_t parents, int channels, T* result, uint8_t* slot, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t parent = 0; parent < parents; ++parent) {
    const int32_t* child = children + 4 * parent;
    T* best = result + parent * channels;
    uint8_t* from = slot + parent * channels;
    int s = 0;
    while (child[s] < 0) ++s;
    std::memcpy(best, values + static_cast<int64_t>(child[s]) * channels, sizeof(T) * channels);
    std::memset(from, s, channels);
    for (++s; s < 4; ++s) {
      if (child[s] < 0) continue;
      const T* x = values + static_cast<int64_t>(child[s]) * channels;
      for (int c = 0; c < channels; ++c) {
        bool larger = x[c] > best[c];
        best[c] = larger ? x[c] : best[c];
        from[c] = larger ? static_cast<uint8_t>(s) : from[c];
      }
    }
  }
}

template <class T>
void pool_slopes(const T* slope, const uint8_t* slot, const int32_t* family, int64_t sites, int channels, T* result, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t site = 0; site < sites; ++site) {
    int64_t parent = family[site] >> 2;
    uint8_t own = family[site] & 3;
    const T* dy = slope + parent * channels;
    const uint8_t* from = slot + parent * channels;
    T* dx = result + site * channels;
    for (int c = 0; c < channels; ++c) dx[c] = from[c] == own ? dy[c] : T(0);
  }
}

template <class T>
void unpool(const T* values, const int32_t* family, int64_t sites, int channels, T* result, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t site = 0; site < sites; ++site)
    std::memcpy(result + site * channels, values + static_cast<int64_t>(family[site] >> 2) * channels, sizeof(T) * channels);
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
