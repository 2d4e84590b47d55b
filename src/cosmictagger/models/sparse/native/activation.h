// Normalization over the sites, an added shortcut and rectification, forward and backward.
#pragma once

#include "shares.h"
#include "simd.h"

namespace cosmictagger {

constexpr int ROWS = 256;  // sites of a block of the passes that are elementwise

// The sites are cut into parts that are normalized each by itself, such as those of an image. `starts` [parts + 1] has the
// first site of each.
struct Parts {
  const int64_t* starts;
  int count;
  int64_t sites(int part) const { return starts[part + 1] - starts[part]; }
};

// Consecutive sites of one part.
struct Rows {
  int part;
  int64_t begin, end;
};

inline std::vector<Rows> blocks_of(const Parts& parts) {
  std::vector<Rows> blocks;
  for (int part = 0; part < parts.count; ++part)
    for (int64_t row = parts.starts[part]; row < parts.starts[part + 1]; row += ROWS)
      blocks.push_back({part, row, std::min(row + ROWS, parts.starts[part + 1])});
  return blocks;
}

// Elementwise passes see the values of a block as one long row in which the channels repeat: `period` numbers hold a whole
// number of rows and of vectors, so that any number of channels fills the vectors.
template <class T>
int period_of(int channels) {
  int period = channels;
  while (period % Simd<T>::LANES) period += channels;
  return period;
}

// Numbers [parts, channels], repeated to [parts, period].
template <class T>
std::vector<T> repeated(const std::vector<T>& numbers, int channels, int period) {
  std::vector<T> all(numbers.size() / channels * period);
  for (size_t part = 0; part < numbers.size() / channels; ++part)
    for (int i = 0; i < period; ++i) all[part * period + i] = numbers[part * channels + i % channels];
  return all;
}

// Call body(offset, length) for pieces of at most a period of the numbers of a block.
template <class Body>
inline void by_period(const Rows& block, int channels, int period, Body body) {
  int64_t at = block.begin * channels, end = block.end * channels;
  for (; at + period <= end; at += period) body(at, period);
  if (at < end) body(at, static_cast<int>(end - at));
}

// Sum two numbers for each channel over the sites of each part: body(at, length, part, first, second) adds those of a
// piece to `first` and `second` [period]; the sums are [parts, channels].
template <class T, class Body>
void sum_pairs(const Parts& parts, int channels, double* first, double* second, int threads, Body body) {
  int period = period_of<T>(channels);
  std::vector<Rows> blocks = blocks_of(parts);
  std::vector<T> partial(blocks.size() * 2 * channels);
  in_shares(static_cast<int64_t>(blocks.size()), threads, [&](int64_t number) {
    const Rows& block = blocks[number];
    std::vector<T> sums(2 * period);
    T *one = sums.data(), *other = one + period;
    by_period(block, channels, period, [&](int64_t at, int length) { body(at, length, block.part, one, other); });
    T* to = partial.data() + number * 2 * channels;
    for (int i = 0; i < period; ++i) {
      to[i % channels] += one[i];
      to[channels + i % channels] += other[i];
    }
  });
  std::fill_n(first, parts.count * channels, 0.0);
  std::fill_n(second, parts.count * channels, 0.0);
  for (size_t number = 0; number < blocks.size(); ++number)
    for (int c = 0; c < channels; ++c) {
      first[blocks[number].part * channels + c] += partial[number * 2 * channels + c];
      second[blocks[number].part * channels + c] += partial[(number * 2 + 1) * channels + c];
    }
}

// Call body(at, length, part) for pieces of all blocks.
template <class T, class Body>
void each_piece(const Parts& parts, int channels, int threads, Body body) {
  int period = period_of<T>(channels);
  std::vector<Rows> blocks = blocks_of(parts);
  in_shares(static_cast<int64_t>(blocks.size()), threads, [&](int64_t number) {
    const Rows& block = blocks[number];
    by_period(block, channels, period, [&](int64_t at, int length) { body(at, length, block.part); });
  });
}

// Mean and variance of each channel in each part, [parts, channels].
template <class T>
void statistics(const T* values, const Parts& parts, int channels, std::vector<double>& mean,
                std::vector<double>& variance, int threads) {
  int period = period_of<T>(channels);
  // Sums about a rough mean, that of a part's first rows, lose no digits to a common offset.
  std::vector<T> rough(parts.count * channels);
  for (int part = 0; part < parts.count; ++part) {
    int64_t some = std::min<int64_t>(parts.sites(part), ROWS);
    for (int64_t row = parts.starts[part]; row < parts.starts[part] + some; ++row)
      for (int c = 0; c < channels; ++c) rough[part * channels + c] += values[row * channels + c] / some;
  }
  std::vector<T> offset = repeated(rough, channels, period);
  sum_pairs<T>(parts, channels, mean.data(), variance.data(), threads,
               [&](int64_t at, int length, int part, T* sum, T* square) {
                 const T *x = values + at, *shift = offset.data() + part * period;
#pragma omp simd
                 for (int i = 0; i < length; ++i) {
                   T d = x[i] - shift[i];
                   sum[i] += d;
                   square[i] += d * d;
                 }
               });
  for (int part = 0; part < parts.count; ++part)
    for (int c = part * channels; c < (part + 1) * channels; ++c) {
      double sum = mean[c], sites = static_cast<double>(parts.sites(part));
      mean[c] = rough[c] + sum / sites;
      variance[c] = std::max(0.0, (variance[c] - sum * sum / sites) / sites);
    }
}

// result = max(values * scale + offset + shortcut, 0), in this order, which lets NaN pass.
template <class T>
void rectify(const T* values, const std::vector<T>& scale, const std::vector<T>& offset, const T* shortcut, T* result,
             const Parts& parts, int channels, int threads) {
  int period = period_of<T>(channels);
  std::vector<T> a = repeated(scale, channels, period), b = repeated(offset, channels, period);
  each_piece<T>(parts, channels, threads, [&](int64_t at, int length, int part) {
    const T *x = values + at, *more = shortcut + at, *factor = a.data() + part * period, *shift = b.data() + part * period;
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

// With g = slope where result > 0: by_shortcut = g, by_values = g * scale + offset - values * tilt.
template <class T>
void rectified_slopes(const T* values, const T* result, const T* slope, const std::vector<T>& scale,
                      const std::vector<T>& offset, const std::vector<T>& tilt, T* by_values, T* by_shortcut,
                      const Parts& parts, int channels, int threads) {
  int period = period_of<T>(channels);
  std::vector<T> a = repeated(scale, channels, period), b = repeated(offset, channels, period);
  std::vector<T> c = repeated(tilt, channels, period);
  each_piece<T>(parts, channels, threads, [&](int64_t at, int length, int part) {
    const T *x = values + at, *y = result + at, *dy = slope + at;
    const T *factor = a.data() + part * period, *shift = b.data() + part * period, *lean = c.data() + part * period;
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

// Normalize, add the shortcut, rectify. In training the statistics of each part are used and the running ones, if any,
// updated. `mean` and `inverse` (of the standard deviation), [parts, channels], are kept for the way back.
template <class T>
void activate(const T* values, const T* shortcut, Norm<T> norm, double momentum, double epsilon, bool training, T* mean,
              T* inverse, T* result, Parts parts, int channels, int threads) {
  std::vector<T> scale(parts.count * channels, T(1)), offset(parts.count * channels);
  if (norm.weight) {
    std::vector<double> m(parts.count * channels), v(parts.count * channels);
    if (training) statistics<T>(values, parts, channels, m, v, threads);
    for (int part = 0; part < parts.count; ++part) {
      double sites = static_cast<double>(parts.sites(part));
      for (int c = 0, i = part * channels; c < channels; ++c, ++i) {
        if (!training) {
          m[i] = norm.running_mean[c];
          v[i] = norm.running_var[c];
        } else if (norm.running_mean) {
          norm.running_mean[c] += momentum * (m[i] - norm.running_mean[c]);
          norm.running_var[c] += momentum * (v[i] * sites / (sites - 1) - norm.running_var[c]);
        }
        mean[i] = m[i];
        inverse[i] = 1 / std::sqrt(v[i] + epsilon);
        scale[i] = norm.weight[c] * inverse[i];
        offset[i] = norm.bias[c] - m[i] * scale[i];
      }
    }
  }
  rectify<T>(values, scale, offset, shortcut, result, parts, channels, threads);
}

// The slopes of all that went into `activate`; `by_values` may be the memory of `slope`.
template <class T>
void activate_slopes(const T* values, const T* result, const T* slope, const T* weight, bool training, const T* mean,
                     const T* inverse, T* by_values, T* by_shortcut, T* by_weight, T* by_bias, Parts parts,
                     int channels, int threads) {
  int period = period_of<T>(channels), all = parts.count * channels;
  std::vector<T> scale(all, T(1)), offset(all), tilt(all);
  if (weight) {
    std::vector<double> sum(all), product(all);
    std::vector<T> centre = repeated(std::vector<T>(mean, mean + all), channels, period);
    sum_pairs<T>(parts, channels, sum.data(), product.data(), threads,
                 [&](int64_t at, int length, int part, T* s, T* m) {
                   const T *x = values + at, *y = result + at, *dy = slope + at, *shift = centre.data() + part * period;
#pragma omp simd
                   for (int i = 0; i < length; ++i) {
                     T g = y[i] > 0 ? dy[i] : T(0);
                     s[i] += g;
                     m[i] += g * (x[i] - shift[i]);
                   }
                 });
    std::fill_n(by_weight, channels, T(0));
    std::fill_n(by_bias, channels, T(0));
    for (int i = 0; i < all; ++i) {
      int c = i % channels;
      double sites = static_cast<double>(parts.sites(i / channels));
      by_weight[c] += product[i] * inverse[i];
      by_bias[c] += sum[i];
      scale[i] = weight[c] * inverse[i];
      if (!training) continue;
      double lean = product[i] / sites * inverse[i] * inverse[i] * scale[i];
      tilt[i] = lean;
      offset[i] = mean[i] * lean - sum[i] / sites * scale[i];
    }
  }
  rectified_slopes<T>(values, result, slope, scale, offset, tilt, by_values, by_shortcut, parts, channels, threads);
}

}  // namespace cosmictagger
