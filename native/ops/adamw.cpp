// adamw(p, g, m, v, scale [1], hyper [6]) -> p', m', v'; hyper = learning rate, beta1, beta2, eps, weight decay, step ≥ 1
//   g = g · scale;  p = p · (1 − lr · decay);  m += (g − m) · (1 − beta1);  v = v · beta2 + g² · (1 − beta2)
//   p −= lr / (1 − beta1^step) · m / (sqrt(v) / sqrt(1 − beta2^step) + eps)
// torch.optim.AdamW's formula and order, its lerp from the nearer end included (so beta1 = 0 gives m = g exactly). The factors are
// computed in float64 from hyper, the tensors in their own type (float32). Each output may lie where its input does.
#include "cpu/rows.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

// The factors of one step.
template <class T> struct Step {
  T scale, keep, first, rest, decay, second, rate, root, eps;  // first = 1 − beta1, rest = beta1, decay = beta2, second = 1 − beta2
};

template <class T> struct Moments {
  const T *p, *g, *m, *v;
  T *p_out, *m_out, *v_out;
};

template <bool from_mean, class T> void update_range(int64_t begin, int64_t end, const Moments<T> x, const Step<T> step) {
#pragma GCC ivdep
  for (int64_t i = begin; i < end; i++) {
    const T gradient = x.g[i] * step.scale;
    const T mean = from_mean ? x.m[i] + (gradient - x.m[i]) * step.first : gradient - (gradient - x.m[i]) * step.rest;
    const T square = x.v[i] * step.decay + gradient * gradient * step.second;
    x.m_out[i] = mean;
    x.v_out[i] = square;
    x.p_out[i] = x.p[i] * step.keep - step.rate * (mean / (std::sqrt(square) / step.root + step.eps));
  }
}

template <class T> Status update(const Arguments& a) {
  const auto hyper = [&](int64_t i) { return element<double>(a.in[5], i); };
  const double lr = hyper(0), beta1 = hyper(1), beta2 = hyper(2), step = hyper(5);
  const Step<T> factors{
      element<T>(a.in[4], 0),
      static_cast<T>(1 - lr * hyper(4)),
      static_cast<T>(1 - beta1),
      static_cast<T>(beta1),
      static_cast<T>(beta2),
      static_cast<T>(1 - beta2),
      static_cast<T>(lr / (1 - std::pow(beta1, step))),
      static_cast<T>(std::sqrt(1 - std::pow(beta2, step))),
      static_cast<T>(hyper(3)),
  };
  const Moments<T> tensors{a.in[0].as<T>(),  a.in[1].as<T>(),  a.in[2].as<T>(), a.in[3].as<T>(),
                           a.out[0].as<T>(), a.out[1].as<T>(), a.out[2].as<T>()};
  for_elements(*a.pool, a.in[0].size(), [&](int64_t begin, int64_t end) {
    if (beta1 > 0.5) update_range<true>(begin, end, tensors, factors);
    else update_range<false>(begin, end, tensors, factors);
  });
  return {};
}

Status adamw(const Arguments& a) { return a.out[0].dtype == DType::float64 ? update<double>(a) : update<float>(a); }

}  // namespace

ZAYA_OPERATION(adamw)

}  // namespace zaya::ZAYA_ISA
