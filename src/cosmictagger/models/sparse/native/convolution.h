// Convolutions and their gradients by values (a convolution again), weights and bias.
#pragma once

#include "rules.h"
#include "shares.h"

namespace cosmictagger {

constexpr int MAX_VECTORS = 4;   // vectors of output channels that are computed together
constexpr int64_t PARTIAL_BYTES = 4 << 20;  // memory for partial sums of weight gradients, roughly
constexpr int MAX_CHUNKS = 16, MIN_CHUNKS = 4;

// How the output channels are cut into blocks of vectors. So few of them that they fill half a vector at most share it
// between a group of two input channels: lane 2 * o + g sums what input channels of remainder g add to output o.
struct Blocks {
  int count, vectors, group;
  template <class T>
  static Blocks of(int in, int out) {
    constexpr int LANES = Simd<T>::LANES;
    if (sizeof(T) == sizeof(float) && in % 2 == 0 && 2 * out <= LANES) return {1, 1, 2};
    int all = (out + LANES - 1) / LANES;
    int count = (all + MAX_VECTORS - 1) / MAX_VECTORS;
    return {count, (all + count - 1) / count, 1};
  }
};

struct Strides {
  int64_t tap, in, out;
};

// Call run(vectors, group) with the numbers of a block as constants of the compiler.
template <class T, class Run>
void dispatch(Blocks blocks, Run run) {
  using std::integral_constant;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (blocks.group == 2) return run(integral_constant<int, 1>(), integral_constant<int, 2>());
  }
  switch (blocks.vectors) {
    case 1: run(integral_constant<int, 1>(), integral_constant<int, 1>()); break;
    case 2: run(integral_constant<int, 2>(), integral_constant<int, 1>()); break;
    case 3: run(integral_constant<int, 3>(), integral_constant<int, 1>()); break;
    default: run(integral_constant<int, 4>(), integral_constant<int, 1>());
  }
}

// Weights in any order -> [tap][in / GROUP][WIDTH] for the output channels first ... last, padded with zeros.
template <class T, int WIDTH, int GROUP>
std::vector<T> pack(const T* weight, Strides strides, int taps, int in, int first, int last, bool mirrored) {
  std::vector<T> packed(static_cast<size_t>(taps) * (in / GROUP) * WIDTH);
  T* to = packed.data();
  for (int k = 0; k < taps; ++k) {
    const T* tap = weight + (mirrored ? taps - 1 - k : k) * strides.tap;
    for (int i = 0; i < in; i += GROUP, to += WIDTH)
      for (int o = first; o < last; ++o)
        for (int g = 0; g < GROUP; ++g) to[(o - first) * GROUP + g] = tap[(i + g) * strides.in + o * strides.out];
  }
  return packed;
}

// Pairs whose sums stay in registers together.
constexpr int group_size(int vectors) {
  int size = (REGISTERS - vectors - 1) / vectors;
  return size > 8 ? 8 : size;
}

// sums[p] += inputs[p] * weights for P rows, with weights [in / GROUP][VECTORS].
template <class T, int VECTORS, int P, int GROUP>
inline void multiply(const T* const* inputs, T* const* sums, const T* weights, int in) {
  using S = Simd<T>;
  // Unrolled wherever it is touched, or the compiler keeps it in memory and not in registers.
  typename S::V total[P][VECTORS];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) total[p][v] = S::load(sums[p] + v * S::LANES);
  for (int c = 0; c < in; c += GROUP, weights += VECTORS * S::LANES) {
    typename S::V w[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) w[v] = S::load(weights + v * S::LANES);
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) total[p][v] += scaled<T, GROUP>(w[v], inputs[p] + c);
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) S::store(sums[p] + v * S::LANES, total[p][v]);
}

// `multiply`, with the usual numbers of channels as constants of the compiler.
template <class T, int VECTORS, int P, int GROUP>
inline void multiply_usual(const T* const* inputs, T* const* sums, const T* weights, int in) {
  switch (in) {
    case 8: multiply<T, VECTORS, P, GROUP>(inputs, sums, weights, 8); break;
    case 16: multiply<T, VECTORS, P, GROUP>(inputs, sums, weights, 16); break;
    case 24: multiply<T, VECTORS, P, GROUP>(inputs, sums, weights, 24); break;
    case 32: multiply<T, VECTORS, P, GROUP>(inputs, sums, weights, 32); break;
    case 40: multiply<T, VECTORS, P, GROUP>(inputs, sums, weights, 40); break;
    case 48: multiply<T, VECTORS, P, GROUP>(inputs, sums, weights, 48); break;
    default: multiply<T, VECTORS, P, GROUP>(inputs, sums, weights, in);
  }
}

template <class T, int VECTORS, int GROUP>
void convolve_tile(const Rules& rules, int64_t tile, const T* values, int in, const T* weights, T* sums) {
  constexpr int P = group_size(VECTORS);
  constexpr int WIDTH = VECTORS * Simd<T>::LANES;
  Scratch scratch;
  alignas(64) T spare[WIDTH];
  const T* inputs[P];
  T* outputs[P];
  for (int k = 0; k < rules.taps; ++k, weights += static_cast<int64_t>(in / GROUP) * WIDTH) {
    Pairs pairs = pairs_of(rules, tile, k, scratch);
    int i = 0;
    for (; i + P <= pairs.count; i += P) {
      for (int p = 0; p < P; ++p) {
        inputs[p] = values + static_cast<int64_t>(pairs.source[i + p]) * in;
        outputs[p] = sums + pairs.target[i + p] * WIDTH;
      }
      multiply_usual<T, VECTORS, P, GROUP>(inputs, outputs, weights, in);
    }
    if (i == pairs.count) continue;
    // The rest of the list: the first of its rows again, into a row that is thrown away.
    for (int p = 0; p < P; ++p) {
      bool real = i + p < pairs.count;
      inputs[p] = values + static_cast<int64_t>(pairs.source[real ? i + p : i]) * in;
      outputs[p] = real ? sums + pairs.target[i + p] * WIDTH : spare;
    }
    std::memset(spare, 0, sizeof spare);
    if (pairs.count - i <= P / 2)
      multiply<T, VECTORS, (P + 1) / 2, GROUP>(inputs, outputs, weights, in);
    else
      multiply<T, VECTORS, P, GROUP>(inputs, outputs, weights, in);
  }
}

// One block of output channels, from `first` on.
template <class T, int VECTORS, int GROUP>
void convolve_block(const Rules& rules, const T* values, int in, const T* weight, Strides strides, bool mirrored,
                    const T* bias, T* result, int out, int first, int threads) {
  constexpr int WIDTH = VECTORS * Simd<T>::LANES;
  int columns = std::min(WIDTH / GROUP, out - first);
  std::vector<T> weights = pack<T, WIDTH, GROUP>(weight, strides, rules.taps, in, first, first + columns, mirrored);
  in_shares(rules.tiles(), threads, [&](int64_t tile) {
    alignas(64) T sums[TILE * WIDTH];
    int rows = static_cast<int>(std::min<int64_t>(TILE, rules.outputs - tile * TILE));
    std::memset(sums, 0, sizeof(T) * rows * WIDTH);
    if (bias)
      for (int row = 0; row < rows; ++row)
        for (int o = 0; o < columns; ++o) sums[row * WIDTH + o * GROUP] = bias[first + o];
    convolve_tile<T, VECTORS, GROUP>(rules, tile, values, in, weights.data(), sums);
    T* to = result + tile * TILE * out + first;
    const T* from = sums;
    for (int row = 0; row < rows; ++row, to += out, from += WIDTH) {
      if constexpr (GROUP == 2) {
        for (int o = 0; o < columns; ++o) to[o] = from[2 * o] + from[2 * o + 1];
      } else if (columns == out && (rows - row) * out >= WIDTH) {
        // Whole vectors: what they write beyond this row, the next ones write again.
        for (int v = 0; v < VECTORS; ++v) Simd<T>::store(to + v * Simd<T>::LANES, Simd<T>::load(from + v * Simd<T>::LANES));
      } else {
        std::memcpy(to, from, sizeof(T) * columns);
      }
    }
  });
}

template <class T>
void convolve(const Rules& rules, const T* values, int in, const T* weight, Strides strides, bool mirrored,
              const T* bias, T* result, int out, int threads) {
  Blocks blocks = Blocks::of<T>(in, out);
  auto run = [&](auto vectors, auto group) {
    for (int block = 0; block < blocks.count; ++block)
      convolve_block<T, vectors, group>(rules, values, in, weight, strides, mirrored, bias, result, out,
                                        block * vectors * Simd<T>::LANES, threads);
  };
  dispatch<T>(blocks, run);
}

// sums [R][VECTORS] += outer products of R groups of input channels and a row of slopes, over all pairs.
template <class T, int VECTORS, int R, int GROUP>
inline void correlate(const Pairs& pairs, const T* values, int in, const T* slopes, T* sums) {
  using S = Simd<T>;
  constexpr int WIDTH = VECTORS * S::LANES;
  typename S::V total[R][VECTORS];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) total[r][v] = S::load(sums + r * WIDTH + v * S::LANES);
  for (int i = 0; i < pairs.count; ++i) {
    const T* row = values + static_cast<int64_t>(pairs.source[i]) * in;
    const T* slope = slopes + pairs.target[i] * WIDTH;
    typename S::V s[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) s[v] = S::load(slope + v * S::LANES);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) total[r][v] += scaled<T, GROUP>(s[v], row + r * GROUP);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) S::store(sums + r * WIDTH + v * S::LANES, total[r][v]);
}

// Groups of input channels whose sums stay in registers together.
constexpr int rows_at_once(int vectors) {
  for (int rows : {16, 12, 8})
    if ((rows + 1) * vectors < REGISTERS) return rows;
  return 4;
}

template <class T, int VECTORS, int GROUP>
void correlate_tile(const Rules& rules, int64_t tile, const T* values, int in, const T* slopes, T* sums) {
  constexpr int R = rows_at_once(VECTORS);
  constexpr int WIDTH = VECTORS * Simd<T>::LANES;
  int groups = in / GROUP;
  Scratch scratch;
  for (int k = 0; k < rules.taps; ++k) {
    Pairs pairs = pairs_of(rules, tile, k, scratch);
    for (int c = 0; c < groups;) {
      int left = groups - c, step;
      const T* channel = values + c * GROUP;
      if (left >= R) {
        correlate<T, VECTORS, R, GROUP>(pairs, channel, in, slopes, sums), step = R;
      } else if (R > 8 && left >= 8) {
        correlate<T, VECTORS, 8, GROUP>(pairs, channel, in, slopes, sums), step = 8;
      } else if (left >= 4) {
        correlate<T, VECTORS, 4, GROUP>(pairs, channel, in, slopes, sums), step = 4;
      } else {
        correlate<T, VECTORS, 1, GROUP>(pairs, channel, in, slopes, sums), step = 1;
      }
      c += step;
      sums += step * WIDTH;
    }
  }
}

// The gradient by weight and bias, of one block of output channels.
template <class T, int VECTORS, int GROUP>
void correlate_block(const Rules& rules, const T* values, int in, const T* slope, int out, int first, T* by_weight,
                     Strides strides, T* by_bias, int threads) {
  constexpr int WIDTH = VECTORS * Simd<T>::LANES;
  int columns = std::min(WIDTH / GROUP, out - first);
  int64_t size = (static_cast<int64_t>(rules.taps) * (in / GROUP) + 1) * WIDTH, tiles = rules.tiles();
  int64_t fitting = std::clamp<int64_t>(PARTIAL_BYTES / (size * sizeof(T)), MIN_CHUNKS, MAX_CHUNKS);
  int64_t chunks = std::min(tiles, fitting);
  std::vector<T> partial(std::max<int64_t>(chunks, 1) * size);
  in_shares(chunks, threads, [&](int64_t chunk) {
    alignas(64) T slopes[TILE * WIDTH];
    T* sums = partial.data() + chunk * size;
    T* bias = sums + size - WIDTH;
    std::memset(slopes, 0, sizeof slopes);
    for (int64_t tile = tiles * chunk / chunks; tile < tiles * (chunk + 1) / chunks; ++tile) {
      int rows = static_cast<int>(std::min<int64_t>(TILE, rules.outputs - tile * TILE));
      for (int row = 0; row < rows; ++row) {
        const T* from = slope + (tile * TILE + row) * out + first;
        for (int o = 0; o < columns; ++o)
          for (int g = 0; g < GROUP; ++g) slopes[row * WIDTH + o * GROUP + g] = from[o];
        for (int o = 0; o < WIDTH; ++o) bias[o] += slopes[row * WIDTH + o];
      }
      correlate_tile<T, VECTORS, GROUP>(rules, tile, values, in, slopes, sums);
    }
  });
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < size; ++i) partial[i] += partial[chunk * size + i];
  const T* from = partial.data();
  for (int k = 0; k < rules.taps; ++k)
    for (int i = 0; i < in; i += GROUP, from += WIDTH)
      for (int o = 0; o < columns; ++o)
        for (int g = 0; g < GROUP; ++g)
          by_weight[k * strides.tap + (i + g) * strides.in + (first + o) * strides.out] = from[o * GROUP + g];
  if (by_bias)
    for (int o = 0; o < columns; ++o) by_bias[first + o] = from[o * GROUP];
}

template <class T>
void correlate(const Rules& rules, const T* values, int in, const T* slope, int out, T* by_weight, Strides strides,
               T* by_bias, int threads) {
  Blocks blocks = Blocks::of<T>(in, out);
  auto run = [&](auto vectors, auto group) {
    for (int block = 0; block < blocks.count; ++block)
      correlate_block<T, vectors, group>(rules, values, in, slope, out, block * vectors * Simd<T>::LANES, by_weight,
                                         strides, by_bias, threads);
  };
  dispatch<T>(blocks, run);
}

}  // namespace cosmictagger
