// column_sum(x [T,N]) -> [N]: the sum of every column, in the type of x. Rows in chunks, added in order (cpu/rows.h).
#include "cpu/rows.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status apply(const Arguments& a) {
  const T* x = a.in[0].as<T>();
  const int64_t rows = a.in[0].rows(), columns = a.in[0].columns();
  T* partial = reinterpret_cast<T*>(a.workspace);
  const RowChunks chunks = row_chunks(rows);
  for_chunks(*a.pool, chunks, [&](int64_t begin, int64_t end, int64_t chunk) {
    T* out = partial + chunk * columns;
    for (int64_t i = 0; i < columns; i++) out[i] = 0;
    for (int64_t row = begin; row < end; row++) {
      const T* from = x + row * columns;
#pragma GCC ivdep
      for (int64_t i = 0; i < columns; i++) out[i] += from[i];
    }
  });
  add_chunks(*a.pool, chunks, partial, columns, columns, a.out[0].as<T>());
  return {};
}

size_t column_sum_workspace(const Arguments& a) {
  const Tensor& x = a.in[0];
  return x.dtype == DType::float64 ? partial_bytes<double>(x.rows(), x.columns()) : partial_bytes<float>(x.rows(), x.columns());
}
Status column_sum(const Arguments& a) { return a.in[0].dtype == DType::float64 ? apply<double>(a) : apply<float>(a); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(column_sum)

}  // namespace zaya::ZAYA_ISA
