// Normalization over the sites, an added shortcut and rectification, forward and backward.
#pragma once

#include "shares.h"
#include "simd.h"

namespace cosmictagger {

constexpr int NUMBERS = 8192;  // values of a block of the passes that are elementwise, roughly
constexpr int ROUGH = 32;      // sites whose mean is a rough one of all
constexpr int COLUMNS = 6;     // vectors of sums that stay in registers together, of each of two sums

// The sites are cut into parts that are normalized each by itself, such as those of an image. `starts` [parts + 1] has the
// first site of each.
struct Parts {
  const int64_t* starts;
  int count;
  int64_t sites(int part) const { return starts[part + 1] - starts[part]; }
};

// Elementwise passes see values as one long row in which the channels repeat: `period` numbers hold a whole number of sites
// and of vectors, so that any number of channels fills the vectors, and of these enough to be added up side by side.
template <class T>
int period_of(int channels) {
  constexpr int LANES = Simd<T>::LANES;
  int period = channels;
  while (period % LANES || period < 4 * LANES) period += channels;
  return period;
}

// Consecutive values of one part: numbers of periods, the last one perhaps cut.
struct Range {
  int part;
  int64_t begin, end;
};

inline std::vector<Range> ranges_of(const Parts& parts, int channels, int period) {
  int64_t step = std::max(NUMBERS / period, 1) * period;
  std::vector<Range> ranges;
  for (int part = 0; part < parts.count; ++part) {
    int64_t end = parts.starts[part + 1] * channels;
    for (int64_t at = parts.starts[part] * channels; at < end; at += step)
      ranges.push_back({part, at, std::min(at + step, end)});
  }
  return ranges;
}

// Numbers [parts, channels], repeated to [parts, period].
template <class T>
std::vector<T> repeated(const std::vector<T>& numbers, int channels, int period) {
  std::vector<T> all;
  all.reserve(numbers.size() / channels * period);
  for (auto from = numbers.begin(); from != numbers.end(); from += channels)
    for (int i = 0; i < period; i += channels) all.insert(all.end(), from, from + channels);
  return all;
}

// Add N vectors of every whole period of a range, from `column` of the period on, to two sums in registers.
template <class T, int N, class Body>
inline void sum_columns(const Range& range, int period, int column, T* one, T* other, Body body) {
  using S = Simd<T>;
  typename S::V first[N] = {}, second[N] = {};
  for (int64_t at = range.begin + column; at + period <= range.end + column; at += period)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
      body(S(), at + n * S::LANES, column + n * S::LANES, range.part, first[n], second[n]);
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    S::store(one + column + n * S::LANES, first[n]);
    S::store(other + column + n * S::LANES, second[n]);
  }
}

// `sum_columns` of the last columns, at most N vectors.
template <class T, int N, class Body>
inline void sum_last_columns(const Range& range, int period, int column, T* one, T* other, Body body) {
  if constexpr (N > 0) {
    if (period - column == N * Simd<T>::LANES) sum_columns<T, N>(range, period, column, one, other, body);
    else sum_last_columns<T, N - 1>(range, period, column, one, other, body);
  }
}

// Sum two numbers for each channel over the sites of each part, [parts, channels]: body(simd, at, i, part, first, second)
// adds those of the values `at`, position i of the period, to `first` and `second`.
template <class T, class Body>
void sum_pairs(const Parts& parts, int channels, double* first, double* second, int threads, Body body) {
  constexpr int STEP = COLUMNS * Simd<T>::LANES;
  int period = period_of<T>(channels);
  std::vector<Range> ranges = ranges_of(parts, channels, period);
  std::vector<T> partial(ranges.size() * 2 * channels);
  in_shares(static_cast<int64_t>(ranges.size()), threads, [&](int64_t number) {
    const Range& range = ranges[number];
    std::vector<T> sums(2 * period);
    T *one = sums.data(), *other = one + period;
    int column = 0;
    for (; column + STEP <= period; column += STEP) sum_columns<T, COLUMNS>(range, period, column, one, other, body);
    sum_last_columns<T, COLUMNS - 1>(range, period, column, one, other, body);
    int left = static_cast<int>((range.end - range.begin) % period);
    for (int i = 0; i < left; ++i) body(Single<T>(), range.end - left + i, i, range.part, one[i], other[i]);
    T* to = partial.data() + number * 2 * channels;
    for (int i = 0; i < period; i += channels)
      for (int c = 0; c < channels; ++c) {
        to[c] += one[i + c];
        to[channels + c] += other[i + c];
      }
  });
  std::fill_n(first, parts.count * channels, 0.0);
  std::fill_n(second, parts.count * channels, 0.0);
  for (size_t number = 0; number < ranges.size(); ++number)
    for (int c = 0; c < channels; ++c) {
      first[ranges[number].part * channels + c] += partial[number * 2 * channels + c];
      second[ranges[number].part * channels + c] += partial[(number * 2 + 1) * channels + c];
    }
}

// Call body(simd, at, i, part) for all values, position i of the period of [parts, period].
template <class T, class Body>
void each_value(const Parts& parts, int channels, int threads, Body body) {
  using S = Simd<T>;
  int period = period_of<T>(channels);
  std::vector<Range> ranges = ranges_of(parts, channels, period);
  in_shares(static_cast<int64_t>(ranges.size()), threads, [&](int64_t number) {
    const Range& range = ranges[number];
    int64_t at = range.begin;
    for (; at + period <= range.end; at += period)
      for (int i = 0; i < period; i += S::LANES) body(S(), at + i, i, range.part);
    for (int i = 0; at < range.end; ++at, ++i) body(Single<T>(), at, i, range.part);
  });
}

// Mean and variance of each channel in each part, [parts, channels].
template <class T>
void statistics(const T* values, const Parts& parts, int channels, std::vector<double>& mean,
                std::vector<double>& variance, int threads) {
  int period = period_of<T>(channels);
  // Sums about a rough mean, that of a part's first sites, lose no digits to a common offset.
  std::vector<T> rough(parts.count * channels);
  for (int part = 0; part < parts.count; ++part) {
    int64_t some = std::min<int64_t>(parts.sites(part), ROUGH);
    for (int64_t row = parts.starts[part]; row < parts.starts[part] + some; ++row)
      for (int c = 0; c < channels; ++c) rough[part * channels + c] += values[row * channels + c] / some;
  }
  std::vector<T> offset = repeated(rough, channels, period);
  sum_pairs<T>(parts, channels, mean.data(), variance.data(), threads,
               [=, shift = offset.data()](auto simd, int64_t at, int i, int part, auto& sum, auto& square) {
                 using S = decltype(simd);
                 auto d = S::load(values + at) - S::load(shift + part * period + i);
                 sum += d;
                 square += d * d;
               });
  for (int part = 0; part < parts.count; ++part)
    for (int c = part * channels; c < (part + 1) * channels; ++c) {
      double sum = mean[c], sites = static_cast<double>(parts.sites(part));
      mean[c] = rough[c] + sum / sites;
      variance[c] = std::max(0.0, (variance[c] - sum * sum / sites) / sites);
    }
}

// What normalization needs, each [channels]; all null where there is none, the last two also without running statistics.
template <class T>
struct Norm {
  const T *weight, *bias;
  T *running_mean, *running_var;
};

// Normalization is values * scale + offset; both are [parts, period].
template <class T>
struct Affine {
  std::vector<T> scale, offset;
  Affine(const Norm<T>& norm, const T* mean, const T* inverse, const Parts& parts, int channels, int period) {
    std::vector<T> a(parts.count * channels, T(1)), b(parts.count * channels);
    if (norm.weight)
      for (int part = 0, i = 0; part < parts.count; ++part)
        for (int c = 0; c < channels; ++c, ++i) {
          a[i] = norm.weight[c] * inverse[i];
          b[i] = norm.bias[c] - mean[i] * a[i];
        }
    scale = repeated(a, channels, period);
    offset = repeated(b, channels, period);
  }
};

// One vector of it: `at` among the values, i among the periods.
template <class S, class T>
inline typename S::V normalized(S, const T* values, const T* scale, const T* offset, int64_t at, int i) {
  return S::load(values + at) * S::load(scale + i) + S::load(offset + i);
}

// result = max(values * scale + offset + shortcut, 0), which lets NaN pass.
template <class T>
void rectify(const T* values, const T* shortcut, const Norm<T>& norm, const T* mean, const T* inverse, T* result,
             const Parts& parts, int channels, int threads) {
  int period = period_of<T>(channels);
  Affine<T> affine(norm, mean, inverse, parts, channels, period);
  const T *scale = affine.scale.data(), *offset = affine.offset.data();
  auto store = [=](auto simd, int64_t at, auto y) {
    fetch_to_write(result + at + AHEAD_BYTES / sizeof(T));
    simd.store(result + at, y < 0 ? decltype(y){} : y);
  };
  if (shortcut)
    each_value<T>(parts, channels, threads, [=](auto simd, int64_t at, int i, int part) {
      store(simd, at, normalized(simd, values, scale, offset, at, part * period + i) + simd.load(shortcut + at));
    });
  else
    each_value<T>(parts, channels, threads, [=](auto simd, int64_t at, int i, int part) {
      store(simd, at, normalized(simd, values, scale, offset, at, part * period + i));
    });
}

// Normalize, add the shortcut, rectify. In training the statistics of each part are used and the running ones, if any,
// updated. `mean` and `inverse` (of the standard deviation), [parts, channels], are kept for the way back.
template <class T>
void activate(const T* values, const T* shortcut, Norm<T> norm, double momentum, double epsilon, bool training, T* mean,
              T* inverse, T* result, Parts parts, int channels, int threads) {
  if (norm.weight) {
    std::vector<double> m(parts.count * channels), v(parts.count * channels);
    if (training) statistics<T>(values, parts, channels, m, v, threads);
    for (int part = 0, i = 0; part < parts.count; ++part) {
      double sites = static_cast<double>(parts.sites(part));
      for (int c = 0; c < channels; ++c, ++i) {
        if (!training) {
          m[i] = norm.running_mean[c];
          v[i] = norm.running_var[c];
        } else if (norm.running_mean) {
          norm.running_mean[c] += momentum * (m[i] - norm.running_mean[c]);
          norm.running_var[c] += momentum * (v[i] * sites / (sites - 1) - norm.running_var[c]);
        }
        mean[i] = m[i];
        inverse[i] = 1 / std::sqrt(v[i] + epsilon);
      }
    }
  }
  rectify<T>(values, shortcut, norm, mean, inverse, result, parts, channels, threads);
}

// `activate_slopes`, where passed(simd, at, i) are the slopes that the rectification lets pass.
template <class T, class Passed>
void passed_slopes(const T* values, const Norm<T>& norm, bool training, const T* mean, const T* inverse, T* by_values,
                   T* by_shortcut, T* by_weight, T* by_bias, const Parts& parts, int channels, int threads,
                   const T* scale, Passed passed) {
  int period = period_of<T>(channels), all = parts.count * channels;
  std::vector<T> common(all), tilt(all);  // by_values = slope * scale + common - values * tilt
  if (norm.weight) {
    std::vector<double> sum(all), product(all);
    std::vector<T> centre = repeated(std::vector<T>(mean, mean + all), channels, period);
    sum_pairs<T>(parts, channels, sum.data(), product.data(), threads,
                 [=, shift = centre.data()](auto simd, int64_t at, int i, int part, auto& s, auto& p) {
                   auto g = passed(simd, at, part * period + i);
                   s += g;
                   p += g * (simd.load(values + at) - simd.load(shift + part * period + i));
                 });
    std::fill_n(by_weight, channels, T(0));
    std::fill_n(by_bias, channels, T(0));
    for (int part = 0, i = 0; part < parts.count; ++part) {
      double sites = static_cast<double>(parts.sites(part));
      for (int c = 0; c < channels; ++c, ++i) {
        by_weight[c] += product[i] * inverse[i];
        by_bias[c] += sum[i];
        if (!training) continue;
        double factor = norm.weight[c] * inverse[i], lean = product[i] / sites * inverse[i] * inverse[i] * factor;
        tilt[i] = lean;
        common[i] = mean[i] * lean - sum[i] / sites * factor;
      }
    }
  }
  std::vector<T> a = repeated(common, channels, period), b = repeated(tilt, channels, period);
  auto store = [=, shift = a.data(), lean = b.data()](auto simd, int64_t at, int i, auto g) {
    simd.store(by_values + at,
               g * simd.load(scale + i) + simd.load(shift + i) - simd.load(values + at) * simd.load(lean + i));
  };
  if (by_shortcut)
    each_value<T>(parts, channels, threads, [=](auto simd, int64_t at, int i, int part) {
      auto g = passed(simd, at, part * period + i);
      simd.store(by_shortcut + at, g);
      store(simd, at, part * period + i, g);
    });
  else
    each_value<T>(parts, channels, threads, [=](auto simd, int64_t at, int i, int part) {
      store(simd, at, part * period + i, passed(simd, at, part * period + i));
    });
}

// The slopes of all that went into `activate`; `by_values` may be the memory of `slope`. Without a shortcut `result` may be
// null: it is computed again, from values that are read anyway.
template <class T>
void activate_slopes(const T* values, const T* result, const T* slope, Norm<T> norm, bool training, const T* mean,
                     const T* inverse, T* by_values, T* by_shortcut, T* by_weight, T* by_bias, Parts parts,
                     int channels, int threads) {
  Affine<T> affine(norm, mean, inverse, parts, channels, period_of<T>(channels));
  const T *scale = affine.scale.data(), *offset = affine.offset.data();
  auto run = [&](auto passed) {
    passed_slopes<T>(values, norm, training, mean, inverse, by_values, by_shortcut, by_weight, by_bias, parts, channels,
                     threads, scale, passed);
  };
  if (result)
    run([=](auto simd, int64_t at, int) {
      return simd.load(result + at) > 0 ? simd.load(slope + at) : typename decltype(simd)::V{};
    });
  else
    run([=](auto simd, int64_t at, int i) {
      auto y = normalized(simd, values, scale, offset, at, i);
      return y > 0 ? simd.load(slope + at) : typename decltype(simd)::V{};
    });
}

}  // namespace cosmictagger
