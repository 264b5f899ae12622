// y = value, in the shape of the input. fill(like){value} → y
#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> void fill_with(Tensor y, T value) {
  T* data = y.as<T>();
  for (int64_t i = 0, n = y.size(); i < n; i++) data[i] = value;
}

Status fill(const Arguments& call) {
  const Tensor& y = call.out[0];
  const double value = call.attribute[0];
  switch (y.dtype) {
    case DType::float32: fill_with(y, static_cast<float>(value)); break;
    case DType::float64: fill_with(y, value); break;
    case DType::int32: fill_with(y, static_cast<int32_t>(value)); break;
    case DType::bfloat16: fill_with(y, to_bfloat16(static_cast<float>(value))); break;
    case DType::int8: fill_with(y, static_cast<int8_t>(value)); break;
    case DType::int6:
    case DType::int4: return error("[fill] int6 and int4 exist in panels only");
  }
  return {};
}
ZAYA_OPERATION(fill)

}  // namespace
}  // namespace zaya::ZAYA_ISA
