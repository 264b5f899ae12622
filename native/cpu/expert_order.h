// Tokens in the order of their experts: a stable counting sort.
#pragma once
#include "core/operation.h"

namespace zaya::ZAYA_ISA {

// order [tokens]: the tokens of class 0, then of class 1, … each in the order they came; class c owns order[offsets[c]] … order[offsets[c + 1]].
// offsets has classes + 1 entries, next is scratch of `classes`. A class outside [0, classes) is an error.
inline Status order_by_expert(const char* name, const int32_t* index, int64_t tokens, int64_t classes, int32_t* order, int32_t* offsets, int32_t* next) {
  std::memset(offsets, 0, static_cast<size_t>(classes + 1) * sizeof(int32_t));
  for (int64_t t = 0; t < tokens; t++) {
    if (index[t] < 0 || index[t] >= classes)
      return error("[%s] expected an expert from 0 to %lld, received %d at token %lld", name, static_cast<long long>(classes - 1), index[t],
                   static_cast<long long>(t));
    offsets[index[t] + 1]++;
  }
  for (int64_t c = 0; c < classes; c++) {
    offsets[c + 1] += offsets[c];
    next[c] = offsets[c];
  }
  for (int64_t t = 0; t < tokens; t++) order[next[index[t]]++] = static_cast<int32_t>(t);
  return {};
}

}  // namespace zaya::ZAYA_ISA
