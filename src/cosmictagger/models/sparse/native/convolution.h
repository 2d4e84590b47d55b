// Convolutions and their gradients by values (a convolution again), weights and bias.
#pragma once

#include "rules.h"

namespace cosmictagger {

constexpr int MAX_VECTORS = 4;   // vectors of output channels that are computed together
constexpr int64_t PARTIAL_BYTES = 4 << 20;  // memory for partial sums of weight gradients, roughly
constexpr int MAX_CHUNKS = 16, MIN_CHUNKS = 4;

// How the output channels are cut into blocks of vectors.
struct Blocks {
  int count, vectors, width;  // width: channels of a block, the last one padded
  template <class T>
  static Blocks of(int channels) {
    int all = (channels + Simd<T>::LANES - 1) / Simd<T>::LANES;
    int count = (all + MAX_VECTORS - 1) / MAX_VECTORS;
    int vectors = (all + count - 1) / count;
    return {count, vectors, vectors * Simd<T>::LANES};
  }
};

struct Strides {
  int64_t tap, in, out;
};

// Weights in any order -> [block][tap][in][width], padded with zeros.
template <class T>
std::vector<T> pack(const T* weight, Strides strides, int taps, int in, int out, bool mirrored, Blocks blocks) {
  std::vector<T> packed(static_cast<size_t>(blocks.count) * taps * in * blocks.width);
  T* to = packed.data();
  for (int block = 0; block < blocks.count; ++block) {
    int first = block * blocks.width, last = std::min(out, first + blocks.width);
    for (int k = 0; k < taps; ++k) {
      const T* tap = weight + (mirrored ? taps - 1 - k : k) * strides.tap;
      for (int i = 0; i < in; ++i, to += blocks.width)
        for (int o = first; o < last; ++o) to[o - first] = tap[i * strides.in + o * strides.out];
    }
  }
  return packed;
}

// sums[p] += inputs[p] * weights for P rows, with weights [in][VECTORS].
template <class T, int VECTORS, int P>
inline void multiply(const T* const* inputs, T* const* sums, const T* weights, int in) {
  using S = Simd<T>;
  typename S::V total[P][VECTORS];
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < VECTORS; ++v) total[p][v] = S::load(sums[p] + v * S::LANES);
  for (int c = 0; c < in; ++c, weights += VECTORS * S::LANES) {
    typename S::V w[VECTORS];
    for (int v = 0; v < VECTORS; ++v) w[v] = S::load(weights + v * S::LANES);
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) total[p][v] += inputs[p][c] * w[v];
  }
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < VECTORS; ++v) S::store(sums[p] + v * S::LANES, total[p][v]);
}

constexpr int group_size(int vectors) {
  int size = (REGISTERS - vectors - 1) / vectors;
  return size > 8 ? 8 : size;
}

template <class T, int VECTORS>
void convolve_tile(const Rules& rules, int64_t tile, const T* values, int in, const T* weights, T* sums) {
  constexpr int P = group_size(VECTORS);
  constexpr int WIDTH = VECTORS * Simd<T>::LANES;
  Scratch scratch;
  alignas(64) T spare[WIDTH];
  const T* inputs[P];
  T* outputs[P];
  for (int k = 0; k < rules.taps; ++k, weights += static_cast<int64_t>(in) * WIDTH) {
    Pairs pairs = pairs_of(rules, tile, k, scratch);
    int i = 0;
    for (; i + P <= pairs.count; i += P) {
      for (int p = 0; p < P; ++p) {
        inputs[p] = values + static_cast<int64_t>(pairs.source[i + p]) * in;
        outputs[p] = sums + pairs.target[i + p] * WIDTH;
      }
      multiply<T, VECTORS, P>(inputs, outputs, weights, in);
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
      multiply<T, VECTORS, (P + 1) / 2>(inputs, outputs, weights, in);
    else
      multiply<T, VECTORS, P>(inputs, outputs, weights, in);
  }
}

template <class T, int VECTORS>
void convolve_block(const Rules& rules, const T* values, int in, const T* weights, const T* bias, T* result, int out,
                    int first, int threads) {
  constexpr int WIDTH = VECTORS * Simd<T>::LANES;
  int columns = std::min(WIDTH, out - first);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t tile = 0; tile < rules.tiles(); ++tile) {
    alignas(64) T sums[TILE * WIDTH];
    int rows = static_cast<int>(std::min<int64_t>(TILE, rules.outputs - tile * TILE));
    std::memset(sums, 0, sizeof(T) * rows * WIDTH);
    if (bias)
      for (int row = 0; row < rows; ++row) std::memcpy(sums + row * WIDTH, bias + first, sizeof(T) * columns);
    convolve_tile<T, VECTORS>(rules, tile, values, in, weights, sums);
    T* to = result + tile * TILE * out + first;
    for (int row = 0; row < rows; ++row) std::memcpy(to + static_cast<int64_t>(row) * out, sums + row * WIDTH, sizeof(T) * columns);
  }
}

template <class T>
void convolve(const Rules& rules, const T* values, int in, const T* weight, Strides strides, bool mirrored,
              const T* bias, T* result, int out, int threads) {
  Blocks blocks = Blocks::of<T>(out);
  std::vector<T> packed = pack(weight, strides, rules.taps, in, out, mirrored, blocks);
  for (int block = 0; block < blocks.count; ++block) {
    const T* weights = packed.data() + static_cast<int64_t>(block) * rules.taps * in * blocks.width;
    int first = block * blocks.width;
    switch (blocks.vectors) {
      case 1: convolve_block<T, 1>(rules, values, in, weights, bias, result, out, first, threads); break;
      case 2: convolve_block<T, 2>(rules, values, in, weights, bias, result, out, first, threads); break;
      case 3: convolve_block<T, 3>(rules, values, in, weights, bias, result, out, first, threads); break;
      default: convolve_block<T, 4>(rules, values, in, weights, bias, result, out, first, threads);
    }
  }
}

// sums [R][VECTORS] += outer products of R input channels and a row of slopes, over all pairs.
template <class T, int VECTORS, int R>
inline void correlate(const Pairs& pairs, const T* values, int in, const T* slopes, T* sums) {
  using S = Simd<T>;
  constexpr int WIDTH = VECTORS * S::LANES;
  typename S::V total[R][VECTORS];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < VECTORS; ++v) total[r][v] = S::load(sums + r * WIDTH + v * S::LANES);
  for (int i = 0; i < pairs.count; ++i) {
    const T* row = values + static_cast<int64_t>(pairs.source[i]) * in;
    const T* slope = slopes + pairs.target[i] * WIDTH;
    typename S::V s[VECTORS];
    for (int v = 0; v < VECTORS; ++v) s[v] = S::load(slope + v * S::LANES);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) total[r][v] += row[r] * s[v];
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < VECTORS; ++v) S::store(sums + r * WIDTH + v * S::LANES, total[r][v]);
}

template <class T, int VECTORS>
void correlate_tile(const Rules& rules, int64_t tile, const T* values, int in, const T* slopes, T* sums) {
  constexpr int R = group_size(VECTORS) >= 8 ? 8 : 4;
  constexpr int WIDTH = VECTORS * Simd<T>::LANES;
  Scratch scratch;
  for (int k = 0; k < rules.taps; ++k) {
    Pairs pairs = pairs_of(rules, tile, k, scratch);
    for (int c = 0; c < in;) {
      int left = in - c, step;
      if (left >= R) {
        correlate<T, VECTORS, R>(pairs, values + c, in, slopes, sums), step = R;
      } else if (left >= 4) {
        correlate<T, VECTORS, 4>(pairs, values + c, in, slopes, sums), step = 4;
      } else {
        correlate<T, VECTORS, 1>(pairs, values + c, in, slopes, sums), step = 1;
      }
      c += step;
      sums += step * WIDTH;
    }
  }
}

// The gradient by weight and bias, of one block of output channels.
template <class T, int VECTORS>
void correlate_block(const Rules& rules, const T* values, int in, const T* slope, int out, int first, T* by_weight,
                     Strides strides, T* by_bias, int threads) {
  constexpr int WIDTH = VECTORS * Simd<T>::LANES;
  int columns = std::min(WIDTH, out - first);
  int64_t size = (static_cast<int64_t>(rules.taps) * in + 1) * WIDTH, tiles = rules.tiles();
  int64_t fitting = std::clamp<int64_t>(PARTIAL_BYTES / (size * sizeof(T)), MIN_CHUNKS, MAX_CHUNKS);
  int64_t chunks = std::min(tiles, fitting);
  std::vector<T> partial(std::max<int64_t>(chunks, 1) * size);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    alignas(64) T slopes[TILE * WIDTH];
    T* sums = partial.data() + chunk * size;
    T* bias = sums + size - WIDTH;
    std::memset(slopes, 0, sizeof slopes);
    for (int64_t tile = tiles * chunk / chunks; tile < tiles * (chunk + 1) / chunks; ++tile) {
      int rows = static_cast<int>(std::min<int64_t>(TILE, rules.outputs - tile * TILE));
      for (int row = 0; row < rows; ++row) {
        std::memcpy(slopes + row * WIDTH, slope + (tile * TILE + row) * out + first, sizeof(T) * columns);
        for (int o = 0; o < WIDTH; ++o) bias[o] += slopes[row * WIDTH + o];
      }
      correlate_tile<T, VECTORS>(rules, tile, values, in, slopes, sums);
    }
  }
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < size; ++i) partial[i] += partial[chunk * size + i];
  const T* from = partial.data();
  for (int k = 0; k < rules.taps; ++k)
    for (int i = 0; i < in; ++i, from += WIDTH)
      for (int o = 0; o < columns; ++o) by_weight[k * strides.tap + i * strides.in + (first + o) * strides.out] = from[o];
  if (by_bias) std::memcpy(by_bias + first, from, sizeof(T) * columns);
}

template <class T>
void correlate(const Rules& rules, const T* values, int in, const T* slope, int out, T* by_weight, Strides strides,
               T* by_bias, int threads) {
  Blocks blocks = Blocks::of<T>(out);
  for (int block = 0; block < blocks.count; ++block) {
    int first = block * blocks.width;
    switch (blocks.vectors) {
      case 1: correlate_block<T, 1>(rules, values, in, slope, out, first, by_weight, strides, by_bias, threads); break;
      case 2: correlate_block<T, 2>(rules, values, in, slope, out, first, by_weight, strides, by_bias, threads); break;
      case 3: correlate_block<T, 3>(rules, values, in, slope, out, first, by_weight, strides, by_bias, threads); break;
      default: correlate_block<T, 4>(rules, values, in, slope, out, first, by_weight, strides, by_bias, threads);
    }
  }
}

}  // namespace cosmictagger
