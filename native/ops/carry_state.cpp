// carry_state(state [slots,n,W], x [T,W], cu_seqlens [S+1], slots [S], cached [S]) -> state' [slots,n,W]
//   Row slots[s] of the state becomes the last n rows of sequence s seen so far, oldest first: rows of x, before them rows of the
//   old state, before the first token zeros. A sequence without rows keeps its state; other slots keep theirs. In place.
// Two sequences of one call must not share a slot.
#include "cpu/ragged.h"
#include "cpu/rows.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status carry(const Arguments& a) {
  const Tensor &state = a.in[0], &x = a.in[1], &out = a.out[0];
  const int64_t depth = state.shape[1], columns = state.shape[2];
  Ragged ragged;
  if (Status status = read_ragged("carry_state", a.in[2], x.shape[0], &ragged); !status.ok()) return status;
  if (Status status = read_slots("carry_state", a.in[3], a.in[4], state.shape[0], &ragged); !status.ok()) return status;
  const size_t row_bytes = static_cast<size_t>(columns) * sizeof(T);
  if (out.data != state.data) std::memcpy(out.data, state.data, static_cast<size_t>(state.size()) * sizeof(T));
  a.pool->run(ragged.sequences, [&](int64_t s, int) {
    const int64_t begin = ragged.begin(s), tokens = ragged.end(s) - begin;
    if (tokens == 0) return;
    T* rows = out.as<T>() + ragged.slots[s] * depth * columns;
    for (int64_t j = 0; j < depth; j++) {
      const int64_t t = tokens - depth + j;  // relative to this chunk
      T* row = rows + j * columns;
      if (t >= 0) std::memcpy(row, x.as<T>() + (begin + t) * columns, row_bytes);
      else if (ragged.cached[s] > 0) std::memmove(row, rows + (depth + t) * columns, row_bytes);  // depth + t > j: not yet overwritten
      else std::memset(row, 0, row_bytes);
    }
  });
  return {};
}

Status carry_state(const Arguments& a) { return a.out[0].dtype == DType::float64 ? carry<double>(a) : carry<float>(a); }

}  // namespace

ZAYA_OPERATION(carry_state)

}  // namespace zaya::ZAYA_ISA
