// cca_project(x [T,D], q_w [NH,D], k_w [KH,D], current_w [W,D], delayed_w [W,D]){compute} -> z [T,(N+K)·H], current [T,W], delayed [T,W]
//   z = concat(x · q_wᵀ, x · k_wᵀ), current = x · current_wᵀ, delayed = x · delayed_wᵀ: the projections of compressed convolutional attention,
//   for generation. Each is the `linear` of its weight (linear.cpp), bit for bit.
// Weights in quantised panels share one quantised x (which may be given so), and their panels are one list of tasks; so are those of others where
// rows are few.
#include <algorithm>
#include <span>

#include "cpu/gemm.h"
#include "cpu/quantised.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int projections = 4;

struct Projection {
  const Tensor* w;
  void* out;        // its first column
  int64_t stride;
};

// Where each projection goes: queries and keys side by side in z.
void list_projections(const Arguments& a, Projection (&list)[projections]) {
  const int64_t queries = a.in[1].shape[0], columns = a.out[0].columns();
  list[0] = {&a.in[1], a.out[0].data, columns};
  list[1] = {&a.in[2], a.out[0].as<uint8_t>() + static_cast<size_t>(queries) * size_of(a.out[0].dtype), columns};
  list[2] = {&a.in[3], a.out[1].data, a.out[1].columns()};
  list[3] = {&a.in[4], a.out[2].data, a.out[2].columns()};
}

size_t plain_bytes(const Arguments& a, const Tensor& w) {
  const Math math = math_of(a.in[0].dtype, a.flag(0));
  const int64_t k = w.shape[1];
  return packed_a_bytes(math, std::min(a.in[0].rows(), packed_rows(math, k)), k) +
         enough_b_bytes(packed_b_bytes(math, weight_operand(w, 0), w.shape[0], k), math, k);
}

// Rows [row, row + m) of x times one weight.
MatrixProduct plain_product(const Arguments& a, const Projection& projection, int64_t row, int64_t m) {
  MatrixProduct p;
  p.a = row_operand(a.in[0], row);
  p.b = weight_operand(*projection.w, 0);
  p.c = static_cast<uint8_t*>(projection.out) + static_cast<size_t>(row * projection.stride) * size_of(a.out[0].dtype);
  p.c_stride = projection.stride;
  p.m = m, p.n = projection.w->shape[0], p.k = projection.w->shape[1];
  return p;
}

void multiply_plain(const Arguments& a, const Projection* plain, int64_t count) {
  const Math math = math_of(a.in[0].dtype, a.flag(0));
  const int64_t rows = a.in[0].rows(), step = packed_rows(math, a.in[0].columns());
  MatrixProduct list[projections];
  for (int64_t i = 0; i < count; i++) list[i] = plain_product(a, plain[i], 0, rows);
  if (count > 0 && are_few_rows(math, list, count)) return multiply(*a.pool, math, list, count, a.workspace, plain_bytes(a, *plain[0].w));
  for (const Projection* p = plain; p < plain + count; p++)
    for (int64_t row = 0; row < rows; row += step) {
      MatrixProduct product = plain_product(a, *p, row, std::min(step, rows - row));
      multiply(*a.pool, math, &product, 1, a.workspace, plain_bytes(a, *p->w));
    }
}

size_t cca_project_workspace(const Arguments& a) {
  size_t bytes = 0;
  for (int i = 1; i <= projections; i++)
    bytes = std::max(bytes, is_quantised(a.in[i]) ? QuantisedRows::bytes(a.in[0].rows(), a.in[0].columns()) : plain_bytes(a, a.in[i]));
  return bytes;
}

Status cca_project(const Arguments& a) {
  const Tensor& x = a.in[0];
  Projection list[projections];
  list_projections(a, list);
  Projection* const plain = std::partition(list, list + projections, [](const Projection& p) { return is_quantised(*p.w); });
  multiply_plain(a, plain, list + projections - plain);
  QuantisedProduct quantised[projections];
  int64_t count = 0;
  for (const Projection& projection : std::span(list, plain)) {
    QuantisedProduct& p = quantised[count++];
    p.w = quantised_weight(*projection.w, 0);
    p.panels = quantised_panels(p.w.n);
    p.m = x.rows();
    p.c = static_cast<float*>(projection.out);
    p.c_stride = projection.stride;
  }
  if (count == 0) return {};
  const QuantisedRows rows = quantise_rows(*a.pool, x, 0, x.rows(), a.workspace);
  multiply(*a.pool, rows, quantised, count);
  return {};
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(cca_project)

}  // namespace zaya::ZAYA_ISA
