// embedding(table [V,D], ids int32 [T]) -> [T,D]: row ids[t] of the table, as float32 (float64 from a float64 table).
// embedding_grad(dy [T,D], ids int32 [T]){rows = V} -> [V,D]: row v is the sum of dy[t] over the t with ids[t] = v, in the order
// of t; the ids are sorted first (counting sort, stable), so each row of the result has one writer.
// The table may be plain (float32, bfloat16, float64) or in panels, quantised ones too. An id outside [0, V) is an error.
#include "cpu/gemm.h"
#include "cpu/quantised.h"
#include "cpu/rows.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

Status check_ids(const char* name, const Tensor& ids, int64_t rows) {
  const int32_t* id = ids.as<int32_t>();
  for (int64_t t = 0; t < ids.size(); t++)
    if (id[t] < 0 || id[t] >= rows)
      return error("[%s] expected ids from 0 to %lld, received %d at position %lld", name, static_cast<long long>(rows - 1), id[t],
                   static_cast<long long>(t));
  return {};
}

// Row `id` of a table in panels; the layout is described in cpu/gemm.h.
template <class T> void read_panel_row(const Tensor& table, int64_t id, int64_t columns, T* row) {
  const int64_t first = id / panel_columns * panel_elements(columns), lane = id % panel_columns;
  if (table.dtype == DType::bfloat16)
    for (int64_t k = 0; k < columns; k++)
      row[k] = static_cast<T>(to_float(table.as<bfloat16>()[first + 2 * panel_columns * (k / 2) + 2 * lane + k % 2]));
  else
    for (int64_t k = 0; k < columns; k++) row[k] = element<T>(table, first + panel_columns * k + lane);
}

template <class T> Status embed(const Arguments& a) {
  const Tensor &table = a.in[0], &ids = a.in[1], &out = a.out[0];
  const int64_t columns = out.columns();
  if (Status status = check_ids("embedding", ids, table.shape[0]); !status.ok()) return status;
  for_rows(*a.pool, ids.size(), columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const int64_t id = ids.as<int32_t>()[t];
      T* row = out.as<T>() + t * columns;
      if (table.encoding == Encoding::plain) read_elements<T>(table, id * columns, columns, row);
      else if (is_quantised(table)) dequantise_row<T>(quantised_weight(table, 0), id, row);
      else read_panel_row<T>(table, id, columns, row);
    }
  });
  return {};
}

// Tokens of row v are order[start[v]] .. order[start[v+1]], ascending.
template <class T> Status embed_grad(const Arguments& a) {
  const Tensor &dy = a.in[0], &ids = a.in[1], &out = a.out[0];
  const int64_t rows = out.shape[0], columns = out.columns(), tokens = ids.size();
  if (Status status = check_ids("embedding_grad", ids, rows); !status.ok()) return status;
  const int32_t* id = ids.as<int32_t>();
  int32_t* start = reinterpret_cast<int32_t*>(a.workspace);
  int32_t* order = start + rows + 2;
  std::memset(start, 0, static_cast<size_t>(rows + 2) * sizeof(int32_t));
  for (int64_t t = 0; t < tokens; t++) start[id[t] + 2]++;
  for (int64_t v = 0; v < rows; v++) start[v + 2] += start[v + 1];
  for (int64_t t = 0; t < tokens; t++) order[start[id[t] + 1]++] = static_cast<int32_t>(t);
  for_rows(*a.pool, rows, columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t v = begin; v < end; v++) {
      T* row = out.as<T>() + v * columns;
      if (start[v] == start[v + 1]) std::memset(row, 0, static_cast<size_t>(columns) * sizeof(T));
      for (int32_t i = start[v]; i < start[v + 1]; i++) {
        const T* x = dy.as<T>() + order[i] * columns;
        if (i == start[v]) std::memcpy(row, x, static_cast<size_t>(columns) * sizeof(T));
        else
#pragma GCC ivdep
          for (int64_t c = 0; c < columns; c++) row[c] += x[c];
      }
    }
  });
  return {};
}

Status embedding(const Arguments& a) { return a.out[0].dtype == DType::float64 ? embed<double>(a) : embed<float>(a); }
Status embedding_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? embed_grad<double>(a) : embed_grad<float>(a); }
size_t embedding_grad_workspace(const Arguments& a) {
  return align64(static_cast<size_t>(a.out[0].shape[0] + 2 + a.in[1].size()) * sizeof(int32_t));
}

}  // namespace

ZAYA_OPERATION(embedding)
ZAYA_OPERATION_WITH_WORKSPACE(embedding_grad)

}  // namespace zaya::ZAYA_ISA
