// embedding(table [V,D], ids int32 [T]) -> [T,D]: row ids[t] of the table, as float32 (float64 from a float64 table).
// The table may be plain (float32, bfloat16, float64) or in panels, quantised ones too. An id outside [0, V) is an error.
#include "cpu/gemm.h"
#include "cpu/quantised.h"
#include "cpu/rows.h"
#include "cpu/streaming.h"
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
  const ResultRows<T> rows(*a.pool, out);
  for_rows(*a.pool, ids.size(), columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const int64_t id = ids.as<int32_t>()[t];
      rows.make(t, [&](T* row) {
        if (table.encoding == Encoding::plain) read_elements<T>(table, id * columns, columns, row);
        else if (is_quantised(table)) dequantise_row<T>(quantised_weight(table, 0), id, row);
        else read_panel_row<T>(table, id, columns, row);
      });
    }
  });
  return {};
}

Status embedding(const Arguments& a) { return a.out[0].dtype == DType::float64 ? embed<double>(a) : embed<float>(a); }

}  // namespace

ZAYA_OPERATION(embedding)

}  // namespace zaya::ZAYA_ISA
