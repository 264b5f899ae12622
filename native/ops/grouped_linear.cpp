// grouped_linear(x [T,K], w [E,N,K], offsets int32 [≥ E+1]){compute} -> y [T,N]: rows offsets[e] … offsets[e+1] are multiplied by w[e]:
//   y[t,n] = sum_k x[t,k] · w[e,n,k]; rows from offsets[E] on (tokens that skip) become zeros.
// grouped_linear_input_grad(dy [T,N], w [E,N,K], offsets){compute} -> dx [T,K]: dx[t,k] = sum_n dy[t,n] · w[e,n,k]; zeros as above.
// grouped_linear_weight_grad(dy [T,N], x [T,K], offsets){compute} -> dw [E,N,K]: dw[e,n,k] = sum over the rows t of e, ascending,
//   of dy[t,n] · x[t,k]; a group without rows gives zeros.
// Types and sums as in linear, also with w in quantised panels (the forward only); one list of tasks over all experts.
#include "cpu/gemm.h"
#include "cpu/quantised.h"

namespace zaya::ZAYA_ISA {
namespace {

size_t list_bytes(int64_t experts) { return align64(static_cast<size_t>(experts) * sizeof(MatrixProduct)); }

Status check_offsets(const char* name, const int32_t* offsets, int64_t count, int64_t experts, int64_t rows) {
  if (count < experts + 1) return error("[%s] expected at least %lld offsets, received %lld", name, static_cast<long long>(experts + 1), static_cast<long long>(count));
  bool ordered = offsets[0] >= 0 && offsets[experts] <= rows;
  for (int64_t e = 0; e < experts; e++) ordered = ordered && offsets[e] <= offsets[e + 1];
  if (!ordered) return error("[%s] expected offsets to ascend from 0 to at most %lld", name, static_cast<long long>(rows));
  return {};
}

// y = x · w[e]ᵀ, or dx = dy · w[e]: n columns of the result, sums over k.
struct Sides {
  bool transposed;
  int64_t n, k;
};
Sides sides_of(const Tensor& w, bool transposed) {
  return transposed ? Sides{true, w.shape[2], w.shape[1]} : Sides{false, w.shape[1], w.shape[2]};
}
Operand expert_operand(const Tensor& w, bool transposed, int64_t e) { return transposed ? weight_operand_transposed(w, e) : weight_operand(w, e); }

size_t rows_workspace(const Arguments& a, bool transposed) {
  const Tensor &x = a.in[0], &w = a.in[1];
  const Math math = math_of(x.dtype, a.flag(0));
  const Sides s = sides_of(w, transposed);
  const int64_t experts = w.shape[0];
  const size_t b = packed_b_bytes(math, expert_operand(w, transposed, 0), s.n, s.k) * static_cast<size_t>(experts);
  return list_bytes(experts) + packed_a_bytes(math, std::min(x.rows(), packed_rows(math, s.k)), s.k) + 64 * static_cast<size_t>(experts) +
         enough_b_bytes(b, math, s.k);
}

Status multiply_rows(const Arguments& a, const char* name, bool transposed) {
  const Tensor &x = a.in[0], &w = a.in[1], &y = a.out[0];
  const int32_t* offsets = a.in[2].as<int32_t>();
  const Math math = math_of(x.dtype, a.flag(0));
  const Sides s = sides_of(w, transposed);
  const int64_t experts = w.shape[0], rows = x.rows(), step = packed_rows(math, s.k);
  if (Status status = check_offsets(name, offsets, a.in[2].size(), experts, rows); !status.ok()) return status;
  auto row_of_y = [&](int64_t row) { return y.as<uint8_t>() + static_cast<size_t>(row * s.n) * size_of(y.dtype); };
  std::memset(row_of_y(0), 0, static_cast<size_t>(offsets[0] * s.n) * size_of(y.dtype));
  std::memset(row_of_y(offsets[experts]), 0, static_cast<size_t>((rows - offsets[experts]) * s.n) * size_of(y.dtype));

  auto* list = reinterpret_cast<MatrixProduct*>(a.workspace);
  const size_t bytes = rows_workspace(a, transposed) - list_bytes(experts);
  for (int64_t row0 = offsets[0]; row0 < offsets[experts]; row0 += step) {
    const int64_t row1 = std::min<int64_t>(row0 + step, offsets[experts]);
    int64_t count = 0;
    for (int64_t e = 0; e < experts; e++) {
      const int64_t begin = std::max<int64_t>(row0, offsets[e]), end = std::min<int64_t>(row1, offsets[e + 1]);
      if (begin >= end) continue;
      MatrixProduct p;
      p.a = row_operand(x, begin);
      p.b = expert_operand(w, transposed, e);
      p.c = row_of_y(begin);
      p.c_stride = s.n;
      p.m = end - begin, p.n = s.n, p.k = s.k;
      list[count++] = p;
    }
    multiply(*a.pool, math, list, count, a.workspace + list_bytes(experts), bytes);
  }
  return {};
}

size_t quantised_list_bytes(int64_t experts) { return align64(static_cast<size_t>(experts) * sizeof(QuantisedProduct)); }

Status quantised_grouped_linear(const Arguments& a) {
  const Tensor &x = a.in[0], &w = a.in[1], &y = a.out[0];
  const int32_t* offsets = a.in[2].as<int32_t>();
  const int64_t experts = w.shape[0], n = w.shape[1], rows = x.rows();
  if (Status status = check_offsets("grouped_linear", offsets, a.in[2].size(), experts, rows); !status.ok()) return status;
  std::fill_n(y.as<float>(), offsets[0] * n, 0.0f);
  std::fill_n(y.as<float>() + offsets[experts] * n, (rows - offsets[experts]) * n, 0.0f);
  auto* list = reinterpret_cast<QuantisedProduct*>(a.workspace);
  const int64_t count = list_experts(w, offsets, list);
  for (int64_t i = 0; i < count; i++) list[i].c = y.as<float>() + list[i].first * n, list[i].c_stride = n;
  const QuantisedRows quantised = quantise_rows(*a.pool, x, 0, rows, a.workspace + quantised_list_bytes(experts));
  multiply(*a.pool, quantised, list, count);
  return {};
}

size_t grouped_linear_workspace(const Arguments& a) {
  const Tensor &x = a.in[0], &w = a.in[1];
  if (!is_quantised(w)) return rows_workspace(a, false);
  return quantised_list_bytes(w.shape[0]) + QuantisedRows::bytes(x.rows(), w.shape[2]);
}
Status grouped_linear(const Arguments& a) {
  return is_quantised(a.in[1]) ? quantised_grouped_linear(a) : multiply_rows(a, "grouped_linear", false);
}
size_t grouped_linear_input_grad_workspace(const Arguments& a) { return rows_workspace(a, true); }
Status grouped_linear_input_grad(const Arguments& a) { return multiply_rows(a, "grouped_linear_input_grad", true); }

// Rows of a group are taken at most `step` at a time; several groups share a list while their rows are fewer than that.
size_t grouped_linear_weight_grad_workspace(const Arguments& a) {
  const Tensor &dy = a.in[0], &x = a.in[1];
  const Math math = math_of(dy.dtype, a.flag(0));
  const int64_t experts = a.out[0].shape[0], n = dy.columns(), k = x.columns();
  const int64_t rows = std::min(dy.rows(), packed_rows(math, n + k)) + 2 * experts;
  return list_bytes(experts) + packed_a_bytes(math, n, rows) + 64 * static_cast<size_t>(experts) +
         enough_b_bytes(packed_b_bytes(math, column_operand(x), k, rows), math, rows);
}

Status grouped_linear_weight_grad(const Arguments& a) {
  const Tensor &dy = a.in[0], &x = a.in[1], &dw = a.out[0];
  const int32_t* offsets = a.in[2].as<int32_t>();
  const Math math = math_of(dy.dtype, a.flag(0));
  const int64_t experts = a.out[0].shape[0], n = dy.columns(), k = x.columns(), step = packed_rows(math, n + k);
  if (Status status = check_offsets("grouped_linear_weight_grad", offsets, a.in[2].size(), experts, dy.rows()); !status.ok()) return status;

  auto* list = reinterpret_cast<MatrixProduct*>(a.workspace);
  const size_t bytes = grouped_linear_weight_grad_workspace(a) - list_bytes(experts);
  int64_t count = 0, held = 0;
  auto flush = [&] {
    multiply(*a.pool, math, list, count, a.workspace + list_bytes(experts), bytes);
    count = held = 0;
  };
  for (int64_t e = 0; e < experts; e++) {
    int64_t row = offsets[e];
    do {
      const int64_t rows = std::min<int64_t>(step, offsets[e + 1] - row);
      if (held + rows > step) flush();
      MatrixProduct p;
      p.a = column_operand(dy, row);
      p.b = column_operand(x, row);
      p.c = dw.as<uint8_t>() + static_cast<size_t>(e * n * k) * size_of(dw.dtype);
      p.c_stride = k;
      p.m = n, p.n = k, p.k = rows;
      p.accumulate = row > offsets[e];
      p.stream = true;
      list[count++] = p;
      held += rows;
      row += step;
    } while (row < offsets[e + 1]);
  }
  flush();
  return {};
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(grouped_linear)
ZAYA_OPERATION_WITH_WORKSPACE(grouped_linear_input_grad)
ZAYA_OPERATION_WITH_WORKSPACE(grouped_linear_weight_grad)

}  // namespace zaya::ZAYA_ISA
