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

// Adds slots [S] for a state tensor of `num_slots` rows.
inline Status read_slots(const char* name, const Tensor& slots, int64_t num_slots, Ragged* ragged) {
  if (!slots.present() || slots.size() != ragged->sequences)
    return error("[%s] expected slots of one element for each of the %lld sequences", name, static_cast<long long>(ragged->sequences));
  ragged->slots = slots.as<int32_t>();
  for (int64_t s = 0; s < ragged->sequences; s++)
    if (ragged->slots[s] < 0 || ragged->slots[s] >= num_slots)
      return error("[%s] expected slots below %lld, received %d for sequence %lld", name, static_cast<long long>(num_slots), ragged->slots[s],
                   static_cast<long long>(s));
  return {};
}

// Adds slots [S] and cached [S].
inline Status read_slots(const char* name, const Tensor& slots, const Tensor& cached, int64_t num_slots, Ragged* ragged) {
  if (Status status = read_slots(name, slots, num_slots, ragged); !status.ok()) return status;
  if (!cached.present() || cached.size() != ragged->sequences)
    return error("[%s] expected cached of one element for each of the %lld sequences", name, static_cast<long long>(ragged->sequences));
  ragged->cached = cached.as<int32_t>();
  for (int64_t s = 0; s < ragged->sequences; s++)
    if (ragged->cached[s] < 0) return error("[%s] expected cached not to be negative, received %d", name, ragged->cached[s]);
  return {};
}

// x [T,W] with the last n rows that each sequence had before this chunk, kept in a state [slots,n,W], oldest first.
template <class T> struct RaggedRows {
  int64_t tokens = 0, columns = 0, depth = 0;
  const T* x = nullptr;
  const T* state = nullptr;
  Ragged ragged;

  // Row t − back of sequence s from column `first` on; null before the sequence's first row.
  const T* row(int64_t s, int64_t t, int64_t back, int64_t first = 0) const {
    const int64_t from = t - back, start = ragged.begin(s);
    if (from >= start) return x + from * columns + first;
    const int64_t slot = ragged.history(s);
    return slot < 0 ? nullptr : state + ((slot + 1) * depth + from - start) * columns + first;
  }
};

// state, slots and cached may be absent.
template <class T>
Status read_rows(const char* name, const Tensor& x, const Tensor& cu_seqlens, const Tensor& state, const Tensor& slots, const Tensor& cached,
                 RaggedRows<T>* rows) {
  rows->tokens = x.shape[0];
  rows->columns = x.shape[1];
  rows->x = x.as<T>();
  if (Status status = read_ragged(name, cu_seqlens, rows->tokens, &rows->ragged); !status.ok()) return status;
  if (!state.present()) return {};
  rows->depth = state.shape[1];
  rows->state = state.as<T>();
  return read_slots(name, slots, cached, state.shape[0], &rows->ragged);
}

}  // namespace zaya::ZAYA_ISA
