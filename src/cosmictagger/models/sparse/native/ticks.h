// What the sites of a tick have in common: their maximum, and what is added to all of them, forward and backward.
//
// Sites are in the order of plane, tick, wire: those of tick t (of all ticks of all planes) are starts[t] ...
// starts[t + 1].
#pragma once

#include "simd.h"

namespace cosmictagger {

// Join the values of the sites of each tick, and 0, channel by channel: total = join(total, value).
template <class T, class Join>
void fold_ticks(const T* values, const int32_t* starts, int64_t ticks, int channels, T* result, int threads, Join join) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t tick = 0; tick < ticks; ++tick) {
    T* total = result + tick * channels;
    std::fill_n(total, channels, T(0));
    for (int64_t site = starts[tick]; site < starts[tick + 1]; ++site) {
      const T* x = values + site * channels;
#pragma omp simd
      for (int c = 0; c < channels; ++c) total[c] = join(total[c], x[c]);
    }
  }
}

// The maximum over the sites of each tick, or 0 where that is more.
template <class T>
void tick_maximum(const T* values, const int32_t* starts, int64_t ticks, int channels, T* result, int threads) {
  fold_ticks(values, starts, ticks, channels, result, threads,
             [](T most, T x) { return x > most || x != x ? x : most; });  // lets NaN pass
}

// The sites that have the maximum share its slope.
template <class T>
void tick_maximum_slopes(const T* values, const T* result, const T* slope, const int32_t* starts, int64_t ticks,
                         int channels, T* by_values, int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> counts(channels);
    T* share = counts.data();
#pragma omp for schedule(static)
    for (int64_t tick = 0; tick < ticks; ++tick) {
      const T *most = result + tick * channels, *dy = slope + tick * channels;
      std::fill_n(share, channels, T(0));
      for (int64_t site = starts[tick]; site < starts[tick + 1]; ++site) {
        const T* x = values + site * channels;
#pragma omp simd
        for (int c = 0; c < channels; ++c) share[c] += x[c] == most[c] ? T(1) : T(0);
      }
      for (int c = 0; c < channels; ++c) share[c] = share[c] > 0 ? dy[c] / share[c] : T(0);
      for (int64_t site = starts[tick]; site < starts[tick + 1]; ++site) {
        const T* x = values + site * channels;
        T* dx = by_values + site * channels;
#pragma omp simd
        for (int c = 0; c < channels; ++c) dx[c] = x[c] == most[c] ? share[c] : T(0);
      }
    }
  }
}

// Add a row of `rows` [ticks, channels] to all sites of its tick.
template <class T>
void add_to_ticks(const T* values, const T* rows, const int32_t* starts, int64_t ticks, int channels, T* result,
                  int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t tick = 0; tick < ticks; ++tick) {
    const T* more = rows + tick * channels;
    for (int64_t site = starts[tick]; site < starts[tick + 1]; ++site) {
      const T* x = values + site * channels;
      T* y = result + site * channels;
#pragma omp simd
      for (int c = 0; c < channels; ++c) y[c] = x[c] + more[c];
    }
  }
}

// Sum the slopes of the sites of each tick.
template <class T>
void add_to_ticks_slopes(const T* slope, const int32_t* starts, int64_t ticks, int channels, T* by_rows, int threads) {
  fold_ticks(slope, starts, ticks, channels, by_rows, threads, [](T total, T dy) { return total + dy; });
}

}  // namespace cosmictagger
