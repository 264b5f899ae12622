// cast(x){dtype} -> the same numbers as float32, bfloat16 or float64. To bfloat16: to nearest, ties to even; NaN stays NaN.
#include "cpu/rows.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> void to_floating(const Tensor& x, int64_t begin, int64_t end, T* out) { read_elements<T>(x, begin, end - begin, out + begin); }

void to_half(const Tensor& x, int64_t begin, int64_t end, bfloat16* out) {
  if (x.dtype == DType::bfloat16) {
    std::memcpy(out + begin, x.as<bfloat16>() + begin, static_cast<size_t>(end - begin) * sizeof(bfloat16));
  } else if (x.dtype == DType::float64) {
    for (int64_t i = begin; i < end; i++) out[i] = to_bfloat16(static_cast<float>(x.as<double>()[i]));
  } else {
    const float* from = x.as<float>();
#pragma GCC ivdep
    for (int64_t i = begin; i < end; i++) out[i] = to_bfloat16(from[i]);
  }
}

Status cast(const Arguments& a) {
  const Tensor &x = a.in[0], &out = a.out[0];
  for_elements(*a.pool, x.size(), [&](int64_t begin, int64_t end) {
    switch (out.dtype) {
      case DType::bfloat16: return to_half(x, begin, end, out.as<bfloat16>());
      case DType::float64: return to_floating(x, begin, end, out.as<double>());
      default: return to_floating(x, begin, end, out.as<float>());
    }
  });
  return {};
}

}  // namespace

ZAYA_OPERATION(cast)

}  // namespace zaya::ZAYA_ISA
