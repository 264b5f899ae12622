// The activation of gated linear units.
#pragma once
#include "cpu/rows.h"

namespace zaya::ZAYA_ISA {

// y[i] = silu(gate[i]) · up[i] for i in [0, n); silu(g) = g / (1 + exp(−g)). y may be gate or up.
template <class T> inline void swiglu_row(const T* gate, const T* up, T* y, int64_t n) {
  map_lanes<T>(gate, up, y, n, [](Lanes<T> g, Lanes<T> u) { return g / (exponential(-g) + T(1)) * u; });
}

}  // namespace zaya::ZAYA_ISA
