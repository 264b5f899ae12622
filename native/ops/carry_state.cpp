// carry_state(state [slots,n,W], tail [S,n,W], cu_seqlens [S+1], slots [S]) -> state' [slots,n,W]
//   Row slots[s] of the state becomes row s of the tail. A sequence without rows keeps its state; other slots keep theirs. In place.
// Two sequences with rows must not share a slot.
#include "cpu/ragged.h"

namespace zaya::ZAYA_ISA {
namespace {

Status carry_state(const Arguments& a) {
  const Tensor &state = a.in[0], &tail = a.in[1], &out = a.out[0];
  Ragged ragged;
  if (Status status = read_ragged("carry_state", a.in[2], INT32_MAX, &ragged); !status.ok()) return status;
  if (Status status = read_slots("carry_state", a.in[3], state.shape[0], &ragged); !status.ok()) return status;
  const size_t row_bytes = static_cast<size_t>(state.shape[1] * state.shape[2]) * size_of(state.dtype);
  if (out.data != state.data) std::memcpy(out.data, state.data, static_cast<size_t>(state.shape[0]) * row_bytes);
  for (int64_t s = 0; s < ragged.sequences; s++)
    if (ragged.end(s) > ragged.begin(s))
      std::memcpy(out.as<uint8_t>() + static_cast<size_t>(ragged.slots[s]) * row_bytes, tail.as<uint8_t>() + static_cast<size_t>(s) * row_bytes, row_bytes);
  return {};
}

}  // namespace

ZAYA_OPERATION(carry_state)

}  // namespace zaya::ZAYA_ISA
