// quantise(x [T,D]) -> int8 rows [T,D]: x ≈ d · q, d = max |x| / 127 of a row and 256 columns, q rounded to nearest even (cpu/quantised.h has the layout).
//   What products with weights in quantised panels make of x.
#include "cpu/quantised.h"

namespace zaya::ZAYA_ISA {
namespace {

Status quantise(const Arguments& a) {
  quantise_rows(*a.pool, a.in[0], 0, a.in[0].rows(), a.out[0].data);
  return {};
}

}  // namespace

ZAYA_OPERATION(quantise)

}  // namespace zaya::ZAYA_ISA
