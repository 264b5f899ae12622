// GELU of 16 lanes. The operation gelu and the fused router share it; the formula is in gelu.cpp.
#pragma once
#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

template <class V> inline V error_function_of_register(V x) {
  const V zero = {};
  const V t = x < zero ? -x : x;
  const V s = x * x;
  V near = zero - 5.96761703e-4f;
  near = near * s + 4.99119423e-3f;
  near = near * s - 2.67681349e-2f;
  near = near * s + 1.12819925e-1f;
  near = near * s - 3.76125336e-1f;
  near = near * s + 1.28379166e-1f;
  near = near * x + x;
  V far = t * -1.72853470e-5f + 3.83197126e-4f;
  const V odd = t * -3.88396438e-3f + 2.42546219e-2f;
  far = far * s + odd;
  far = far * t - 1.06777877e-1f;
  far = far * t - 6.34846687e-1f;
  far = far * t - 1.28717512e-1f;
  far = far * t - t;
  far = t > 4.0f ? zero - INFINITY : far;  // erf is 1 to float32 precision, and the polynomial ends here
  far = 1.0f - exponential_of_register(far);
  far = x < zero ? -far : far;
  const V result = t > 0.927734375f ? far : near;
  return x != x ? x : result;
}
inline Lanes<float> error_function(Lanes<float> x) {
  return by_registers([](auto part) { return error_function_of_register(part); }, x);
}
inline Lanes<double> error_function(Lanes<double> x) {
  for (int i = 0; i < lanes; i++) x[i] = std::erf(x[i]);
  return x;
}

template <class T> inline Lanes<T> gelu_lanes(Lanes<T> x) { return x * (error_function(x * T(M_SQRT1_2)) + T(1)) * T(0.5); }

}  // namespace zaya::ZAYA_ISA
