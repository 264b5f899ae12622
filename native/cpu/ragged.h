// The ragged axis: sequence s owns rows cu_seqlens[s] .. cu_seqlens[s+1] of a [T, …] tensor; rows from cu_seqlens[S] on
// belong to nobody. A sequence may be empty. `slots[s]` is its row of a state tensor and `cached[s]` the number of its tokens
// that came before this chunk; where that is 0 the state is not read, whatever it holds.
#pragma once
#include <algorithm>

#include "core/operation.h"

namespace zaya::ZAYA_ISA {

struct Ragged {
  const int32_t* cu = nullptr;
  int64_t sequences = 0;
  const int32_t* slots = nullptr;   // null without state
  const int32_t* cached = nullptr;  // null without state

  int64_t rows() const { return cu[sequences]; }
  int64_t begin(int64_t s) const { return cu[s]; }
  int64_t end(int64_t s) const { return cu[s + 1]; }
  // The slot to read history from, or -1 when sequence s starts with this chunk.
  int64_t history(int64_t s) const { return cached != nullptr && cached[s] > 0 ? slots[s] : -1; }
  // The sequence that owns row t < rows().
  int64_t owner(int64_t t) const { return std::upper_bound(cu, cu + sequences + 1, static_cast<int32_t>(t)) - cu - 1; }
};

// Checks cu_seqlens [S+1] against the T rows of the data.
inline Status read_ragged(const char* name, const Tensor& cu_seqlens, int64_t rows, Ragged* ragged) {
  const int64_t count = cu_seqlens.size();
  if (cu_seqlens.dtype != DType::int32 || count < 1) return error("[%s] expected cu_seqlens to be int32 of at least one element", name);
  ragged->cu = cu_seqlens.as<int32_t>();
  ragged->sequences = count - 1;
  if (ragged->cu[0] != 0) return error("[%s] expected cu_seqlens to start at 0, received %d", name, ragged->cu[0]);
  for (int64_t s = 0; s + 1 < count; s++)
    if (ragged->cu[s + 1] < ragged->cu[s])
      return error("[%s] expected cu_seqlens not to fall, received %d after %d at index %lld", name, ragged->cu[s + 1], ragged->cu[s],
                   static_cast<long long>(s + 1));
  if (ragged->rows() > rows)
    return error("[%s] expected cu_seqlens to end at most at the %lld rows given, received %d", name, static_cast<long long>(rows),
                 ragged->cu[count - 1]);
  return {};
}

// Adds slots [S] and cached [S] for a state tensor of `num_slots` rows.
inline Status read_slots(const char* name, const Tensor& slots, const Tensor& cached, int64_t num_slots, Ragged* ragged) {
  if (!slots.present() || !cached.present() || slots.size() != ragged->sequences || cached.size() != ragged->sequences)
    return error("[%s] expected slots and cached of one element for each of the %lld sequences", name, static_cast<long long>(ragged->sequences));
  ragged->slots = slots.as<int32_t>();
  ragged->cached = cached.as<int32_t>();
  for (int64_t s = 0; s < ragged->sequences; s++) {
    if (ragged->slots[s] < 0 || ragged->slots[s] >= num_slots)
      return error("[%s] expected slots below %lld, received %d for sequence %lld", name, static_cast<long long>(num_slots), ragged->slots[s],
                   static_cast<long long>(s));
    if (ragged->cached[s] < 0) return error("[%s] expected cached not to be negative, received %d", name, ragged->cached[s]);
  }
  return {};
}

}  // namespace zaya::ZAYA_ISA
