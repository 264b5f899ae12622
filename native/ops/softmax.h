// One row of softmax. The operation and the fused router share it; the formula is in softmax.cpp.
#pragma once
#include "cpu/rows.h"

namespace zaya::ZAYA_ISA {

// p may be x.
template <class T> void softmax_row(const T* x, int64_t columns, T* p) {
  T top = -INFINITY;
  for (int64_t i = 0; i < columns; i++) top = x[i] > top ? x[i] : top;
  map_lanes<T>(x, p, columns, [&](Lanes<T> v) { return exponential(v - top); });
  const T total = sum_of<T>(columns, [&](int64_t i) { return p[i]; });
#pragma GCC ivdep
  for (int64_t i = 0; i < columns; i++) p[i] /= total;
}

}  // namespace zaya::ZAYA_ISA
