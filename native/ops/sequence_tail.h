// The last rows of a sequence. The operation sequence_tail and the fused cca_heads share it.
#pragma once
#include "cpu/ragged.h"

namespace zaya::ZAYA_ISA {

// The last `depth` rows of sequence s, oldest first: rows of this chunk, before them rows of its state, before its first row zeros.
// Zeros for a sequence without rows in this chunk.
template <class T> void tail_rows(const RaggedRows<T>& rows, int64_t s, int64_t depth, T* out) {
  const int64_t end = rows.ragged.end(s);
  const bool empty = end == rows.ragged.begin(s);
  for (int64_t j = 0; j < depth; j++, out += rows.columns) {
    const T* row = empty ? nullptr : rows.row(s, end, depth - j);
    if (row != nullptr) std::copy(row, row + rows.columns, out);
    else std::fill(out, out + rows.columns, T(0));
  }
}

}  // namespace zaya::ZAYA_ISA
