// Where the active pixels are: a bit for each pixel, and how many come before each word of bits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "shares.h"

namespace cosmictagger {

// Sites in the order of plane, tick, wire.
struct SiteSet {
  const int32_t *plane, *pixel;  // the pixel is tick * width + wire
  int64_t sites;
  int planes, height, width;
};

// Active pixels of a row near a wire: a bit for each, and the number of the first site at or after the lowest bit.
struct Window {
  uint64_t bits;
  int32_t first;
};

// The map has a margin of `reach` pixels, at most 31, on all sides, so that no kernel asks for what lies beyond it.
class PixelMap {
 public:
  PixelMap(const SiteSet& set, int reach, int threads)
      : reach_(reach),
        height_(set.height + 2 * reach),
        words_((set.width + 2 * reach) / 64 + 1),
        bits_(static_cast<size_t>(set.planes) * height_ * words_ + 1),
        before_(bits_.size()) {
    in_shares(set.planes, threads, [&](int64_t plane) {
      const int32_t* begin = std::lower_bound(set.plane, set.plane + set.sites, static_cast<int32_t>(plane));
      const int32_t* end = std::upper_bound(begin, set.plane + set.sites, static_cast<int32_t>(plane));
      uint64_t* rows = bits_.data() + plane * height_ * words_;
      int32_t* before = before_.data() + plane * height_ * words_;
      for (int64_t s = begin - set.plane; s < end - set.plane; ++s) {
        int tick = set.pixel[s] / set.width, bit = set.pixel[s] - tick * set.width + reach;
        rows[static_cast<int64_t>(tick + reach) * words_ + bit / 64] |= uint64_t(1) << bit % 64;
      }
      auto count = static_cast<int32_t>(begin - set.plane);
      for (int64_t word = 0; word < static_cast<int64_t>(height_) * words_; ++word) {
        before[word] = count;
        count += __builtin_popcountll(rows[word]);
      }
    });
  }

  // The 2 * reach + 1 pixels about a wire of a row, which may lie up to `reach` outside the image.
  Window about(int64_t plane, int tick, int wire) const {
    int64_t word = (plane * height_ + tick + reach_) * words_ + wire / 64;
    int shift = wire % 64;
    uint64_t low = bits_[word], high = bits_[word + 1] << 1 << (63 - shift);
    uint64_t earlier = low & ((uint64_t(1) << shift) - 1);
    return {low >> shift | high, before_[word] + __builtin_popcountll(earlier)};
  }

 private:
  int reach_, height_, words_;
  std::vector<uint64_t> bits_;
  std::vector<int32_t> before_;
};

}  // namespace cosmictagger
