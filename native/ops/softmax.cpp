// softmax(x [T,C]) -> p [T,C] over the last axis: p = exp(x − max) / Σ exp(x − max), in the type of x (float32).
//   An entry of −inf gets 0; a row of nothing but −inf has no distribution and gets NaN.
// softmax_grad(dp [T,C], p [T,C]) -> dx = p · (dp − Σ dp · p)
// Accumulation: a row's sum in 16 lanes.
#include "ops/softmax.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status normalise(const Arguments& a) {
  const int64_t columns = a.in[0].columns();
  for_rows(*a.pool, a.in[0].rows(), 4 * columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) softmax_row(a.in[0].as<T>() + t * columns, columns, a.out[0].as<T>() + t * columns);
  });
  return {};
}

template <class T> Status normalise_grad(const Arguments& a) {
  const int64_t columns = a.in[0].columns();
  for_rows(*a.pool, a.in[0].rows(), columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const T* dp = a.in[0].as<T>() + t * columns;
      const T* p = a.in[1].as<T>() + t * columns;
      T* dx = a.out[0].as<T>() + t * columns;
      const T along = sum_of<T>(columns, [&](int64_t i) { return dp[i] * p[i]; });
#pragma GCC ivdep
      for (int64_t i = 0; i < columns; i++) dx[i] = p[i] * (dp[i] - along);
    }
  });
  return {};
}

Status softmax(const Arguments& a) { return a.out[0].dtype == DType::float64 ? normalise<double>(a) : normalise<float>(a); }
Status softmax_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? normalise_grad<double>(a) : normalise_grad<float>(a); }

}  // namespace

ZAYA_OPERATION(softmax)
ZAYA_OPERATION(softmax_grad)

}  // namespace zaya::ZAYA_ISA
