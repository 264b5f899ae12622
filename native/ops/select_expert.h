// The choice of select_expert. The operation and the fused router share it; the rules are in select_expert.cpp.
#pragma once
#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

template <class T> int32_t best_class(const T* p, const T* bias, int64_t classes) {
  int32_t best = 0;
  T value = -INFINITY;
  for (int64_t c = 0; c < classes; c++) {
    const T candidate = p[c] + bias[c];
    if (candidate > value) {
      value = candidate;
      best = static_cast<int32_t>(c);
    }
  }
  return best;
}

}  // namespace zaya::ZAYA_ISA
