// Sixteen lanes of float (or double) that compile on every instruction set: GCC's vector extension is lowered to SSE2,
// AVX2 or AVX-512 by the compiler, and the lane structure – hence the order of every sum – is the same on all of them.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/operation.h"

namespace zaya::ZAYA_ISA {

constexpr int lanes = 16;

template <class T> struct LanesOf;
template <> struct LanesOf<float> {
  typedef float type __attribute__((vector_size(64)));
  typedef int32_t mask __attribute__((vector_size(64)));
};
template <> struct LanesOf<double> {
  typedef double type __attribute__((vector_size(128)));
  typedef int64_t mask __attribute__((vector_size(128)));
};
template <class T> using Lanes = typename LanesOf<T>::type;

using bfloat16 = uint16_t;

inline float to_float(bfloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

// Round to nearest, ties to even; a NaN stays a NaN.
inline bfloat16 to_bfloat16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<bfloat16>((bits >> 16) | 0x40);
  return static_cast<bfloat16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <class T> inline Lanes<T> splat(T value) { return Lanes<T>{} + value; }

template <class T> inline Lanes<T> load(const T* p) {
  Lanes<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T> inline void store(T* p, Lanes<T> v) { std::memcpy(p, &v, sizeof v); }

// The first n < 16 elements; the other lanes hold `fill`.
template <class T> inline Lanes<T> load_first(const T* p, int64_t n, T fill = 0) {
  Lanes<T> v = splat<T>(fill);
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
}

// Sum of the lanes as a tree of fixed shape.
template <class T> inline T sum(Lanes<T> v) {
  T a[lanes];
  std::memcpy(a, &v, sizeof v);
  for (int width = lanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) a[i] += a[i + width];
  return a[0];
}

// Sum of f(i) over [0, n) in 16 running partials: element i goes to lane i % 16. The order depends on n alone.
template <class T, class F> inline T sum_of(int64_t n, F&& f) {
  T partial[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; j++) partial[j] += f(i + j);
  for (int j = 0; i + j < n; j++) partial[j] += f(i + j);
  return sum<T>(load<T>(partial));
}

// exp for 16 lanes. float: Cephes-style, 2^n times a degree-6 polynomial, error below 2 ulp, 0 below -87.3 (so exp(-inf)
// is 0) and inf above 88.7. double: libm.
inline Lanes<float> exponential(Lanes<float> x) {
  using Mask = LanesOf<float>::mask;
  const Lanes<float> log2e = splat<float>(1.44269504088896341f);
  Lanes<float> clamped = x < -87.33654f ? splat<float>(-87.33654f) : x;
  clamped = clamped > 88.72283f ? splat<float>(88.72283f) : clamped;
  const Lanes<float> magic = splat<float>(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  Lanes<float> shifted = clamped * log2e + magic;
  Lanes<float> n = shifted - magic;
  Lanes<float> r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Lanes<float> p = splat<float>(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors, so that n = 128 does not overflow the exponent field.
  Mask whole = __builtin_convertvector(n, Mask);
  Mask half = whole >> 1;
  Lanes<float> scale1 = std::bit_cast<Lanes<float>>((half + 127) << 23);
  Lanes<float> scale2 = std::bit_cast<Lanes<float>>((whole - half + 127) << 23);
  Lanes<float> result = p * scale1 * scale2;
  result = x < -87.33654f ? splat<float>(0.0f) : result;
  result = x > 88.72283f ? splat<float>(INFINITY) : result;
  return x != x ? x : result;
}
inline Lanes<double> exponential(Lanes<double> x) {
  for (int i = 0; i < lanes; i++) x[i] = std::exp(x[i]);
  return x;
}
template <class T> inline T exponential_of(T x) {
  return exponential(splat<T>(x))[0];
}

}  // namespace zaya::ZAYA_ISA
