// scale(x, factor [1]) -> x · factor[0].
#include "cpu/rows.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> void scaled(const Arguments& a) {
  const T factor = element<T>(a.in[1], 0);
  const T* x = a.in[0].as<T>();
  T* out = a.out[0].as<T>();
  for_elements(*a.pool, a.out[0].size(), [&](int64_t begin, int64_t end) {
#pragma GCC ivdep
    for (int64_t i = begin; i < end; i++) out[i] = x[i] * factor;
  });
}

Status scale(const Arguments& a) {
  if (a.out[0].dtype == DType::float64) scaled<double>(a);
  else scaled<float>(a);
  return {};
}

}  // namespace

ZAYA_OPERATION(scale)

}  // namespace zaya::ZAYA_ISA
