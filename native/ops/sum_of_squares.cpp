// sum_of_squares(x) -> [1] = Σ x²; accumulation in sum.h.
#include "ops/sum.h"

namespace zaya::ZAYA_ISA {
namespace {

Status sum_of_squares(const Arguments& a) {
  return a.out[0].dtype == DType::float64 ? sum_of_terms<double>(a, [](double x) { return x * x; })
                                          : sum_of_terms<float>(a, [](float x) { return x * x; });
}
size_t sum_of_squares_workspace(const Arguments& a) { return sum_of_terms_workspace(a); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(sum_of_squares)

}  // namespace zaya::ZAYA_ISA
