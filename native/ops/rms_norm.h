// One row of rms_norm. The operation and those it is fused into share it; the formula is in rms_norm.cpp.
#pragma once
#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

// y may not be x.
template <class T> inline void norm_row(const T* x, const T* weight, int64_t columns, T eps, T* y) {
  const T scale = 1 / std::sqrt(sum_of<T>(columns, [&](int64_t i) { return x[i] * x[i]; }) / static_cast<T>(columns) + eps);
#pragma GCC ivdep
  for (int64_t i = 0; i < columns; i++) y[i] = x[i] * scale * weight[i];
}

}  // namespace zaya::ZAYA_ISA
