// sum(x) -> [1], the sum of all elements; accumulation in sum.h.
// sum_grad(dy [1], x) -> dy[0] in the shape of x (whose elements are not read).
#include "ops/sum.h"

namespace zaya::ZAYA_ISA {
namespace {

Status sum(const Arguments& a) {
  return a.out[0].dtype == DType::float64 ? sum_of_terms<double>(a, [](double x) { return x; }) : sum_of_terms<float>(a, [](float x) { return x; });
}
size_t sum_workspace(const Arguments& a) { return sum_of_terms_workspace(a); }

Status sum_grad(const Arguments& a) {
  for_elements(*a.pool, a.out[0].size(), [&](int64_t begin, int64_t end) {
    if (a.out[0].dtype == DType::float64) std::fill(a.out[0].as<double>() + begin, a.out[0].as<double>() + end, a.in[0].as<double>()[0]);
    else std::fill(a.out[0].as<float>() + begin, a.out[0].as<float>() + end, a.in[0].as<float>()[0]);
  });
  return {};
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(sum)
ZAYA_OPERATION(sum_grad)

}  // namespace zaya::ZAYA_ISA
