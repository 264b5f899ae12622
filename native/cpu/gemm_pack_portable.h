// What packing for gemm.cpp is, and its specification: panels of `height` rows of an operand (12 or fewer of A, 32 of B), over a run of k,
// converted on the way. Element (i, k) of a panel lies at k·height + i, in bfloat16 at (k/2)·2·height + 2i + k%2.
#pragma once
#include <algorithm>

#include "cpu/gemm.h"

namespace zaya::ZAYA_ISA {

struct PanelPack {
  Operand source;
  int64_t rows = 0;    // of the operand
  int64_t k = 0;       // of the operand; what lies beyond is packed as zeros
  int64_t first = 0;   // first row of the panel
  int64_t height = 0;  // rows of the panel, missing ones are zeros
  void* panel = nullptr;
  bool round = false;  // float32 elements of the panel are rounded to bfloat16
  int64_t count = 1;   // panels of this height, one after the other
  bool stream = false; // past the caches, where the way to pack can
};

template <class T> inline double to_number(T value) { return value; }
template <> inline double to_number<bfloat16>(bfloat16 value) { return to_float(value); }
template <class T> inline T from_number(double value) { return static_cast<T>(value); }
template <> inline bfloat16 from_number<bfloat16>(double value) { return to_bfloat16(static_cast<float>(value)); }

// Index of element (row, column) in packed panels of elements S, for a weight of `columns` columns.
template <class S> inline int64_t panel_index(int64_t row, int64_t column, int64_t columns) {
  const int64_t base = row / panel_columns * panel_elements(columns);
  const int64_t lane = row % panel_columns;
  if constexpr (std::is_same_v<S, bfloat16>) return base + column / 2 * 2 * panel_columns + 2 * lane + column % 2;
  return base + column * panel_columns + lane;
}

// The specification: every source, every target, one element at a time. k0 and k1 are even.
template <class S, class D> void pack_elements(const PanelPack& p, int64_t k0, int64_t k1) {
  const S* source = static_cast<const S*>(p.source.data);
  D* panel = static_cast<D*>(p.panel);
  const int64_t stride = p.source.stride;
  const int64_t valid = std::min(p.height, p.rows - p.first);
  for (int64_t k = k0; k < k1; k++) {
    for (int64_t i = 0; i < p.height; i++) {
      const int64_t row = p.first + i;
      D value = 0;
      if (i < valid && k < p.k) {
        int64_t at = 0;
        switch (p.source.layout) {
          case Layout::rows: at = row * stride + k; break;
          case Layout::columns: at = k * stride + row; break;
          case Layout::panels: at = panel_index<S>(row, k, p.k); break;
          case Layout::transposed_panels: at = panel_index<S>(k, row, stride); break;
        }
        if constexpr (std::is_same_v<S, D>)
          value = source[at];
        else
          value = from_number<D>(to_number(source[at]));
        if constexpr (std::is_same_v<D, float>)
          if (p.round) value = to_float(to_bfloat16(value));
      }
      if constexpr (std::is_same_v<D, bfloat16>)
        panel[k / 2 * 2 * p.height + 2 * i + k % 2] = value;
      else
        panel[k * p.height + i] = value;
    }
  }
}

}  // namespace zaya::ZAYA_ISA
