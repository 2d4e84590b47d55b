// Kernels of the `cpu` engine: convolutions, normalization and pooling on the active sites of sparse images.
//
// Values are row-major [sites, channels] of float or double. A convolution is described by its rules: the output
// sites are cut into tiles of TILE; for each tile and each tap of the kernel there is a list of pairs (input site,
// output site within the tile). The outputs of a tile stay in the first-level cache while all taps add to them,
// and a group of pairs shares every load of a weight. Nothing is ever written by two threads, and every sum is
// split by the size of the problem alone: results do not depend on the number of threads.
//
// No headers but those of C++: Python calls the functions at the end by ctypes.

#include "activation.h"
#include "convolution.h"
#include "crossings.h"
#include "pooling.h"
#include "tables.h"
#include "ticks.h"
#include "winograd.h"

using namespace cosmictagger;

extern "C" {

// Everything that other code must agree with: checked when the library is loaded.
int ct_version() { return 7; }
int ct_tile() { return TILE; }

void ct_table_rules(const int32_t* table, int64_t outputs, int taps, int32_t* starts, int32_t* source, uint8_t* target,
                    int threads) {
  table_rules(table, outputs, taps, starts, source, target, threads);
}

void ct_neighbour_rules(const int32_t* plane, const int32_t* pixel, int64_t sites, int planes, int height, int width,
                        int size, int32_t* starts, int32_t* source, uint8_t* target, int threads) {
  neighbour_rules({plane, pixel, sites, planes, height, width}, size, starts, source, target, threads);
}

void ct_neighbours(const int32_t* plane, const int32_t* pixel, int64_t sites, int planes, int height, int width,
                   int size, int32_t* table, int threads) {
  neighbours({plane, pixel, sites, planes, height, width}, size, table, threads);
}

void ct_neighbour_sums(const int32_t* plane, const int32_t* pixel, int64_t sites, int planes, int height, int width,
                       int size, const float* charge, float* sums, int threads) {
  neighbour_sums({plane, pixel, sites, planes, height, width}, size, charge, sums, threads);
}

int64_t ct_pool_sites(const int32_t* plane, const int32_t* pixel, int64_t sites, int width, int32_t* plane_below,
                      int32_t* pixel_below, int32_t* family, int32_t* children) {
  return pool_sites(plane, pixel, sites, width, plane_below, pixel_below, family, children);
}

#define FOR_TYPE(T, NAME)                                                                                              \
  void ct_convolve_##NAME(int64_t outputs, int taps, const int32_t* starts, const int32_t* source,                     \
                          const uint8_t* target, const T* values, int in, const T* weight, int64_t tap_stride,         \
                          int64_t in_stride, int64_t out_stride, int mirrored, const T* bias, const T* added,          \
                          T* result, int out, int threads) {                                                           \
    convolve<T>({outputs, taps, starts, source, target}, values, in, weight, {tap_stride, in_stride, out_stride},      \
                mirrored, bias, added, result, out, threads);                                                          \
  }                                                                                                                    \
  void ct_correlate_##NAME(int64_t outputs, int taps, const int32_t* starts, const int32_t* source,                    \
                           const uint8_t* target, const T* values, int in, const T* slope, int out, T* by_weight,      \
                           int64_t tap_stride, int64_t in_stride, int64_t out_stride, T* by_bias, int threads) {       \
    correlate<T>({outputs, taps, starts, source, target}, values, in, slope, out, by_weight,                           \
                 {tap_stride, in_stride, out_stride}, by_bias, threads);                                               \
  }                                                                                                                    \
  void ct_activate_##NAME(const T* values, const T* shortcut, const T* weight, const T* bias, T* running_mean,         \
                          T* running_var, double momentum, double epsilon, int training, T* mean, T* inverse,          \
                          T* result, const int64_t* starts, int parts, int channels, int threads) {                    \
    activate<T>(values, shortcut, {weight, bias, running_mean, running_var}, momentum, epsilon, training, mean,        \
                inverse, result, {starts, parts}, channels, threads);                                                  \
  }                                                                                                                    \
  void ct_rectify_##NAME(const T* values, const T* weight, const T* bias, const T* mean, const T* inverse, T* result,   \
                         const int64_t* starts, int parts, int channels, int threads) {                                \
    rectify<T>(values, nullptr, {weight, bias, nullptr, nullptr}, mean, inverse, result, {starts, parts}, channels,    \
               threads);                                                                                               \
  }                                                                                                                    \
  void ct_activate_slopes_##NAME(const T* values, const T* result, const T* slope, const T* weight, const T* bias,       \
                                 int training, const T* mean, const T* inverse, T* by_values, T* by_shortcut,          \
                                 T* by_weight, T* by_bias, const int64_t* starts, int parts, int channels,             \
                                 int threads) {                                                                        \
    activate_slopes<T>(values, result, slope, {weight, bias, nullptr, nullptr}, training, mean, inverse, by_values,    \
                       by_shortcut, by_weight, by_bias, {starts, parts}, channels, threads);                           \
  }                                                                                                                    \
  void ct_pool_##NAME(const T* values, const int32_t* children, int64_t parents, int channels, T* result,              \
                      uint8_t* slot, int threads) {                                                                    \
    pool<T>(values, children, parents, channels, result, slot, threads);                                               \
  }                                                                                                                    \
  void ct_pool_slopes_##NAME(const T* slope, const uint8_t* slot, const int32_t* family, int64_t sites, int channels,  \
                             T* result, int threads) {                                                                 \
    pool_slopes<T>(slope, slot, family, sites, channels, result, threads);                                             \
  }                                                                                                                    \
  void ct_unpool_##NAME(const T* values, const int32_t* family, int64_t sites, int channels, const T* added,           \
                        T* result, int threads) {                                                                      \
    unpool<T>(values, family, sites, channels, added, result, threads);                                                \
  }                                                                                                                    \
  void ct_unpool_slopes_##NAME(const T* slope, const int32_t* children, int64_t parents, int channels, T* result,      \
                               int threads) {                                                                          \
    unpool_slopes<T>(slope, children, parents, channels, result, threads);                                             \
  }                                                                                                                    \
  void ct_take_tiles_##NAME(const T* images, int64_t number, int64_t channels, int height, int width, int size,        \
                            T* result, int threads) {                                                                  \
    take_tiles<T>(images, number, channels, height, width, size, result, threads);                                     \
  }                                                                                                                    \
  void ct_tick_maximum_##NAME(const T* values, const int32_t* starts, int64_t ticks, int channels, T* result,          \
                              int threads) {                                                                           \
    tick_maximum<T>(values, starts, ticks, channels, result, threads);                                                 \
  }                                                                                                                    \
  void ct_tick_maximum_slopes_##NAME(const T* values, const T* result, const T* slope, const int32_t* starts,          \
                                     int64_t ticks, int channels, T* by_values, int threads) {                         \
    tick_maximum_slopes<T>(values, result, slope, starts, ticks, channels, by_values, threads);                        \
  }                                                                                                                    \
  void ct_add_to_ticks_##NAME(const T* values, const T* rows, const int32_t* starts, int64_t ticks, int channels,      \
                              T* result, int threads) {                                                                \
    add_to_ticks<T>(values, rows, starts, ticks, channels, result, threads);                                           \
  }                                                                                                                    \
  void ct_add_to_ticks_slopes_##NAME(const T* slope, const int32_t* starts, int64_t ticks, int channels, T* by_rows,   \
                                     int threads) {                                                                    \
    add_to_ticks_slopes<T>(slope, starts, ticks, channels, by_rows, threads);                                          \
  }                                                                                                                    \
  void ct_crossing_maximum_##NAME(const T* values, const int32_t* pixel, const int32_t* starts, int images,            \
                                  int height, int width, int channels, int offset, T* result, int32_t* source,         \
                                  int threads) {                                                                       \
    crossing_maximum<T>(values, {pixel, starts, images, height, width}, channels, offset, result, source, threads);    \
  }                                                                                                                    \
  void ct_crossing_maximum_slopes_##NAME(const T* slope, const int32_t* source, const int32_t* pixel,                  \
                                         const int32_t* starts, int images, int height, int width, int channels,       \
                                         T* by_values, int threads) {                                                  \
    crossing_maximum_slopes<T>(slope, source, {pixel, starts, images, height, width}, channels, by_values, threads);   \
  }

FOR_TYPE(float, float32)
FOR_TYPE(double, float64)
}
