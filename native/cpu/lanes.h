// Sixteen lanes of float (or double) that compile on every instruction set: GCC's vector extension is lowered to SSE2,
// AVX2 or AVX-512 by the compiler, and the lane structure – hence the order of every sum – is the same on all of them.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

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

// The bytes of a vector register.
#if defined(__AVX512F__)
constexpr size_t register_bytes = 64;
#elif defined(__AVX2__)
constexpr size_t register_bytes = 32;
#else
constexpr size_t register_bytes = 16;
#endif
template <class T> struct RegisterOf {
  typedef T type __attribute__((vector_size(register_bytes)));
};
template <class T> using Register = typename RegisterOf<T>::type;

template <class V> inline auto register_at(const V& vector, size_t byte) {
  Register<std::remove_cvref_t<decltype(vector[0])>> part;
  std::memcpy(&part, reinterpret_cast<const char*>(&vector) + byte, sizeof part);
  return part;
}

// f(x, more...), a register at a time. GCC 12 takes a comparison of wider vectors apart lane by lane, so what compares is written as f.
template <class F, class V, class... More> inline V by_registers(F&& f, const V& x, const More&... more) {
  if constexpr (sizeof(V) <= register_bytes) {
    return f(x, more...);
  } else {
    V result;
    for (size_t byte = 0; byte < sizeof(V); byte += register_bytes) {
      const auto part = f(register_at(x, byte), register_at(more, byte)...);
      std::memcpy(reinterpret_cast<char*>(&result) + byte, &part, sizeof part);
    }
    return result;
  }
}

template <class V> inline V larger(V a, V b) {
  return by_registers([](auto x, auto y) { return x > y ? x : y; }, a, b);
}
template <class V> inline V smaller(V a, V b) {
  return by_registers([](auto x, auto y) { return x < y ? x : y; }, a, b);
}

// Nearest integers, ties to even, for |x| below 2^22. A NaN gives some integer.
inline LanesOf<float>::mask nearest(Lanes<float> x) {
  const Lanes<float> magic = splat<float>(12582912.0f);  // 1.5 * 2^23
  return std::bit_cast<LanesOf<float>::mask>(x + magic) - 0x4b400000;
}

// The lanes folded to one by f.
template <class F> inline int32_t fold(LanesOf<float>::mask v, F&& f) {
  const auto eight = f(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  auto four = f(__builtin_shufflevector(eight, eight, 0, 1, 2, 3), __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
  four = f(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  return f(four, __builtin_shufflevector(four, four, 1, 0, 3, 2))[0];
}

// max |x| over n; NaN where one is among them.
inline float largest_magnitude(const float* x, int64_t n) {
  LanesOf<float>::mask most = {};
  for (int64_t i = 0; i < n; i += lanes)
    most = larger(most, std::bit_cast<LanesOf<float>::mask>(n - i >= lanes ? load<float>(x + i) : load_first<float>(x + i, n - i)) & 0x7fffffff);
  return std::bit_cast<float>(fold(most, [](auto a, auto b) { return larger(a, b); }));
}

// exp for 16 lanes. float: Cephes-style, 2^n times a degree-6 polynomial, error below 2 ulp, 0 below -87.3 (so exp(-inf)
// is 0) and inf above 88.7. double: libm.
template <class V> inline V exponential_of_register(V x) {
  using Mask = decltype(x < x);
  const V zero = {}, least = zero - 87.33654f, most = zero + 88.72283f;
  V clamped = x < least ? least : x;
  clamped = clamped > most ? most : clamped;
  const V magic = zero + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const V n = clamped * 1.44269504088896341f + magic - magic;
  V r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V p = zero + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors, so that n = 128 does not overflow the exponent field.
  const Mask whole = __builtin_convertvector(n, Mask), half = whole >> 1;
  const V scale1 = std::bit_cast<V>((half + 127) << 23), scale2 = std::bit_cast<V>((whole - half + 127) << 23);
  V result = p * scale1 * scale2;
  result = x < least ? zero : result;
  result = x > most ? zero + INFINITY : result;
  return x != x ? x : result;
}
inline Lanes<float> exponential(Lanes<float> x) {
  return by_registers([](auto part) { return exponential_of_register(part); }, x);
}
inline Lanes<double> exponential(Lanes<double> x) {
  for (int i = 0; i < lanes; i++) x[i] = std::exp(x[i]);
  return x;
}

}  // namespace zaya::ZAYA_ISA
