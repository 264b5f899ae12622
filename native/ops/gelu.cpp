// gelu(x) -> y of the same shape: y = x · Φ(x), Φ(x) = (1 + erf(x / √2)) / 2: the exact form, not the tanh approximation.
// gelu_grad(dy, x) -> dx = dy · (Φ(x) + x · exp(−x²/2) / √(2π))
// erf in float32 after N. Juffa: x + x·p(x²) below 0.9277, 1 − exp(q(|x|)) above; largest error
// 1.16 ulp, measured over 4 million floats of either sign from 3e-8 to 10. float64: libm.
#include "cpu/rows.h"

namespace zaya::ZAYA_ISA {
namespace {

Lanes<float> error_function(Lanes<float> x) {
  const Lanes<float> t = x < 0.0f ? -x : x;
  const Lanes<float> s = x * x;
  Lanes<float> near = splat<float>(-5.96761703e-4f);
  near = near * s + 4.99119423e-3f;
  near = near * s - 2.67681349e-2f;
  near = near * s + 1.12819925e-1f;
  near = near * s - 3.76125336e-1f;
  near = near * s + 1.28379166e-1f;
  near = near * x + x;
  Lanes<float> far = splat<float>(-1.72853470e-5f) * t + 3.83197126e-4f;
  const Lanes<float> odd = splat<float>(-3.88396438e-3f) * t + 2.42546219e-2f;
  far = far * s + odd;
  far = far * t - 1.06777877e-1f;
  far = far * t - 6.34846687e-1f;
  far = far * t - 1.28717512e-1f;
  far = far * t - t;
  far = t > 4.0f ? splat<float>(-INFINITY) : far;  // erf is 1 to float32 precision, and the polynomial ends here
  far = 1.0f - exponential(far);
  far = x < 0.0f ? -far : far;
  const Lanes<float> result = t > 0.927734375f ? far : near;
  return x != x ? x : result;
}
Lanes<double> error_function(Lanes<double> x) {
  for (int i = 0; i < lanes; i++) x[i] = std::erf(x[i]);
  return x;
}

template <class T> Status apply(const Arguments& a) {
  const T* x = a.in[0].as<T>();
  T* y = a.out[0].as<T>();
  for_elements(*a.pool, a.in[0].size(), [&](int64_t begin, int64_t end) {
    map_lanes<T>(x + begin, y + begin, end - begin, [](Lanes<T> v) { return v * (error_function(v * T(M_SQRT1_2)) + T(1)) * T(0.5); });
  });
  return {};
}

template <class T> Status apply_grad(const Arguments& a) {
  const T* dy = a.in[0].as<T>();
  const T* x = a.in[1].as<T>();
  T* dx = a.out[0].as<T>();
  for_elements(*a.pool, a.in[0].size(), [&](int64_t begin, int64_t end) {
    map_lanes<T>(dy + begin, x + begin, dx + begin, end - begin, [](Lanes<T> d, Lanes<T> v) {
      const Lanes<T> cumulative = (error_function(v * T(M_SQRT1_2)) + T(1)) * T(0.5);
      return d * (cumulative + v * exponential(v * v * T(-0.5)) * T(0.398942280401432677939946));
    });
  });
  return {};
}

Status gelu(const Arguments& a) { return a.out[0].dtype == DType::float64 ? apply<double>(a) : apply<float>(a); }
Status gelu_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? apply_grad<double>(a) : apply_grad<float>(a); }

}  // namespace

ZAYA_OPERATION(gelu)
ZAYA_OPERATION(gelu_grad)

}  // namespace zaya::ZAYA_ISA
