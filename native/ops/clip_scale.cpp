// clip_scale(sum_of_squares [1], divisor [1]){max_norm} -> [1]: the factor for a gradient that is a sum over `divisor` tokens or batches,
//   min(1, max_norm / norm) / divisor with norm = sqrt(sum_of_squares) / divisor, so that the scaled gradient's norm is at most
//   max_norm. max_norm = 0: no clipping, 1 / divisor. A norm that is not a number gives a factor that is not one.
#include <algorithm>

#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

Status clip_scale(const Arguments& a) {
  const double divisor = element<double>(a.in[1], 0), max_norm = a.attribute[0];
  const double norm = std::sqrt(element<double>(a.in[0], 0)) / divisor;
  double factor = max_norm > 0 && !(norm <= max_norm) ? max_norm / norm : 1;
  factor /= divisor;
  if (a.out[0].dtype == DType::float64) a.out[0].as<double>()[0] = factor;
  else a.out[0].as<float>()[0] = static_cast<float>(factor);
  return {};
}

}  // namespace

ZAYA_OPERATION(clip_scale)

}  // namespace zaya::ZAYA_ISA
