// Where wires of three planes cross, at one tick: see models/crossings.py for what is computed.
//
// Sites are in the order of image, plane, tick, wire: those of a tick of a plane of an image are starts[row] ...
// starts[row + 1], row = (image * 3 + plane) * height + tick.
#pragma once

#include "simd.h"

namespace cosmictagger {

struct Images {
  const int32_t* pixel;   // tick * width + wire of each site
  const int32_t* starts;  // [images * 3 * height + 1]
  int images, height, width;
};

// A plane at one tick, each wire with the largest values of itself and its two neighbours, and whose they are.
template <class T>
class Widened {
 public:
  Widened(int width, int channels) : width(width), channels(channels), held(width), value(size_t(width) * channels),
                                     owner(size_t(width) * channels) {}

  void fill(const T* values, const int32_t* pixel, int32_t first, int32_t end) {
    std::fill(held.begin(), held.end(), uint8_t(0));
    for (int32_t site = first; site < end; ++site) {
      const T* x = values + int64_t(site) * channels;
      int wire = pixel[site] % width;
      for (int near = std::max(wire - 1, 0); near <= std::min(wire + 1, width - 1); ++near) {
        T* best = value.data() + size_t(near) * channels;
        int32_t* whose = owner.data() + size_t(near) * channels;
        if (!held[near]) {
          held[near] = 1;
          std::copy_n(x, channels, best);
          std::fill_n(whose, channels, site);
          continue;
        }
        for (int c = 0; c < channels; ++c) {
          bool better = x[c] > best[c];
          best[c] = better ? x[c] : best[c];
          whose[c] = better ? site : whose[c];
        }
      }
    }
  }

  // For the site at `wire`: join each site of the other plane with the wire that `cross` tells.
  template <class Cross>
  void join(const T* values, const int32_t* pixel, int32_t first, int32_t end, Cross cross, T* best,
            int32_t* source) const {
    for (int32_t site = first; site < end; ++site) {
      int crossing = cross(pixel[site] % width);
      if (crossing < 0 || crossing >= width || !held[crossing]) continue;
      const T *a = values + int64_t(site) * channels, *b = value.data() + size_t(crossing) * channels;
      const int32_t* whose = owner.data() + size_t(crossing) * channels;
#pragma omp simd
      for (int c = 0; c < channels; ++c) {
        T less = a[c] <= b[c] ? a[c] : b[c];
        int32_t of = a[c] <= b[c] ? site : whose[c];
        bool better = less > best[c];
        source[c] = better ? of : source[c];
        best[c] = better ? less : best[c];
      }
    }
  }

 private:
  int width, channels;
  std::vector<uint8_t> held;
  std::vector<T> value;
  std::vector<int32_t> owner;
};

// For each site the largest, over the crossings of its wire at its tick, of the smaller value of the other two planes:
// `result`, and in `source` the site that has it, or -1 (both [sites, channels]).
template <class T>
void crossing_maximum(const T* values, const Images& at, int channels, int offset, T* result, int32_t* source,
                      int threads) {
#pragma omp parallel num_threads(threads)
  {
    Widened<T> second(at.width, channels), third(at.width, channels);
#pragma omp for schedule(static)
    for (int row = 0; row < at.images * at.height; ++row) {
      int image = row / at.height, tick = row % at.height;
      int32_t first[3], end[3];
      for (int plane = 0; plane < 3; ++plane) {
        int64_t start = (int64_t(image) * 3 + plane) * at.height + tick;
        first[plane] = at.starts[start], end[plane] = at.starts[start + 1];
        std::fill_n(result + int64_t(first[plane]) * channels, int64_t(end[plane] - first[plane]) * channels, T(0));
        std::fill_n(source + int64_t(first[plane]) * channels, int64_t(end[plane] - first[plane]) * channels, -1);
      }
      int empty = (first[0] == end[0]) + (first[1] == end[1]) + (first[2] == end[2]);
      if (empty > 1) continue;
      second.fill(values, at.pixel, first[1], end[1]);
      third.fill(values, at.pixel, first[2], end[2]);
      for (int plane = 0; plane < 3; ++plane) {
        int other = plane == 0 ? 1 : 0;
        for (int32_t site = first[plane]; site < end[plane]; ++site) {
          int wire = at.pixel[site] % at.width;
          T* best = result + int64_t(site) * channels;
          int32_t* whose = source + int64_t(site) * channels;
          if (plane == 2) {
            second.join(values, at.pixel, first[0], end[0], [&](int w) { return wire + offset - w; }, best, whose);
          } else {
            third.join(values, at.pixel, first[other], end[other], [&](int w) { return wire + w - offset; }, best,
                       whose);
          }
        }
      }
    }
  }
}

// Each slope goes to the site whose value it was.
template <class T>
void crossing_maximum_slopes(const T* slope, const int32_t* source, const Images& at, int channels, T* by_values,
                             int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int row = 0; row < at.images * at.height; ++row) {
    int64_t start = int64_t(row / at.height) * 3 * at.height + row % at.height;
    // All three planes to zero before any adds to another.
    for (int plane = 0; plane < 3; ++plane) {
      int32_t first = at.starts[start + plane * at.height], end = at.starts[start + plane * at.height + 1];
      std::fill_n(by_values + int64_t(first) * channels, int64_t(end - first) * channels, T(0));
    }
    for (int plane = 0; plane < 3; ++plane) {
      int32_t first = at.starts[start + plane * at.height], end = at.starts[start + plane * at.height + 1];
      for (int64_t site = first; site < end; ++site) {
        const T* dy = slope + site * channels;
        const int32_t* whose = source + site * channels;
        for (int c = 0; c < channels; ++c) {
          if (whose[c] >= 0) by_values[int64_t(whose[c]) * channels + c] += dy[c];
        }
      }
    }
  }
}

}  // namespace cosmictagger
