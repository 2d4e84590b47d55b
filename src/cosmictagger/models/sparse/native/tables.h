// Tables of site sets: neighbours, levels below, and the rules made of such tables.
#pragma once

#include "pixels.h"
#include "rules.h"
#include "shares.h"

namespace cosmictagger {

// The pairs of a tile, sorted by tap while they are found.
class TileRules {
 public:
  explicit TileRules(int taps) : count_(taps), source_(static_cast<size_t>(taps) * TILE), target_(source_.size()) {}

  // A pair of the tap, or with `hit` 0 nothing: a branch would be mispredicted half of the time.
  void add(int tap, int32_t source, int target, int32_t hit) {
    int64_t at = static_cast<int64_t>(tap) * TILE + count_[tap];
    source_[at] = source;
    target_[at] = static_cast<uint8_t>(target);
    count_[tap] += hit;
  }

  // Write starts [taps + 1], and the pairs into the tile's part of all pairs, which has room for TILE of each tap.
  void write(int64_t tile, int32_t* starts, int32_t* source, uint8_t* target) const {
    auto taps = static_cast<int64_t>(count_.size());
    int64_t at = tile * TILE * taps;
    starts += tile * (taps + 1);
    for (int64_t k = 0; k < taps; ++k) {
      starts[k] = static_cast<int32_t>(at);
      std::copy_n(source_.data() + k * TILE, count_[k], source + at);
      std::copy_n(target_.data() + k * TILE, count_[k], target + at);
      at += count_[k];
    }
    starts[taps] = static_cast<int32_t>(at);
  }

 private:
  std::vector<int> count_;
  std::vector<int32_t> source_;
  std::vector<uint8_t> target_;
};

// Write the rules of a table [outputs, taps] of input sites (-1: none).
inline void table_rules(const int32_t* table, int64_t outputs, int taps, int32_t* starts, int32_t* source,
                        uint8_t* target, int threads) {
  in_shares((outputs + TILE - 1) / TILE, threads, [&](int64_t tile) {
    TileRules rules(taps);
    for (int64_t row = tile * TILE; row < std::min(outputs, (tile + 1) * TILE); ++row)
      for (int k = 0; k < taps; ++k) {
        int32_t from = table[row * taps + k];
        rules.add(k, from, static_cast<int>(row - tile * TILE), from >= 0);
      }
    rules.write(tile, starts, source, target);
  });
}

// Call visit(tap, neighbour, hit) for the taps of a size x size kernel about a site, where `hit` is 1 if there is such a
// neighbour and 0 if not.
template <class Size, class Visit>
inline void each_neighbour(const SiteSet& set, const PixelMap& map, Size size, int64_t site, Visit visit) {
  int reach = size / 2, tick = set.pixel[site] / set.width, wire = set.pixel[site] - tick * set.width;
  for (int dt = 0; dt < size; ++dt) {
    Window window = map.about(set.plane[site], tick + dt - reach, wire);
    for (int dw = 0; dw < size; ++dw, window.bits >>= 1) {
      auto hit = static_cast<int32_t>(window.bits & 1);
      visit(dt * size + dw, window.first, hit);
      window.first += hit;
    }
  }
}

// Call run(size) with the usual sizes as constants of the compiler.
template <class Run>
void with_size(int size, Run run) {
  switch (size) {
    case 3: run(std::integral_constant<int, 3>()); break;
    case 5: run(std::integral_constant<int, 5>()); break;
    default: run(size);
  }
}

// Write the rules of a size x size convolution on the sites.
inline void neighbour_rules(const SiteSet& set, int size, int32_t* starts, int32_t* source, uint8_t* target,
                            int threads) {
  PixelMap map(set, size / 2, threads);
  with_size(size, [&](auto size) {
    in_shares((set.sites + TILE - 1) / TILE, threads, [&](int64_t tile) {
      TileRules rules(size * size);
      for (int64_t site = tile * TILE; site < std::min(set.sites, (tile + 1) * TILE); ++site)
        each_neighbour(set, map, size, site, [&](int tap, int32_t other, int32_t hit) {
          rules.add(tap, other, static_cast<int>(site - tile * TILE), hit);
        });
      rules.write(tile, starts, source, target);
    });
  });
}

// The neighbours of all sites [sites, size * size], -1 where there is none.
inline void neighbours(const SiteSet& set, int size, int32_t* table, int threads) {
  PixelMap map(set, size / 2, threads);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t site = 0; site < set.sites; ++site) {
    int32_t* row = table + site * size * size;
    each_neighbour(set, map, size, site,
                   [=](int tap, int32_t other, int32_t hit) { row[tap] = (other & -hit) | (hit - 1); });
  }
}

// The sums of the charge [sites] of each site and its neighbours under a size x size kernel.
inline void neighbour_sums(const SiteSet& set, int size, const float* charge, float* sums, int threads) {
  PixelMap map(set, size / 2, threads);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t site = 0; site < set.sites; ++site) {
    float sum = 0;
    each_neighbour(set, map, size, site,
                   [&](int, int32_t other, int32_t hit) { sum += hit ? charge[other] : 0.0f; });
    sums[site] = sum;
  }
}

// Halve the resolution; returns the number of sites below. All outputs have room for `sites` entries (children: 4x).
inline int64_t pool_sites(const int32_t* plane, const int32_t* pixel, int64_t sites, int width,
                          int32_t* plane_below, int32_t* pixel_below, int32_t* family, int32_t* children) {
  int64_t below = 0, s = 0;
  int half = width / 2;
  while (s < sites) {
    // The two rows of pixels that become one.
    int32_t p = plane[s];
    int tick = pixel[s] / width / 2;
    int64_t second = s;
    while (second < sites && plane[second] == p && pixel[second] < (2 * tick + 1) * width) ++second;
    int64_t end = second;
    while (end < sites && plane[end] == p && pixel[end] < (2 * tick + 2) * width) ++end;
    int64_t upper = s, lower = second;
    while (upper < second || lower < end) {
      int a = upper < second ? (pixel[upper] - 2 * tick * width) / 2 : half;
      int b = lower < end ? (pixel[lower] - (2 * tick + 1) * width) / 2 : half;
      int column = std::min(a, b);
      int32_t* child = children + 4 * below;
      child[0] = child[1] = child[2] = child[3] = -1;
      plane_below[below] = p;
      pixel_below[below] = tick * half + column;
      for (; upper < second && (pixel[upper] - 2 * tick * width) / 2 == column; ++upper) {
        int slot = pixel[upper] & 1;
        family[upper] = static_cast<int32_t>(4 * below + slot);
        child[slot] = static_cast<int32_t>(upper);
      }
      for (; lower < end && (pixel[lower] - (2 * tick + 1) * width) / 2 == column; ++lower) {
        int slot = 2 + (pixel[lower] & 1);
        family[lower] = static_cast<int32_t>(4 * below + slot);
        child[slot] = static_cast<int32_t>(lower);
      }
      ++below;
    }
    s = end;
  }
  return below;
}

}  // namespace cosmictagger
