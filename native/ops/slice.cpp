// slice(x [T,C]){begin, end} -> [T,end−begin]: columns begin..end of the last axis.
// slice_grad(dy [T,end−begin], x [T,C]){begin, end} -> [T,C]: dy in its place, zeros around it; x gives the shape only.
// Any element type: bytes are copied.
#include "cpu/rows.h"
#include "cpu/streaming.h"

namespace zaya::ZAYA_ISA {
namespace {

Status check_columns(const char* name, const Arguments& a, const Tensor& whole, const Tensor& part) {
  const int64_t begin = a.integer(0), end = a.integer(1);
  if (begin < 0 || end < begin || end > whole.columns() || part.columns() != end - begin)
    return error("[%s] columns %lld to %lld do not fit a tensor of %lld columns", name, static_cast<long long>(begin),
                 static_cast<long long>(end), static_cast<long long>(whole.columns()));
  return {};
}

Status slice(const Arguments& a) {
  const Tensor &x = a.in[0], &out = a.out[0];
  if (Status status = check_columns("slice", a, x, out); !status.ok()) return status;
  const size_t element = size_of(x.dtype), skip = static_cast<size_t>(a.integer(0)) * element;
  const size_t from = static_cast<size_t>(x.columns()) * element, to = static_cast<size_t>(out.columns()) * element;
  const bool past_caches = a.pool->apart();
  for_rows(*a.pool, x.rows(), out.columns(), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++)
      copy_bytes(out.as<uint8_t>() + static_cast<size_t>(t) * to, x.as<uint8_t>() + static_cast<size_t>(t) * from + skip, to, past_caches);
  });
  return {};
}

Status slice_grad(const Arguments& a) {
  const Tensor &dy = a.in[0], &out = a.out[0];
  if (Status status = check_columns("slice_grad", a, out, dy); !status.ok()) return status;
  const size_t element = size_of(out.dtype), skip = static_cast<size_t>(a.integer(0)) * element;
  const size_t from = static_cast<size_t>(dy.columns()) * element, to = static_cast<size_t>(out.columns()) * element;
  for_rows(*a.pool, out.rows(), out.columns(), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      uint8_t* row = out.as<uint8_t>() + static_cast<size_t>(t) * to;
      std::memset(row, 0, skip);
      std::memcpy(row + skip, dy.as<uint8_t>() + static_cast<size_t>(t) * from, from);
      std::memset(row + skip + from, 0, to - skip - from);
    }
  });
  return {};
}

}  // namespace

ZAYA_OPERATION(slice)
ZAYA_OPERATION(slice_grad)

}  // namespace zaya::ZAYA_ISA
