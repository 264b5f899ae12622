// How gemm.cpp cuts a list of products into tasks, and in which types it multiplies them. No result depends on the cut.
#pragma once
#include <algorithm>

#include "cpu/gemm.h"
#include "cpu/gemm_tile.h"

namespace zaya::ZAYA_ISA {

constexpr int64_t block_panels = 20;               // 240 rows of C a task at most …
constexpr int64_t group_panels = 16;               // … by 512 columns
constexpr int64_t least_own_panels = 6;            // of rows that are worth packing by the task that multiplies them
constexpr int64_t own_columns_rows = 80;           // row panels of a product at most, for tasks to pack their own columns,
constexpr int64_t own_bytes = 256 << 10;           // which are so many packed,
constexpr int64_t most_own_columns = 4;            // and so many panels, at most
constexpr int64_t tasks_each = 12;                 // of tasks that pack a thread has, so that none waits long for another at the end

struct Formats {
  Format format;
  DType a;
  DType b;
  bool round_a = false;  // A is rounded to bfloat16, but stays float32
};

inline Formats formats_of(Math math, DType b) {
  if (math == Math::float64) return {Format::float64, DType::float64, DType::float64};
  if (math == Math::bfloat16) return {Format::bfloat16, bfloat16_rows, DType::bfloat16, bfloat16_rows == DType::float32};
  if (b == DType::bfloat16) return {Format::float32_by_bfloat16, DType::float32, DType::bfloat16};
  return {Format::float32, DType::float32, DType::float32};
}

// Column panels of a product that are dealt out, each of so many parts: one of gate comes with that of up.
inline int64_t parts_of(const MatrixProduct& p) { return p.swiglu ? 2 : 1; }
inline int64_t column_panels_of(const MatrixProduct& p) { return panels_of(p.n / parts_of(p)); }

inline int64_t ceiling(int64_t n, int64_t d) { return (n + d - 1) / d; }
inline int64_t row_panels_of(int64_t m) { return ceiling(m, tile_height); }

// Blocks of row panels by groups of column panels.
struct Cut {
  int64_t rows = block_panels;
  int64_t columns = group_panels;
};

inline int64_t tasks_of(const MatrixProduct* products, int64_t count, int64_t panels, Cut cut) {
  int64_t tasks = 0;
  for (int64_t i = 0; i < count; i++) tasks += ceiling(row_panels_of(products[i].m), cut.rows);
  return tasks * ceiling(panels, cut.columns);
}

inline Cut choose_cut(const MatrixProduct* products, int64_t count, int64_t panels, int threads) {
  Cut cut{block_panels, group_panels / parts_of(*products)};
  int64_t most_rows = 1;
  for (int64_t i = 0; i < count; i++) most_rows = std::max(most_rows, row_panels_of(products[i].m));
  cut.rows = std::min(cut.rows, most_rows);
  const int64_t wanted = threads == 1 ? 1 : 8 * static_cast<int64_t>(threads);
  while (tasks_of(products, count, panels, cut) < wanted) {
    if (cut.columns > 4) cut.columns /= 2;
    else if (cut.rows > 5) cut.rows = ceiling(cut.rows, 2);
    else if (cut.columns > 1) cut.columns /= 2;
    else break;
  }
  return cut;
}

// Column panels of a task that packs its own columns of B: where every product has a B of its own and few rows, B comes from memory while other threads
// multiply, and is in the cache of the core that needs it. 0: B is packed for all tasks, before them.
inline int64_t choose_own_columns(const MatrixProduct* products, int64_t count, const Formats& formats, int threads, size_t workspace_bytes) {
  int64_t longest = 1, rows = 0;
  size_t bytes = 0;
  for (int64_t i = 0; i < count; i++) {
    longest = std::max(longest, products[i].k), rows = std::max(rows, row_panels_of(products[i].m));
    bytes += align64(static_cast<size_t>(products[i].m * even(products[i].k)) * size_of(formats.a));
  }
  const int64_t panels = column_panels_of(*products), parts = parts_of(*products);
  const int64_t panel_bytes = parts * panel_elements(longest) * static_cast<int64_t>(size_of(formats.b));
  const int64_t columns = std::clamp<int64_t>(own_bytes / panel_bytes, 1, std::clamp<int64_t>(panels, 1, most_own_columns / parts));
  const bool fit = bytes + static_cast<size_t>(threads * columns * panel_bytes) <= workspace_bytes;
  return count > 1 && rows <= own_columns_rows && count * ceiling(panels, columns) >= tasks_each * threads && fit ? columns : 0;
}

// Row panels of a task that packs its own rows of A, just before it multiplies them by all columns: they are then in its cache, and nobody
// waits for them. 0 where there are too few rows to go round, so that columns must be shared out too and A is packed for all, and where a B that is read in
// place would come from memory several times for few rows, as with uneven groups.
inline int64_t choose_own_rows(const MatrixProduct* products, int64_t count, bool in_place, int threads) {
  int64_t rows = 0, most = 0;
  for (int64_t i = 0; i < count; i++) rows += row_panels_of(products[i].m), most = std::max(most, row_panels_of(products[i].m));
  // Of one product every thread gets the same number of tasks.
  const int64_t wanted = threads == 1 ? 1 : tasks_each * static_cast<int64_t>(threads);
  const int64_t each = ceiling(rows, ceiling(std::max(ceiling(rows, block_panels), wanted), threads) * threads);
  const int64_t least = std::min(least_own_panels, in_place ? most : rows / count);
  return rows < wanted || each < least ? 0 : each;
}

}  // namespace zaya::ZAYA_ISA
