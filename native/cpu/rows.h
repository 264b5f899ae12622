// How kernels that work on rows [rows, columns] are cut into tasks and how they sum over rows.
// Every cut depends on the shape alone, never on the number of threads.
#pragma once
#include <algorithm>

#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

// Elements a task should have: small enough to share out, large enough to pay for claiming the task.
constexpr int64_t task_elements = 16384;

inline int64_t row_grain(int64_t columns) { return std::max<int64_t>(1, task_elements / std::max<int64_t>(1, columns)); }

// fn(begin, end, thread) over runs of rows of about task_elements elements.
template <class F> void for_rows(Pool& pool, int64_t rows, int64_t columns, F&& fn) { pool.run_ranges(rows, row_grain(columns), fn); }

// fn(begin, end) over [0, n) in runs of task_elements.
template <class F> void for_elements(Pool& pool, int64_t n, F&& fn) {
  pool.run_ranges(n, task_elements, [&](int64_t begin, int64_t end, int) { fn(begin, end); });
}

template <class T> inline void store_first(T* p, Lanes<T> v, int64_t n) { std::memcpy(p, &v, static_cast<size_t>(n) * sizeof(T)); }

// out[i] = f(x[i]) for i in [0, n), sixteen at a time; out may be x.
template <class T, class F> inline void map_lanes(const T* x, T* out, int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store<T>(out + i, f(load<T>(x + i)));
  if (i < n) store_first<T>(out + i, f(load_first<T>(x + i, n - i)), n - i);
}

// out[i] = f(a[i], b[i]); out may be a or b.
template <class T, class F> inline void map_lanes(const T* a, const T* b, T* out, int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store<T>(out + i, f(load<T>(a + i), load<T>(b + i)));
  if (i < n) store_first<T>(out + i, f(load_first<T>(a + i, n - i), load_first<T>(b + i, n - i)), n - i);
}

// Sums over rows: the rows are cut into at most 64 chunks, a chunk adds its rows in order into its own partial row,
// and the partial rows are added in the order of the chunks.
struct RowChunks {
  int64_t rows, size, count;
};
constexpr int64_t max_chunks = 64;
inline RowChunks row_chunks(int64_t rows) {
  int64_t size = std::max<int64_t>(16, (rows + max_chunks - 1) / max_chunks);
  return {rows, size, (rows + size - 1) / size};
}
// Bytes for `sums` partial rows of `columns` a chunk; the same for every number of rows that fills the chunks.
template <class T> inline size_t partial_bytes(int64_t rows, int64_t columns, int64_t sums = 1) {
  int64_t count = std::min(max_chunks, (rows + 15) / 16);
  return align64(static_cast<size_t>(count * columns * sums) * sizeof(T));
}

// fn(begin, end, chunk) over the chunks.
template <class F> void for_chunks(Pool& pool, RowChunks chunks, F&& fn) {
  pool.run(chunks.count, [&](int64_t chunk, int) {
    fn(chunk * chunks.size, std::min(chunks.rows, (chunk + 1) * chunks.size), chunk);
  });
}

// out[i] = sum over chunks of partial[chunk * stride + i], i in [0, columns).
template <class T> void add_chunks(Pool& pool, RowChunks chunks, const T* partial, int64_t stride, int64_t columns, T* out) {
  pool.run_ranges(columns, 512, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) out[i] = 0;
    for (int64_t chunk = 0; chunk < chunks.count; chunk++) {
      const T* row = partial + chunk * stride;
#pragma GCC ivdep
      for (int64_t i = begin; i < end; i++) out[i] += row[i];
    }
  });
}

}  // namespace zaya::ZAYA_ISA
