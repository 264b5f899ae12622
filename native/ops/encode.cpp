// encode(w [.., N, K] float32, bfloat16 or float64) -> the same weights as panels of the output's type (cpu/gemm.h has the layout),
// rounded to nearest even where the output is narrower.
#include "cpu/gemm.h"

namespace zaya::ZAYA_ISA {
namespace {

Status encode(const Arguments& a) {
  const Tensor &w = a.in[0], &panels = a.out[0];
  const int64_t n = w.shape[w.rank - 2], k = w.columns();
  if (n == 0 || k == 0) return {};
  const int64_t matrices = w.size() / (n * k);
  for (int64_t i = 0; i < matrices; i++)
    pack_panels(*a.pool, weight_operand(w, i), n, k, panels.dtype, const_cast<void*>(weight_operand(panels, i).data));
  return {};
}

}  // namespace

ZAYA_OPERATION(encode)

}  // namespace zaya::ZAYA_ISA
