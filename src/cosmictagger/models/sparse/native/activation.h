// Normalization over the sites, an added shortcut and rectification, forward and backward.
#pragma once

#include "simd.h"

namespace cosmictagger {

constexpr int ROWS = 256;        // sites of a block of the passes that are elementwise

// Elementwise passes see values as one long row in which the channels repeat: `period` numbers hold a whole number
// of rows and of vectors, so that any number of channels fills the vectors.
template <class T>
int period_of(int channels) {
  int period = channels;
  while (period % Simd<T>::LANES) period += channels;
  return period;
}

template <class T>
std::vector<T> repeated(const T* channel, int channels, int period) {
  std::vector<T> all(period);
  for (int i = 0; i < period; ++i) all[i] = channel[i % channels];
  return all;
}

// Call body(offset, length, first) for pieces of at most a period of the numbers begin ... end, `begin` on a period.
template <class Body>
inline void by_period(int64_t begin, int64_t end, int period, Body body) {
  int64_t at = begin;
  for (; at + period <= end; at += period) body(at, period);
  if (at < end) body(at, static_cast<int>(end - at));
}

// Blocks of rows that begin on a period.
template <class T>
int64_t block_rows(int channels) {
  int rows = period_of<T>(channels) / channels;
  return (ROWS + rows - 1) / rows * rows;
}

template <class T>
void statistics(const T* values, int64_t sites, int channels, double* mean, double* variance, int threads) {
  int period = period_of<T>(channels);
  int64_t rows = block_rows<T>(channels), blocks = (sites + rows - 1) / rows;
  // Sums about a rough mean, that of the first block, lose no digits to a common offset.
  std::vector<T> rough(channels);
  for (int64_t row = 0, some = std::min(sites, rows); row < some; ++row)
    for (int c = 0; c < channels; ++c) rough[c] += values[row * channels + c] / some;
  std::vector<T> offset = repeated(rough.data(), channels, period);
  std::vector<T> partial(blocks * 2 * channels);
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> total(period), square(period);
#pragma omp for schedule(static)
    for (int64_t block = 0; block < blocks; ++block) {
      std::fill(total.begin(), total.end(), T(0));
      std::fill(square.begin(), square.end(), T(0));
      T *sum = total.data(), *sum2 = square.data();
      const T* shift = offset.data();
      by_period(block * rows * channels, std::min(sites, (block + 1) * rows) * channels, period, [&](int64_t at, int length) {
        const T* x = values + at;
#pragma omp simd
        for (int i = 0; i < length; ++i) {
          T d = x[i] - shift[i];
          sum[i] += d;
          sum2[i] += d * d;
        }
      });
      T* to = partial.data() + block * 2 * channels;
      for (int i = 0; i < period; ++i) {
        to[i % channels] += sum[i];
        to[channels + i % channels] += sum2[i];
      }
    }
  }
  for (int c = 0; c < channels; ++c) {
    double sum = 0, sum2 = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      sum += partial[block * 2 * channels + c];
      sum2 += partial[block * 2 * channels + channels + c];
    }
    mean[c] = rough[c] + sum / sites;
    variance[c] = std::max(0.0, (sum2 - sum * sum / sites) / sites);
  }
}

// result = max(values * scale + offset + shortcut, 0), in this order, which lets NaN pass.
template <class T>
void rectify(const T* values, const T* scale, const T* offset, const T* shortcut, T* result, int64_t sites,
             int channels, int threads) {
  int period = period_of<T>(channels);
  std::vector<T> a = repeated(scale, channels, period), b = repeated(offset, channels, period);
  int64_t rows = block_rows<T>(channels), blocks = (sites + rows - 1) / rows;
  const T *factor = a.data(), *shift = b.data();
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t block = 0; block < blocks; ++block)
    by_period(block * rows * channels, std::min(sites, (block + 1) * rows) * channels, period, [&](int64_t at, int length) {
      const T *x = values + at, *more = shortcut + at;
      T* y = result + at;
      if (shortcut) {
#pragma omp simd
        for (int i = 0; i < length; ++i) y[i] = std::max(x[i] * factor[i] + shift[i] + more[i], T(0));
      } else {
#pragma omp simd
        for (int i = 0; i < length; ++i) y[i] = std::max(x[i] * factor[i] + shift[i], T(0));
      }
    });
}

// Of g = slope where result > 0: the sums of g and of g * (values - mean), both [channels].
template <class T>
void rectified_sums(const T* values, const T* result, const T* slope, const T* mean, double* sum, double* product,
                    int64_t sites, int channels, int threads) {
  int period = period_of<T>(channels);
  std::vector<T> centre = repeated(mean, channels, period);
  int64_t rows = block_rows<T>(channels), blocks = (sites + rows - 1) / rows;
  std::vector<T> partial(blocks * 2 * channels);
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> total(period), moment(period);
#pragma omp for schedule(static)
    for (int64_t block = 0; block < blocks; ++block) {
      std::fill(total.begin(), total.end(), T(0));
      std::fill(moment.begin(), moment.end(), T(0));
      T *s = total.data(), *m = moment.data();
      const T* shift = centre.data();
      by_period(block * rows * channels, std::min(sites, (block + 1) * rows) * channels, period, [&](int64_t at, int length) {
        const T *x = values + at, *y = result + at, *dy = slope + at;
#pragma omp simd
        for (int i = 0; i < length; ++i) {
          T g = y[i] > 0 ? dy[i] : T(0);
          s[i] += g;
          m[i] += g * (x[i] - shift[i]);
        }
      });
      T* to = partial.data() + block * 2 * channels;
      for (int i = 0; i < period; ++i) {
        to[i % channels] += s[i];
        to[channels + i % channels] += m[i];
      }
    }
  }
  for (int c = 0; c < channels; ++c) {
    sum[c] = product[c] = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      sum[c] += partial[block * 2 * channels + c];
      product[c] += partial[block * 2 * channels + channels + c];
    }
  }
}

// by_values = g * scale + offset - values * tilt, by_shortcut = g, with g as above.
template <class T>
void rectified_slopes(const T* values, const T* result, const T* slope, const T* scale, const T* offset, const T* tilt,
                      T* by_values, T* by_shortcut, int64_t sites, int channels, int threads) {
  int period = period_of<T>(channels);
  std::vector<T> a = repeated(scale, channels, period), b = repeated(offset, channels, period);
  std::vector<T> c = repeated(tilt, channels, period);
  int64_t rows = block_rows<T>(channels), blocks = (sites + rows - 1) / rows;
  const T *factor = a.data(), *shift = b.data(), *lean = c.data();
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t block = 0; block < blocks; ++block)
    by_period(block * rows * channels, std::min(sites, (block + 1) * rows) * channels, period, [&](int64_t at, int length) {
      const T *x = values + at, *y = result + at, *dy = slope + at;
      T *dx = by_values + at, *more = by_shortcut + at;
      if (by_shortcut) {
#pragma omp simd
        for (int i = 0; i < length; ++i) {
          T g = y[i] > 0 ? dy[i] : T(0);
          more[i] = g;
          dx[i] = g * factor[i] + shift[i] - x[i] * lean[i];
        }
      } else {
#pragma omp simd
        for (int i = 0; i < length; ++i) {
          T g = y[i] > 0 ? dy[i] : T(0);
          dx[i] = g * factor[i] + shift[i] - x[i] * lean[i];
        }
      }
    });
}

// What normalization needs, each [channels]; all null where there is none, the last two also without running statistics.
template <class T>
struct Norm {
  const T *weight, *bias;
  T *running_mean, *running_var;
};

// Normalize, add the shortcut, rectify. In training the statistics of the sites are used and the running ones, if any,
// updated. `mean` and `inverse` (of the standard deviation) are kept for the way back.
template <class T>
void activate(const T* values, const T* shortcut, Norm<T> norm, double momentum, double epsilon, bool training, T* mean,
              T* inverse, T* result, int64_t sites, int channels, int threads) {
  std::vector<T> scale(channels, T(1)), offset(channels);
  if (norm.weight) {
    std::vector<double> m(channels), v(channels);
    if (training) {
      statistics<T>(values, sites, channels, m.data(), v.data(), threads);
      for (int c = 0; c < channels && norm.running_mean; ++c) {
        norm.running_mean[c] += momentum * (m[c] - norm.running_mean[c]);
        norm.running_var[c] += momentum * (v[c] * sites / (sites - 1) - norm.running_var[c]);
      }
    } else {
      std::copy_n(norm.running_mean, channels, m.data());
      std::copy_n(norm.running_var, channels, v.data());
    }
    for (int c = 0; c < channels; ++c) {
      mean[c] = m[c];
      inverse[c] = 1 / std::sqrt(v[c] + epsilon);
      scale[c] = norm.weight[c] * inverse[c];
      offset[c] = norm.bias[c] - m[c] * scale[c];
    }
  }
  rectify<T>(values, scale.data(), offset.data(), shortcut, result, sites, channels, threads);
}

template <class T>
void activate_slopes(const T* values, const T* result, const T* slope, const T* weight, bool training, const T* mean,
                     const T* inverse, T* by_values, T* by_shortcut, T* by_weight, T* by_bias, int64_t sites,
                     int channels, int threads) {
  std::vector<T> scale(channels, T(1)), offset(channels), tilt(channels);
  if (weight) {
    std::vector<double> sum(channels), product(channels);
    rectified_sums<T>(values, result, slope, mean, sum.data(), product.data(), sites, channels, threads);
    for (int c = 0; c < channels; ++c) {
      by_weight[c] = product[c] * inverse[c];
      by_bias[c] = sum[c];
      scale[c] = weight[c] * inverse[c];
      if (!training) continue;
      double lean = product[c] / sites * inverse[c] * inverse[c] * scale[c];
      tilt[c] = lean;
      offset[c] = mean[c] * lean - sum[c] / sites * scale[c];
    }
  }
  rectified_slopes<T>(values, result, slope, scale.data(), offset.data(), tilt.data(), by_values, by_shortcut, sites,
                      channels, threads);
}

}  // namespace cosmictagger
