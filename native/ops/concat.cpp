// concat(a [T,A], b [T,B]) -> [T,A+B], along the last axis.
// Any element type: bytes are copied.
#include "cpu/rows.h"
#include "cpu/streaming.h"

namespace zaya::ZAYA_ISA {
namespace {

Status concat(const Arguments& a) {
  const size_t element = size_of(a.out[0].dtype);
  const size_t left = static_cast<size_t>(a.in[0].columns()) * element, right = static_cast<size_t>(a.in[1].columns()) * element;
  const bool past_caches = a.pool->apart();
  for_rows(*a.pool, a.out[0].rows(), a.out[0].columns(), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      uint8_t* row = a.out[0].as<uint8_t>() + static_cast<size_t>(t) * (left + right);
      copy_bytes(row, a.in[0].as<uint8_t>() + static_cast<size_t>(t) * left, left, past_caches);
      copy_bytes(row + left, a.in[1].as<uint8_t>() + static_cast<size_t>(t) * right, right, past_caches);
    }
  });
  return {};
}

}  // namespace

ZAYA_OPERATION(concat)

}  // namespace zaya::ZAYA_ISA
