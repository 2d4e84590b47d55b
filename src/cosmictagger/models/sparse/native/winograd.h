// What takes tiles of images to where a convolution is a product: see models/sparse/winograd.py.
#pragma once

#include "shares.h"
#include "simd.h"

namespace cosmictagger {

constexpr int SIDE = 6;  // of a tile, in pixels

// Take `count` tiles there along one axis: b = TILES a, for pixels 0 to 5 of each.
template <class T>
inline void take_there(const T* const a[SIDE], T* const b[SIDE], int count) {
#pragma omp simd
  for (int x = 0; x < count; ++x) {
    T a0 = a[0][x], a1 = a[1][x], a2 = a[2][x], a3 = a[3][x], a4 = a[4][x], a5 = a[5][x];
    b[0][x] = 4 * a0 - 5 * a2 + a4;
    b[1][x] = (a4 - 4 * a2) + (a3 - 4 * a1);
    b[2][x] = (a4 - 4 * a2) - (a3 - 4 * a1);
    b[3][x] = (a4 - a2) + 2 * (a3 - a1);
    b[4][x] = (a4 - a2) - 2 * (a3 - a1);
    b[5][x] = 4 * a1 - 5 * a3 + a5;
  }
}

// Images [number, channels, height, width] → [36, channels, number * tiles], for size × size taps, 3 or 5.
template <class T>
void take_tiles(const T* images, int64_t number, int64_t channels, int height, int width, int size, T* result,
                int threads) {
  int step = SIDE + 1 - size, reach = size / 2;
  int rows = (height + step - 1) / step, columns = (width + step - 1) / step;
  int span = (columns - 1) * step + SIDE;           // pixels of a row of tiles, beyond both ends of the image
  int phase = columns + (SIDE - 1) / step;          // of those, every step-th
  int inside = std::min(width, span - reach);
  int64_t positions = channels * number * rows * columns;  // from one position within the tile to the next
  in_shares(channels, threads, [&](int64_t channel) {
    std::vector<T> pixels(SIDE * span), taken(SIDE * span), phases(step * phase);
    const T* from[SIDE];
    T* to[SIDE];
    for (int64_t row = 0; row < number * rows; ++row) {
      const T* image = images + (row / rows * channels + channel) * height * width;
      for (int j = 0; j < SIDE; ++j) {
        int y = static_cast<int>(row % rows) * step + j - reach;
        T* line = pixels.data() + j * span;
        std::fill_n(line, span, T(0));
        if (y >= 0 && y < height) std::copy_n(image + static_cast<int64_t>(y) * width, inside, line + reach);
        from[j] = line, to[j] = taken.data() + j * span;
      }
      take_there<T>(from, to, span);
      for (int i = 0; i < SIDE; ++i) {
        // Pixel j of all tiles of a row, which are `step` apart, side by side.
        for (int x = 0; x < span; ++x) phases[x % step * phase + x / step] = taken[i * span + x];
        for (int j = 0; j < SIDE; ++j) {
          from[j] = phases.data() + j % step * phase + j / step;
          to[j] = result + (i * SIDE + j) * positions + (channel * number * rows + row) * columns;
        }
        take_there<T>(from, to, columns);
      }
    }
  });
}

}  // namespace cosmictagger
