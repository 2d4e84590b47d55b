// Tables of site sets: neighbours, levels below, and the rules made of such tables.
#pragma once

#include "rules.h"

namespace cosmictagger {

// Count the pairs of each tile and tap of a table [outputs, taps] (-1: none) into starts [tiles * taps + 1].
inline int64_t count_rules(const int32_t* table, int64_t outputs, int taps, int32_t* starts) {
  int64_t tiles = (outputs + TILE - 1) / TILE;
  int64_t total = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    int32_t* count = starts + tile * taps + 1;
    std::memset(count, 0, sizeof(int32_t) * taps);
    for (int64_t row = tile * TILE; row < std::min(outputs, (tile + 1) * TILE); ++row)
      for (int k = 0; k < taps; ++k) count[k] += table[row * taps + k] >= 0;
    for (int k = 0; k < taps; ++k) count[k] = static_cast<int32_t>(total += count[k]);
  }
  starts[0] = 0;
  return total;
}

// Write the pairs; source and target have room for one more.
inline void fill_rules(const int32_t* table, int64_t outputs, int taps, const int32_t* starts, int32_t* source, uint8_t* target) {
  std::vector<int32_t> at(taps);
  int64_t tiles = (outputs + TILE - 1) / TILE;
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (int k = 0; k < taps; ++k) {
      int32_t to = starts[tile * taps + k];
      int rows = static_cast<int>(std::min<int64_t>(TILE, outputs - tile * TILE));
      const int32_t* column = table + tile * TILE * taps + k;
      int32_t end = starts[tile * taps + k + 1];
      for (int row = 0; row < rows && to < end; ++row) {
        int32_t from = column[static_cast<int64_t>(row) * taps];
        source[to] = from;
        target[to] = static_cast<uint8_t>(row);
        to += from >= 0;
      }
    }
}

// For sites in the order of plane, tick, wire: call visit(site, tap, neighbour, hit) for each tap of a size x size kernel,
// where `hit` is 1 if the site has such a neighbour and 0 if not; a branch would be mispredicted half of the time.
template <class Visit>
void each_neighbour(const int32_t* plane, const int32_t* pixel, int64_t sites, int planes, int height, int width,
                    int size, int threads, Visit visit) {
  int reach = size / 2;
  // A row has room for `reach` wires beyond its end, so that the key of no neighbour lies in the next one.
  int64_t stride = width + reach, rows = static_cast<int64_t>(planes) * height;
  std::vector<int32_t> start(rows + 1);
  std::vector<int64_t> key(sites + 1);
  for (int64_t s = 0; s < sites; ++s) {
    int64_t tick = pixel[s] / width, row = static_cast<int64_t>(plane[s]) * height + tick;
    key[s] = row * stride + pixel[s] - tick * width;
    ++start[row + 1];
  }
  key[sites] = INT64_MAX;
  for (int64_t row = 0; row < rows; ++row) start[row + 1] += start[row];
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < rows; ++row) {
    if (start[row] == start[row + 1]) continue;
    int tick = static_cast<int>(row % height);
    for (int dt = -reach; dt <= reach; ++dt) {
      bool inside = tick + dt >= 0 && tick + dt < height;
      int32_t at = inside ? start[row + dt] : static_cast<int32_t>(sites);
      for (int32_t s = start[row]; s < start[row + 1]; ++s) {
        int64_t wanted = key[s] + dt * stride - reach;
        while (key[at] < wanted) ++at;
        int32_t next = at;
        for (int i = 0; i < size; ++i) {
          int32_t hit = key[next] == wanted + i;
          visit(s, (dt + reach) * size + i, next, hit);
          next += hit;
        }
      }
    }
  }
}

// The neighbours of all sites [sites, size * size], -1 where there is none.
inline void neighbours(const int32_t* plane, const int32_t* pixel, int64_t sites, int planes, int height, int width,
                       int size, int32_t* table, int threads) {
  int64_t taps = size * size;
  each_neighbour(plane, pixel, sites, planes, height, width, size, threads,
                 [=](int64_t s, int tap, int32_t other, int32_t hit) { table[s * taps + tap] = (other & -hit) | (hit - 1); });
}

// The sums of the charge [sites] of each site and its neighbours under a size x size kernel.
inline void neighbour_sums(const int32_t* plane, const int32_t* pixel, int64_t sites, int planes, int height, int width,
                           int size, const float* charge, float* sums, int threads) {
  std::fill_n(sums, sites, 0.0f);
  each_neighbour(plane, pixel, sites, planes, height, width, size, threads,
                 [=](int64_t s, int, int32_t other, int32_t hit) { sums[s] += hit ? charge[other] : 0.0f; });
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
