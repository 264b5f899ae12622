// value_delay(current [T,W], delayed [T,W], cu_seqlens [S+1], state? [slots,1,W], slots? [S], cached? [S]) -> [T,2W]
//   out[t] = concat(current[t], delayed[t−1]); before a sequence's first row stands its state, or zeros when cached[s] is 0 or
//   there is no state (ops/value_delay.h).
// value_delay_grad(dout [T,2W], cu_seqlens) -> dcurrent [T,W], ddelayed [T,W] (without state): ddelayed[t] = dout[t+1]'s second
//   half within the sequence, 0 at its last row.
#include "cpu/rows.h"
#include "ops/value_delay.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status delay(const Arguments& a) {
  const Tensor& current = a.in[0];
  RaggedRows<T> delayed;
  if (Status status = read_rows("value_delay", a.in[1], a.in[2], a.in[3], a.in[4], a.in[5], &delayed); !status.ok()) return status;
  for_rows(*a.pool, delayed.tokens, 2 * delayed.columns, [&](int64_t begin, int64_t end, int) {
    delay_rows(current.as<T>(), delayed, begin, end, a.out[0].as<T>());
  });
  return {};
}

template <class T> Status delay_grad(const Arguments& a) {
  const Tensor& dout = a.in[0];
  const int64_t tokens = dout.shape[0], columns = dout.shape[1] / 2;
  const size_t bytes = static_cast<size_t>(columns) * sizeof(T);
  Ragged ragged;
  if (Status status = read_ragged("value_delay_grad", a.in[1], tokens, &ragged); !status.ok()) return status;
  for_rows(*a.pool, tokens, 2 * columns, [&](int64_t begin, int64_t end, int) {
    int64_t s = begin < ragged.rows() ? ragged.owner(begin) : ragged.sequences;
    for (int64_t t = begin; t < end; t++) {
      while (s < ragged.sequences && t >= ragged.end(s)) s++;
      std::memcpy(a.out[0].as<T>() + t * columns, dout.as<T>() + t * 2 * columns, bytes);
      T* row = a.out[1].as<T>() + t * columns;
      if (s < ragged.sequences && t + 1 < ragged.end(s)) std::memcpy(row, dout.as<T>() + (t + 1) * 2 * columns + columns, bytes);
      else std::memset(row, 0, bytes);
    }
  });
  return {};
}

Status value_delay(const Arguments& a) { return a.out[0].dtype == DType::float64 ? delay<double>(a) : delay<float>(a); }
Status value_delay_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? delay_grad<double>(a) : delay_grad<float>(a); }

}  // namespace

ZAYA_OPERATION(value_delay)
ZAYA_OPERATION(value_delay_grad)

}  // namespace zaya::ZAYA_ISA
