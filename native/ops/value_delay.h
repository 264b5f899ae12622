// The forward pass of value_delay for a run of rows; the operation and the fused cca_heads share it.
#pragma once
#include "cpu/ragged.h"

namespace zaya::ZAYA_ISA {

// out[t] = concat(current[t], delayed[t−1]) for rows begin … end − 1, zeros for what is missing.
template <class T> void delay_rows(const T* current, const RaggedRows<T>& delayed, int64_t begin, int64_t end, T* out) {
  const Ragged& ragged = delayed.ragged;
  const int64_t columns = delayed.columns;
  const size_t bytes = static_cast<size_t>(columns) * sizeof(T);
  int64_t s = begin < ragged.rows() ? ragged.owner(begin) : ragged.sequences;
  for (int64_t t = begin; t < end; t++) {
    while (s < ragged.sequences && t >= ragged.end(s)) s++;
    const T* before = s < ragged.sequences ? delayed.row(s, t, 1) : nullptr;
    T* row = out + t * 2 * columns;
    std::memcpy(row, current + t * columns, bytes);
    if (before != nullptr) std::memcpy(row + columns, before, bytes);
    else std::memset(row + columns, 0, bytes);
  }
}

}  // namespace zaya::ZAYA_ISA
