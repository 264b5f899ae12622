// A head of cca_qk: its mean, norm and temperature. The operation and the fused cca_heads share it; the formula is in cca_qk.cpp.
#pragma once
#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

template <class T> struct Heads {
  int64_t queries, keys, group, size, columns;
  T eps, root;
  bool clamp;

  // The attributes of `a` start with query_heads, clamp_temp, eps.
  Heads(const Arguments& a, const Tensor& z, const Tensor& temp)
      : queries(a.integer(0)), keys(temp.size()), group(queries / keys), size(z.columns() / (queries + keys)), columns(z.columns()),
        eps(static_cast<T>(a.attribute[2])), root(std::sqrt(static_cast<T>(size))), clamp(a.flag(1)) {}

  T temperature(T temp) const { return clamp ? std::exp(std::min(std::max(temp, T(1e-7)), T(2))) : temp; }
  // d temperature / d temp
  T slope(T temp) const { return clamp ? (temp >= T(1e-7) && temp <= T(2) ? std::exp(temp) : T(0)) : T(1); }
};

template <class T> T dot(const T* a, const T* b, int64_t n) {
  return sum_of<T>(n, [&](int64_t i) { return a[i] * b[i]; });
}

// x = c + q_mean for query head n, c its part of the convolved row.
template <class T> void mix_query(const Heads<T>& h, const T* z, const T* c, int64_t n, T* x) {
  const T* q0 = z + n * h.size;
  const T* k0 = z + (h.queries + n / h.group) * h.size;
#pragma GCC ivdep
  for (int64_t i = 0; i < h.size; i++) x[i] = c[i] + (q0[i] + k0[i]) * T(0.5);
}

// x = c + k_mean for key head k, c its part of the convolved row.
template <class T> void mix_key(const Heads<T>& h, const T* z, const T* c, int64_t k, T* x) {
  const T* k0 = z + (h.queries + k) * h.size;
  const T share = 1 / static_cast<T>(h.group);
#pragma GCC ivdep
  for (int64_t i = 0; i < h.size; i++) x[i] = (z[k * h.group * h.size + i] + k0[i]) * T(0.5);
  for (int64_t g = 1; g < h.group; g++) {
    const T* q0 = z + (k * h.group + g) * h.size;
#pragma GCC ivdep
    for (int64_t i = 0; i < h.size; i++) x[i] += (q0[i] + k0[i]) * T(0.5);
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < h.size; i++) x[i] = c[i] + x[i] * share;
}

// Head n of the queries and, after them, the keys: what cca_qk makes of a row z and its part c of the convolved row. temp is that of a key.
template <class T> void normalised_head(const Heads<T>& h, const T* z, const T* c, int64_t n, T temp, T* x) {
  const bool query = n < h.queries;
  if (query) mix_query(h, z, c, n, x);
  else mix_key(h, z, c, n - h.queries, x);
  T scale = h.root / std::max(std::sqrt(dot(x, x, h.size)), h.eps);
  if (!query) scale *= h.temperature(temp);
#pragma GCC ivdep
  for (int64_t i = 0; i < h.size; i++) x[i] *= scale;
}

inline Status check_heads(const char* name, const Arguments& a, const Tensor& z, const Tensor& temp) {
  const int64_t queries = a.integer(0), keys = temp.size();
  if (keys < 1 || queries < 1 || queries % keys != 0 || z.columns() % (queries + keys) != 0)
    return error("[%s] %lld query heads, %lld key heads and %lld columns do not fit together", name, static_cast<long long>(queries),
                 static_cast<long long>(keys), static_cast<long long>(z.columns()));
  return {};
}

}  // namespace zaya::ZAYA_ISA
