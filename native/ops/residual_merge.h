// residual_merge(y [T,D], h? [T,D], y_scale? [D], y_bias? [D], h_scale? [D], h_bias? [D]) -> [T,D]
//   out = (y + y_bias) · y_scale + (h + h_bias) · h_scale
// A missing scale is 1, a missing bias 0, and without h its whole term is absent.
#pragma once
#include "cpu/rows.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {

// The vectors of one branch as T, with ones or zeros in place of missing ones.
template <class T> struct Branch {
  const T* scale = nullptr;
  const T* bias = nullptr;
};

template <class T> inline size_t branch_bytes(const Tensor& scale, const Tensor& bias, int64_t columns) {
  const size_t own = align64(static_cast<size_t>(columns) * sizeof(T));
  return (scale.present() ? vector_bytes<T>(scale) : own) + (bias.present() ? vector_bytes<T>(bias) : own);
}

template <class T> inline const T* vector_or(const Tensor& v, int64_t columns, T missing, uint8_t*& workspace) {
  if (v.present()) return read_vector<T>(v, workspace);
  T* constant = reinterpret_cast<T*>(workspace);
  workspace += align64(static_cast<size_t>(columns) * sizeof(T));
  std::fill(constant, constant + columns, missing);
  return constant;
}

template <class T> inline Branch<T> read_branch(const Tensor& scale, const Tensor& bias, int64_t columns, uint8_t*& workspace) {
  Branch<T> branch;
  branch.scale = vector_or<T>(scale, columns, 1, workspace);
  branch.bias = vector_or<T>(bias, columns, 0, workspace);
  return branch;
}

// One row; h may be null, out may be y or h.
template <class T> inline void merge_row(const T* y, const T* h, Branch<T> ys, Branch<T> hs, int64_t columns, T* out) {
  if (h == nullptr) {
#pragma GCC ivdep
    for (int64_t i = 0; i < columns; i++) out[i] = (y[i] + ys.bias[i]) * ys.scale[i];
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < columns; i++) out[i] = (y[i] + ys.bias[i]) * ys.scale[i] + (h[i] + hs.bias[i]) * hs.scale[i];
  }
}

}  // namespace zaya::ZAYA_ISA
