// gather_rows(x [T,D] or int8 rows, rows int32 [R]) -> [R,D]: out[i] = x[rows[i]].
// scatter_rows(dy [R,D], rows int32 [R], x [T,D]) -> [T,D]: out[t] = sum of dy[i] over the i with rows[i] = t, in the order of i; rows
//   named by none are 0. x gives the shape only. It is the gradient of gather_rows: the indices are sorted first (counting sort,
//   stable), so each row of the result has one writer.
// An index outside [0, T) is an error.
#include "cpu/quantised.h"
#include "cpu/rows.h"
#include "cpu/streaming.h"

namespace zaya::ZAYA_ISA {
namespace {

Status check_rows(const char* name, const Tensor& rows, int64_t count) {
  const int32_t* row = rows.as<int32_t>();
  for (int64_t i = 0; i < rows.size(); i++)
    if (row[i] < 0 || row[i] >= count)
      return error("[%s] expected rows from 0 to %lld, received %d at index %lld", name, static_cast<long long>(count - 1), row[i],
                   static_cast<long long>(i));
  return {};
}

Status gather_rows(const Arguments& a) {
  const Tensor &x = a.in[0], &rows = a.in[1];
  if (Status status = check_rows("gather_rows", rows, x.shape[0]); !status.ok()) return status;
  const int32_t* row = rows.as<int32_t>();
  const size_t bytes = static_cast<size_t>(x.columns()) * size_of(x.dtype);
  const QuantisedRows from(x.data, x.rows(), x.columns()), to(a.out[0].data, rows.size(), x.columns());
  const bool past_caches = a.pool->apart();
  for_rows(*a.pool, rows.size(), x.columns(), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      if (x.encoding == Encoding::rows) to.copy(i, from, row[i]);
      else copy_bytes(a.out[0].as<uint8_t>() + static_cast<size_t>(i) * bytes, x.as<uint8_t>() + static_cast<size_t>(row[i]) * bytes, bytes, past_caches);
    }
  });
  return {};
}

template <class T> Status scatter(const Arguments& a) {
  const Tensor &dy = a.in[0], &rows = a.in[1], &out = a.out[0];
  const int64_t count = out.shape[0], columns = out.columns();
  if (Status status = check_rows("scatter_rows", rows, count); !status.ok()) return status;
  // Entries that name row t are order[start[t]] .. order[start[t+1]], ascending.
  const int32_t* row = rows.as<int32_t>();
  int32_t* start = reinterpret_cast<int32_t*>(a.workspace);
  int32_t* order = start + count + 2;
  std::memset(start, 0, static_cast<size_t>(count + 2) * sizeof(int32_t));
  for (int64_t i = 0; i < rows.size(); i++) start[row[i] + 2]++;
  for (int64_t t = 0; t < count; t++) start[t + 2] += start[t + 1];
  for (int64_t i = 0; i < rows.size(); i++) order[start[row[i] + 1]++] = static_cast<int32_t>(i);
  const ResultRows<T> sums(*a.pool, out);
  for_rows(*a.pool, count, columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++)
      sums.make(t, [&](T* sum) {
        if (start[t] == start[t + 1]) std::memset(sum, 0, static_cast<size_t>(columns) * sizeof(T));
        for (int32_t i = start[t]; i < start[t + 1]; i++) {
          const T* x = dy.as<T>() + order[i] * columns;
          if (i == start[t]) std::memcpy(sum, x, static_cast<size_t>(columns) * sizeof(T));
          else
#pragma GCC ivdep
            for (int64_t c = 0; c < columns; c++) sum[c] += x[c];
        }
      });
  });
  return {};
}

Status scatter_rows(const Arguments& a) { return a.out[0].dtype == DType::float64 ? scatter<double>(a) : scatter<float>(a); }
size_t scatter_rows_workspace(const Arguments& a) {
  return align64(static_cast<size_t>(a.out[0].shape[0] + 2 + a.in[1].size()) * sizeof(int32_t));
}

}  // namespace

ZAYA_OPERATION(gather_rows)
ZAYA_OPERATION_WITH_WORKSPACE(scatter_rows)

}  // namespace zaya::ZAYA_ISA
