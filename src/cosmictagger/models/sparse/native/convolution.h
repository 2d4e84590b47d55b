// Convolutions and their gradients by values (a convolution again), weights and bias.
#pragma once

#include "rules.h"
#include "shares.h"

namespace cosmictagger {

constexpr int MAX_VECTORS = 4;   // vectors of output channels that are computed together
constexpr int64_t PARTIAL_BYTES = 4 << 20;  // memory for partial sums of weight gradients, roughly
constexpr int MAX_CHUNKS = 16, MIN_CHUNKS = 4, CHUNK_TILES = 16;  // adding up chunks of fewer tiles takes too long

// How the output channels are cut into blocks of vectors: so many full ones, and perhaps one that channels which would
// fill half of it at most share between two input channels: its lane 2 * o + g sums what input channels of remainder g
// add to output o.
struct Blocks {
  int count, full, shared;
  template <class T>
  static Blocks of(int in, int out) {
    constexpr int LANES = Simd<T>::LANES;
    int full = out / LANES, rest = out % LANES;
    if (sizeof(T) == sizeof(float) && in % 2 == 0 && 2 * rest <= LANES && rest && full < MAX_VECTORS) return {1, full, 1};
    full += rest > 0;
    int count = (full + MAX_VECTORS - 1) / MAX_VECTORS;
    return {count, (full + count - 1) / count, 0};
  }
};

// A block at compile time.
template <class T, int FULL_, int SHARED_>
struct Block {
  using S = Simd<T>;
  static constexpr int FULL = FULL_, SHARED = SHARED_;
  static constexpr int VECTORS = FULL + SHARED;          // of a row of sums
  static constexpr int GROUP = 1 + SHARED;               // input channels that are taken together
  static constexpr int STEP = GROUP * FULL + SHARED;     // vectors of weights for a group
  static constexpr int WIDTH = VECTORS * S::LANES;
  static constexpr int CHANNELS = FULL * S::LANES + SHARED * S::LANES / 2;
  // The lane of a group's weights that has to do with an output channel and input channel g of the group.
  static int weight_lane(int o, int g) {
    int beyond = o - FULL * S::LANES;
    return beyond < 0 ? g * FULL * S::LANES + o : GROUP * FULL * S::LANES + GROUP * beyond + g;
  }
  // The lane of a row of sums or slopes for an output channel.
  static int lane(int o) {
    int beyond = o - FULL * S::LANES;
    return beyond < 0 ? o : FULL * S::LANES + GROUP * beyond;
  }
};

struct Strides {
  int64_t tap, in, out;
};

// Call run(Block) with the numbers of a block as constants of the compiler.
template <class T, class Run>
void dispatch(Blocks blocks, Run run) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (blocks.shared) switch (blocks.full) {
        case 0: return run(Block<T, 0, 1>());
        case 1: return run(Block<T, 1, 1>());
        case 2: return run(Block<T, 2, 1>());
        default: return run(Block<T, 3, 1>());
      }
  }
  switch (blocks.full) {
    case 1: return run(Block<T, 1, 0>());
    case 2: return run(Block<T, 2, 0>());
    case 3: return run(Block<T, 3, 0>());
    default: return run(Block<T, 4, 0>());
  }
}

// Weights in any order -> [tap][group of input channels][STEP vectors] for the output channels first ... last, padded
// with zeros.
template <class T, class B>
std::vector<T> pack(const T* weight, Strides strides, int taps, int in, int first, int last, bool mirrored) {
  constexpr int SIZE = B::STEP * Simd<T>::LANES;
  std::vector<T> packed(static_cast<size_t>(taps) * (in / B::GROUP) * SIZE);
  T* to = packed.data();
  for (int k = 0; k < taps; ++k) {
    const T* tap = weight + (mirrored ? taps - 1 - k : k) * strides.tap;
    for (int i = 0; i < in; i += B::GROUP, to += SIZE)
      for (int o = first; o < last; ++o)
        for (int g = 0; g < B::GROUP; ++g)
          to[B::weight_lane(o - first, g)] = tap[(i + g) * strides.in + o * strides.out];
  }
  return packed;
}

// Pairs whose sums stay in registers together.
constexpr int group_size(int vectors) {
  int size = (REGISTERS - vectors - 1) / vectors;
  return size > 8 ? 8 : size;
}

// sums[target[p]] += values[source[p]] * weights for P pairs.
template <class T, class B, int P>
inline void multiply(const T* values, const int32_t* source, T* sums, const uint8_t* target, const T* weights, int in) {
  using S = Simd<T>;
  constexpr int LANES = S::LANES;
  // Unrolled wherever it is touched, or the compiler keeps it in memory and not in registers.
  typename S::V total[P][B::VECTORS];
  const T* inputs[P];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    inputs[p] = values + static_cast<int64_t>(source[p]) * in;
#pragma GCC unroll 4
    for (int v = 0; v < B::VECTORS; ++v) total[p][v] = S::load(sums + target[p] * B::WIDTH + v * LANES);
  }
  for (int c = 0; c < in; c += B::GROUP, weights += B::STEP * LANES) {
#pragma GCC unroll 2
    for (int g = 0; g < B::GROUP; ++g) {
      typename S::V w[B::FULL + 1];
#pragma GCC unroll 4
      for (int v = 0; v < B::FULL; ++v) w[v] = S::load(weights + (g * B::FULL + v) * LANES);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
        for (int v = 0; v < B::FULL; ++v) total[p][v] += scaled<T, 1>(w[v], inputs[p] + c + g);
    }
    if constexpr (B::SHARED) {
      typename S::V w = S::load(weights + B::GROUP * B::FULL * LANES);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) total[p][B::FULL] += scaled<T, 2>(w, inputs[p] + c);
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < B::VECTORS; ++v) S::store(sums + target[p] * B::WIDTH + v * LANES, total[p][v]);
}

// `multiply`, with the usual numbers of channels as constants of the compiler.
template <class T, class B, int P>
inline void multiply_usual(const T* values, const int32_t* source, T* sums, const uint8_t* target, const T* weights,
                           int in) {
  switch (in) {
    case 8: multiply<T, B, P>(values, source, sums, target, weights, 8); break;
    case 16: multiply<T, B, P>(values, source, sums, target, weights, 16); break;
    case 24: multiply<T, B, P>(values, source, sums, target, weights, 24); break;
    case 32: multiply<T, B, P>(values, source, sums, target, weights, 32); break;
    case 40: multiply<T, B, P>(values, source, sums, target, weights, 40); break;
    case 48: multiply<T, B, P>(values, source, sums, target, weights, 48); break;
    default: multiply<T, B, P>(values, source, sums, target, weights, in);
  }
}

// `multiply` for the last pairs of a list, at most P of them.
template <class T, class B, int P>
inline void multiply_rest(const Pairs& pairs, int i, const T* values, T* sums, const T* weights, int in) {
  if constexpr (P > 0) {
    if (pairs.count - i == P) multiply<T, B, P>(values, pairs.source + i, sums, pairs.target + i, weights, in);
    else multiply_rest<T, B, P - 1>(pairs, i, values, sums, weights, in);
  }
}

// The sums of a tile. They will go to `numbers` of `result`, which is fetched into the cache meanwhile.
template <class T, class B>
void convolve_tile(const Rules& rules, int64_t tile, const T* values, int in, const T* weights, T* sums, const T* result,
                   int64_t numbers) {
  constexpr int P = group_size(B::VECTORS), LINE = LINE_BYTES / sizeof(T);
  int64_t lines = numbers / LINE + 1;
  Scratch scratch;
  for (int k = 0; k < rules.taps; ++k, weights += static_cast<int64_t>(in / B::GROUP) * B::STEP * Simd<T>::LANES) {
    Pairs pairs = pairs_of(rules, tile, k, scratch);
    for (int64_t line = lines * k / rules.taps; line < lines * (k + 1) / rules.taps; ++line)
      fetch_to_write(result + line * LINE);
    int i = 0;
    for (; i + P <= pairs.count; i += P)
      multiply_usual<T, B, P>(values, pairs.source + i, sums, pairs.target + i, weights, in);
    multiply_rest<T, B, P - 1>(pairs, i, values, sums, weights, in);
  }
}

// One block of output channels, from `first` on.
template <class T, class B>
void convolve_block(const Rules& rules, const T* values, int in, const T* weight, Strides strides, bool mirrored,
                    const T* bias, const T* added, T* result, int out, int first, int threads) {
  using S = Simd<T>;
  int columns = std::min(B::CHANNELS, out - first);
  std::vector<T> weights = pack<T, B>(weight, strides, rules.taps, in, first, first + columns, mirrored);
  in_shares(rules.tiles(), threads, [&](int64_t tile) {
    alignas(64) T sums[TILE * B::WIDTH];
    int rows = static_cast<int>(std::min<int64_t>(TILE, rules.outputs - tile * TILE));
    std::memset(sums, 0, sizeof(T) * rows * B::WIDTH);
    if (bias)
      for (int row = 0; row < rows; ++row)
        for (int o = 0; o < columns; ++o) sums[row * B::WIDTH + B::lane(o)] = bias[first + o];
    if (added) {
      const T* from = added + tile * TILE * out + first;
      for (int row = 0; row < rows; ++row, from += out)
        for (int o = 0; o < columns; ++o) sums[row * B::WIDTH + B::lane(o)] += from[o];
    }
    T* to = result + tile * TILE * out;
    convolve_tile<T, B>(rules, tile, values, in, weights.data(), sums, to, rows * out);
    to += first;
    const T* from = sums;
    for (int row = 0; row < rows; ++row, to += out, from += B::WIDTH) {
      if constexpr (B::SHARED) {
        for (int v = 0; v < B::FULL; ++v) S::store(to + v * S::LANES, S::load(from + v * S::LANES));
        const T* pair = from + B::FULL * S::LANES;
        for (int o = B::FULL * S::LANES; o < columns; ++o, pair += 2) to[o] = pair[0] + pair[1];
      } else if (columns == out && (rows - row) * out >= B::WIDTH) {
        // Whole vectors: what they write beyond this row, the next ones write again.
        for (int v = 0; v < B::FULL; ++v) S::store(to + v * S::LANES, S::load(from + v * S::LANES));
      } else {
        std::memcpy(to, from, sizeof(T) * columns);
      }
    }
  });
}

// `added` [outputs, out], which may be null, is added to the result and may be the same memory.
template <class T>
void convolve(const Rules& rules, const T* values, int in, const T* weight, Strides strides, bool mirrored,
              const T* bias, const T* added, T* result, int out, int threads) {
  Blocks blocks = Blocks::of<T>(in, out);
  dispatch<T>(blocks, [&](auto block) {
    using B = decltype(block);
    for (int number = 0; number < blocks.count; ++number)
      convolve_block<T, B>(rules, values, in, weight, strides, mirrored, bias, added, result, out, number * B::CHANNELS,
                           threads);
  });
}

// sums [R][STEP vectors] += outer products of R groups of input channels and a row of slopes, over all pairs.
template <class T, class B, int R>
inline void correlate(const Pairs& pairs, const T* values, int in, const T* slopes, T* sums) {
  using S = Simd<T>;
  constexpr int STEP = B::STEP, FULL = B::FULL, GROUP = B::GROUP;
  typename S::V total[R][STEP];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < STEP; ++v) total[r][v] = S::load(sums + (r * STEP + v) * S::LANES);
  for (int i = 0; i < pairs.count; ++i) {
    const T* row = values + static_cast<int64_t>(pairs.source[i]) * in;
    const T* slope = slopes + pairs.target[i] * B::WIDTH;
    typename S::V s[B::VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < B::VECTORS; ++v) s[v] = S::load(slope + v * S::LANES);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int g = 0; g < GROUP; ++g)
#pragma GCC unroll 4
        for (int v = 0; v < FULL; ++v) total[r][g * FULL + v] += scaled<T, 1>(s[v], row + r * GROUP + g);
      if constexpr (B::SHARED) total[r][STEP - 1] += scaled<T, 2>(s[FULL], row + r * GROUP);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < STEP; ++v) S::store(sums + (r * STEP + v) * S::LANES, total[r][v]);
}

// Groups of input channels whose sums stay in registers together, with `vectors` of slopes.
constexpr int groups_at_once(int step, int vectors) {
  for (int groups : {16, 12, 8, 6, 5, 4})
    if (groups * step + vectors < REGISTERS) return groups;
  return step <= REGISTERS / 4 ? 2 : 1;
}

template <class T, class B>
void correlate_tile(const Rules& rules, int64_t tile, const T* values, int in, const T* slopes, T* sums) {
  constexpr int R = groups_at_once(B::STEP, B::VECTORS);
  int groups = in / B::GROUP;
  Scratch scratch;
  for (int k = 0; k < rules.taps; ++k) {
    Pairs pairs = pairs_of(rules, tile, k, scratch);
    for (int c = 0; c < groups;) {
      int left = groups - c, step;
      const T* channel = values + c * B::GROUP;
      if (left >= R) {
        correlate<T, B, R>(pairs, channel, in, slopes, sums), step = R;
      } else if (R > 8 && left >= 8) {
        correlate<T, B, R < 8 ? R : 8>(pairs, channel, in, slopes, sums), step = 8;
      } else if (R > 4 && left >= 4) {
        correlate<T, B, R < 4 ? R : 4>(pairs, channel, in, slopes, sums), step = 4;
      } else {
        correlate<T, B, 1>(pairs, channel, in, slopes, sums), step = 1;
      }
      c += step;
      sums += step * B::STEP * Simd<T>::LANES;
    }
  }
}

// The gradient by weight and bias, of one block of output channels.
template <class T, class B>
void correlate_block(const Rules& rules, const T* values, int in, const T* slope, int out, int first, T* by_weight,
                     Strides strides, T* by_bias, int threads) {
  constexpr int SIZE = B::STEP * Simd<T>::LANES;
  int columns = std::min(B::CHANNELS, out - first);
  int64_t size = static_cast<int64_t>(rules.taps) * (in / B::GROUP) * SIZE + B::WIDTH, tiles = rules.tiles();
  int64_t fitting = std::min<int64_t>(PARTIAL_BYTES / (size * sizeof(T)), tiles / CHUNK_TILES);
  fitting = std::clamp<int64_t>(fitting, MIN_CHUNKS, MAX_CHUNKS);
  int64_t chunks = std::min(tiles, fitting);
  std::vector<T> partial(std::max<int64_t>(chunks, 1) * size);
  in_shares(chunks, threads, [&](int64_t chunk) {
    alignas(64) T slopes[TILE * B::WIDTH];
    T* sums = partial.data() + chunk * size;
    T* bias = sums + size - B::WIDTH;
    std::memset(slopes, 0, sizeof slopes);
    for (int64_t tile = tiles * chunk / chunks; tile < tiles * (chunk + 1) / chunks; ++tile) {
      int rows = static_cast<int>(std::min<int64_t>(TILE, rules.outputs - tile * TILE));
      for (int row = 0; row < rows; ++row) {
        const T* from = slope + (tile * TILE + row) * out + first;
        T* to = slopes + row * B::WIDTH;
        for (int o = 0; o < columns; ++o) bias[o] += from[o];
        int whole = std::min(columns, B::FULL * Simd<T>::LANES);
        std::memcpy(to, from, sizeof(T) * whole);
        for (int o = whole; o < columns; ++o) to[B::lane(o)] = to[B::lane(o) + 1] = from[o];
      }
      correlate_tile<T, B>(rules, tile, values, in, slopes, sums);
    }
  });
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < size; ++i) partial[i] += partial[chunk * size + i];
  const T* from = partial.data();
  for (int k = 0; k < rules.taps; ++k)
    for (int i = 0; i < in; i += B::GROUP, from += SIZE)
      for (int o = 0; o < columns; ++o)
        for (int g = 0; g < B::GROUP; ++g)
          by_weight[k * strides.tap + (i + g) * strides.in + (first + o) * strides.out] = from[B::weight_lane(o, g)];
  if (by_bias)
    for (int o = 0; o < columns; ++o) by_bias[first + o] = from[o];
}

template <class T>
void correlate(const Rules& rules, const T* values, int in, const T* slope, int out, T* by_weight, Strides strides,
               T* by_bias, int threads) {
  Blocks blocks = Blocks::of<T>(in, out);
  dispatch<T>(blocks, [&](auto block) {
    using B = decltype(block);
    for (int number = 0; number < blocks.count; ++number)
      correlate_block<T, B>(rules, values, in, slope, out, number * B::CHANNELS, by_weight, strides, by_bias, threads);
  });
}

}  // namespace cosmictagger
