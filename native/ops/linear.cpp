// linear(x [T,K], w [N,K], bias? [N]){compute} -> y [T,N]: y[t,n] = sum_k x[t,k] · w[n,k] + bias[n], the bias added last.
// linear_input_grad(dy [T,N], w [N,K]){compute} -> dx [T,K]: dx[t,k] = sum_n dy[t,n] · w[n,k]
// linear_weight_grad(dy [T,N], x [T,K]){compute} -> dw [N,K]: dw[n,k] = sum_t dy[t,n] · x[t,k], t ascending.
// compute: 0 float32, 1 operands rounded to bfloat16; the sums are float32 (float64 when the activations are). w plain or panels.
// Sums as told in cpu/gemm.h: one chain each, so y[t] does not depend on the other rows.
// linear with w in quantised panels multiplies 8-bit integers, whatever compute says, and takes x as int8 rows too: cpu/quantised.h.
#include "cpu/gemm.h"
#include "cpu/quantised.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t quantised_step = 4096;  // rows of x that are quantised at a time

size_t quantised_workspace(const Arguments& a) {
  return QuantisedRows::bytes(std::min(a.in[0].rows(), quantised_step), a.in[1].shape[1]);
}

Status quantised_linear(const Arguments& a) {
  const Tensor &x = a.in[0], &bias = a.in[2], &y = a.out[0];
  QuantisedProduct p;
  p.w = quantised_weight(a.in[1], 0);
  p.panels = quantised_panels(p.w.n);
  p.c_stride = p.w.n;
  p.bias = bias.present() ? bias.as<float>() : nullptr;
  for (int64_t row = 0; row < x.rows(); row += quantised_step) {
    p.m = std::min(quantised_step, x.rows() - row);
    p.c = y.as<float>() + row * p.w.n;
    const QuantisedRows rows = quantise_rows(*a.pool, x, row, p.m, a.workspace);
    multiply(*a.pool, rows, &p, 1);
  }
  return {};
}

size_t linear_workspace(const Arguments& a) {
  const Tensor &x = a.in[0], &w = a.in[1];
  if (is_quantised(w)) return quantised_workspace(a);
  const Math math = math_of(x.dtype, a.flag(0));
  const int64_t n = w.shape[0], k = w.shape[1];
  return packed_a_bytes(math, std::min(x.rows(), packed_rows(math, k)), k) + enough_b_bytes(packed_b_bytes(math, weight_operand(w, 0), n, k), math, k);
}

Status linear(const Arguments& a) {
  const Tensor &x = a.in[0], &w = a.in[1], &bias = a.in[2], &y = a.out[0];
  if (is_quantised(w)) return quantised_linear(a);
  const Math math = math_of(x.dtype, a.flag(0));
  const int64_t n = w.shape[0], k = w.shape[1], rows = x.rows(), step = packed_rows(math, k);
  const size_t bytes = linear_workspace(a);
  for (int64_t row = 0; row < rows; row += step) {
    MatrixProduct p;
    p.a = row_operand(x, row);
    p.b = weight_operand(w, 0);
    p.c = y.as<uint8_t>() + static_cast<size_t>(row * n) * size_of(y.dtype);
    p.c_stride = n;
    p.m = std::min(step, rows - row), p.n = n, p.k = k;
    p.bias = bias.present() ? bias.data : nullptr;
    multiply(*a.pool, math, &p, 1, a.workspace, bytes);
  }
  return {};
}

size_t linear_input_grad_workspace(const Arguments& a) {
  const Tensor &dy = a.in[0], &w = a.in[1];
  const Math math = math_of(dy.dtype, a.flag(0));
  const int64_t n = w.shape[0], k = w.shape[1];
  return packed_a_bytes(math, std::min(dy.rows(), packed_rows(math, n)), n) +
         enough_b_bytes(packed_b_bytes(math, weight_operand_transposed(w, 0), k, n), math, n);
}

Status linear_input_grad(const Arguments& a) {
  const Tensor &dy = a.in[0], &w = a.in[1], &dx = a.out[0];
  const Math math = math_of(dy.dtype, a.flag(0));
  const int64_t n = w.shape[0], k = w.shape[1], rows = dy.rows(), step = packed_rows(math, n);
  const size_t bytes = linear_input_grad_workspace(a);
  for (int64_t row = 0; row < rows; row += step) {
    MatrixProduct p;
    p.a = row_operand(dy, row);
    p.b = weight_operand_transposed(w, 0);
    p.c = dx.as<uint8_t>() + static_cast<size_t>(row * k) * size_of(dx.dtype);
    p.c_stride = k;
    p.m = std::min(step, rows - row), p.n = k, p.k = n;
    multiply(*a.pool, math, &p, 1, a.workspace, bytes);
  }
  return {};
}

size_t linear_weight_grad_workspace(const Arguments& a) {
  const Tensor &dy = a.in[0], &x = a.in[1];
  const Math math = math_of(dy.dtype, a.flag(0));
  const int64_t n = dy.columns(), k = x.columns(), rows = std::min(dy.rows(), packed_rows(math, n + k));
  return packed_a_bytes(math, n, rows) + enough_b_bytes(packed_b_bytes(math, column_operand(x), k, rows), math, rows);
}

Status linear_weight_grad(const Arguments& a) {
  const Tensor &dy = a.in[0], &x = a.in[1], &dw = a.out[0];
  const Math math = math_of(dy.dtype, a.flag(0));
  const int64_t n = dy.columns(), k = x.columns(), rows = dy.rows(), step = packed_rows(math, n + k);
  const size_t bytes = linear_weight_grad_workspace(a);
  int64_t row = 0;
  do {
    MatrixProduct p;
    p.a = column_operand(dy, row);
    p.b = column_operand(x, row);
    p.c = dw.data;
    p.c_stride = k;
    p.m = n, p.n = k, p.k = std::min(step, rows - row);
    p.accumulate = row > 0;
    p.stream = true;
    multiply(*a.pool, math, &p, 1, a.workspace, bytes);
    row += step;
  } while (row < rows);
  return {};
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(linear)
ZAYA_OPERATION_WITH_WORKSPACE(linear_input_grad)
ZAYA_OPERATION_WITH_WORKSPACE(linear_weight_grad)

}  // namespace zaya::ZAYA_ISA
