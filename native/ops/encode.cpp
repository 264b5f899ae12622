// encode(w [.., N, K] float32, bfloat16 or float64, importance? [.., K] float32) -> the same weights as panels of the output's type:
// cpu/gemm.h has the layout of floats, rounded to nearest even where the output is narrower; cpu/quantised.h that of integers.
#include "cpu/gemm.h"
#include "cpu/quantised.h"

namespace zaya::ZAYA_ISA {
namespace {

Status encode(const Arguments& a) {
  const Tensor &w = a.in[0], &importance = a.in[1], &panels = a.out[0];
  const int64_t n = w.shape[w.rank - 2], k = w.columns();
  if (n == 0 || k == 0) return {};
  const int64_t matrices = w.size() / (n * k);
  for (int64_t i = 0; i < matrices; i++) {
    if (is_quantised(panels))
      quantise_weight(*a.pool, w, i * n, n, k, importance.present() ? importance.as<float>() + i * k : nullptr, panels.dtype,
                      const_cast<uint8_t*>(quantised_weight(panels, i).panels));
    else
      pack_panels(*a.pool, weight_operand(w, i), n, k, panels.dtype, const_cast<void*>(weight_operand(panels, i).data));
  }
  return {};
}

}  // namespace

ZAYA_OPERATION(encode)

}  // namespace zaya::ZAYA_ISA
