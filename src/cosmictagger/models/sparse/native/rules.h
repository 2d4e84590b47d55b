// The rules of a convolution: which input sites add to which output sites, tile by tile and tap by tap.
#pragma once

#include "simd.h"

namespace cosmictagger {

constexpr int TILE = 128;        // output sites of a tile; their number within it fits a byte

struct Rules {
  int64_t outputs;
  int taps;
  const int32_t* starts;  // [tiles][taps + 1]; null: every output has one input, the site of the same number
  const int32_t* source;
  const uint8_t* target;
  int64_t tiles() const { return (outputs + TILE - 1) / TILE; }
};

struct Pairs {
  int count;
  const int32_t* source;
  const uint8_t* target;
};

// The pairs of one tile and tap; `scratch` holds those of a convolution without rules.
struct Scratch {
  int32_t source[TILE];
  uint8_t target[TILE];
};

inline Pairs pairs_of(const Rules& rules, int64_t tile, int tap, Scratch& scratch) {
  if (rules.starts) {
    const int32_t* start = rules.starts + tile * (rules.taps + 1) + tap;
    return {start[1] - start[0], rules.source + start[0], rules.target + start[0]};
  }
  int count = static_cast<int>(std::min<int64_t>(TILE, rules.outputs - tile * TILE));
  for (int i = 0; i < count; ++i) {
    scratch.source[i] = static_cast<int32_t>(tile * TILE + i);
    scratch.target[i] = static_cast<uint8_t>(i);
  }
  return {count, scratch.source, scratch.target};
}

}  // namespace cosmictagger
