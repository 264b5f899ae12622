// balance_grad(counts [E+1]) -> [E+1]: counts[e] / Σ counts − 1/E for the E experts, 0 for the skip class (the last).
// The gradient of the balancing bias: an expert with more than its share gets a positive one, so a step lowers its bias. The sum
// counts the skipped tokens too, since a share is of the whole batch. Without tokens the gradient is 0. Computed in float64.
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> void shares(const Tensor& counts, T* out) {
  const int64_t experts = counts.size() - 1;
  double total = 0;
  for (int64_t e = 0; e <= experts; e++) total += element<double>(counts, e);
  for (int64_t e = 0; e < experts; e++)
    out[e] = total > 0 ? static_cast<T>(element<double>(counts, e) / total - 1.0 / static_cast<double>(experts)) : T(0);
  out[experts] = 0;
}

Status balance_grad(const Arguments& a) {
  if (a.out[0].dtype == DType::float64) shares(a.in[0], a.out[0].as<double>());
  else shares(a.in[0], a.out[0].as<float>());
  return {};
}

}  // namespace

ZAYA_OPERATION(balance_grad)

}  // namespace zaya::ZAYA_ISA
