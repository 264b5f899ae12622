// sequence_tail(x [T,W], cu_seqlens [S+1], state [slots,n,W], slots [S], cached [S]) -> [S,n,W]
//   The last n rows of each sequence seen so far, oldest first: rows of x, before them rows of its slot of the state, before the first
//   token zeros. Zeros for a sequence without rows in this chunk. carry_state puts them into the state.
#include "ops/sequence_tail.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status tails(const Arguments& a) {
  RaggedRows<T> rows;
  if (Status status = read_rows("sequence_tail", a.in[0], a.in[1], a.in[2], a.in[3], a.in[4], &rows); !status.ok()) return status;
  a.pool->run(rows.ragged.sequences, [&](int64_t s, int) { tail_rows(rows, s, rows.depth, a.out[0].as<T>() + s * rows.depth * rows.columns); });
  return {};
}

Status sequence_tail(const Arguments& a) { return a.out[0].dtype == DType::float64 ? tails<double>(a) : tails<float>(a); }

}  // namespace

ZAYA_OPERATION(sequence_tail)

}  // namespace zaya::ZAYA_ISA
