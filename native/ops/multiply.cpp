// multiply(a, b) -> a · b element by element, of one shape.
#include "cpu/rows.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> void products(const Arguments& a) {
  const T* x = a.in[0].as<T>();
  const T* y = a.in[1].as<T>();
  T* out = a.out[0].as<T>();
  for_elements(*a.pool, a.out[0].size(), [&](int64_t begin, int64_t end) {
#pragma GCC ivdep
    for (int64_t i = begin; i < end; i++) out[i] = x[i] * y[i];
  });
}

Status multiply(const Arguments& a) {
  if (a.out[0].dtype == DType::float64) products<double>(a);
  else products<float>(a);
  return {};
}

}  // namespace

ZAYA_OPERATION(multiply)

}  // namespace zaya::ZAYA_ISA
