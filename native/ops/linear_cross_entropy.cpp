// linear_cross_entropy(h [T,D], w [V,D], bias? [V], labels int32 [T]){compute} -> loss [T], lse [T]
//   x = h wᵀ + bias;  lse[t] = log Σ_v exp(x[t,v]);  loss[t] = lse[t] − x[t, labels[t]], 0 where the label is −1
// linear_cross_entropy_grad(dloss [T], h, w, bias?, labels, lse){compute} -> dh [T,D], dw [V,D], dbias? [V]
//   dx[t,v] = (exp(x[t,v] − lse[t]) − [v = labels[t]]) · dloss[t], 0 where the label is −1;  dh = dx w,  dw = dxᵀ h,  dbias = Σ_t dx
//
// The logits are made for a chunk of rows at a time, at most about 16 MB of them, and made again for the gradient. A row's sum runs in
// 16 lanes over v; dw and dbias add up over t in order, across the chunks. Products as told in cpu/gemm.h.
#include <algorithm>
#include <limits>

#include "cpu/gemm.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t chunk_elements = 4 << 20;
// Weights up to this size are packed once a call, larger ones piece by piece in every chunk.
constexpr size_t pack_once_bytes = size_t(64) << 20;

int64_t chunk_rows(int64_t rows, int64_t vocabulary) { return std::min(rows, std::max<int64_t>(16, chunk_elements / std::max<int64_t>(1, vocabulary))); }

// Bytes for a copy of B in panels, or 0 where it is read in place or packed piece by piece.
size_t packed_once(Math math, const Operand& b, int64_t n, int64_t k) {
  if (packed_b_bytes(math, b, n, k) == 0) return 0;
  const size_t bytes = align64(static_cast<size_t>(packed_elements(n, k)) * size_of(packed_dtype(math, b.dtype)));
  return bytes <= pack_once_bytes ? bytes : 0;
}

Operand pack_once(Pool& pool, Math math, const Operand& b, int64_t n, int64_t k, uint8_t*& workspace) {
  const size_t bytes = packed_once(math, b, n, k);
  if (bytes == 0) return b;
  const DType dtype = packed_dtype(math, b.dtype);
  pack_panels(pool, b, n, k, dtype, workspace);
  const Operand packed{workspace, dtype, Layout::panels, k};
  workspace += bytes;
  return packed;
}

size_t product_bytes(Math math, const Operand& b, int64_t m, int64_t n, int64_t k) {
  return align64(packed_a_bytes(math, m, k)) + align64(enough_b_bytes(packed_b_bytes(math, b, n, k), math, k));
}

Status check_labels(const char* name, const Tensor& labels, int64_t vocabulary) {
  const int32_t* label = labels.as<int32_t>();
  for (int64_t t = 0; t < labels.size(); t++)
    if (label[t] < -1 || label[t] >= vocabulary)
      return error("[%s] expected labels from −1 to %lld, received %d at row %lld", name, static_cast<long long>(vocabulary - 1), label[t],
                   static_cast<long long>(t));
  return {};
}

template <class T> T log_sum_exp(const T* x, int64_t n) {
  Lanes<T> most = splat<T>(-std::numeric_limits<T>::infinity());
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Lanes<T> v = load<T>(x + i);
    most = v > most ? v : most;
  }
  T largest = -std::numeric_limits<T>::infinity();
  for (int j = 0; j < lanes; j++) largest = std::max(largest, static_cast<T>(most[j]));
  for (int64_t j = i; j < n; j++) largest = std::max(largest, x[j]);
  if (largest == -std::numeric_limits<T>::infinity()) return largest;
  Lanes<T> total = {};
  for (i = 0; i + lanes <= n; i += lanes) total += exponential(load<T>(x + i) - largest);
  if (i < n) total += exponential(load_first<T>(x + i, n - i, -std::numeric_limits<T>::infinity()) - largest);
  return largest + std::log(sum<T>(total));
}

// The logits of rows [row, row + rows) into `logits`.
void make_logits(const Arguments& a, Math math, const Tensor& h, const Operand& w, const Tensor& bias, int64_t vocabulary, int64_t row, int64_t rows,
                 void* logits, uint8_t* workspace) {
  MatrixProduct p;
  p.a = row_operand(h, row);
  p.b = w;
  p.c = logits;
  p.c_stride = vocabulary;
  p.m = rows, p.n = vocabulary, p.k = h.columns();
  p.bias = bias.present() ? bias.data : nullptr;
  multiply(*a.pool, math, &p, 1, workspace, product_bytes(math, w, rows, vocabulary, h.columns()));
}

size_t linear_cross_entropy_workspace(const Arguments& a) {
  const Tensor &h = a.in[0], &w = a.in[1];
  const Math math = math_of(h.dtype, a.flag(0));
  const int64_t V = w.shape[0], D = w.shape[1], rows = chunk_rows(h.rows(), V);
  const Operand b = weight_operand(w, 0);
  return align64(static_cast<size_t>(rows * V) * size_of(h.dtype)) + packed_once(math, b, V, D) + product_bytes(math, b, rows, V, D);
}

template <class T> Status forward(const Arguments& a) {
  const Tensor &h = a.in[0], &w = a.in[1], &bias = a.in[2], &labels = a.in[3];
  const Math math = math_of(h.dtype, a.flag(0));
  const int64_t V = w.shape[0], D = w.shape[1], T_rows = h.rows(), step = std::max<int64_t>(1, chunk_rows(T_rows, V));
  if (Status status = check_labels("linear_cross_entropy", labels, V); !status.ok()) return status;
  uint8_t* workspace = a.workspace;
  T* logits = reinterpret_cast<T*>(workspace);
  workspace += align64(static_cast<size_t>(chunk_rows(T_rows, V) * V) * sizeof(T));
  const Operand b = pack_once(*a.pool, math, weight_operand(w, 0), V, D, workspace);
  T *loss = a.out[0].as<T>(), *lse = a.out[1].as<T>();
  const int32_t* label = labels.as<int32_t>();
  for (int64_t row = 0; row < T_rows; row += step) {
    const int64_t rows = std::min(step, T_rows - row);
    make_logits(a, math, h, b, bias, V, row, rows, logits, workspace);
    a.pool->run(rows, [&](int64_t r, int) {
      const T* x = logits + r * V;
      lse[row + r] = log_sum_exp<T>(x, V);
      loss[row + r] = label[row + r] < 0 ? 0 : lse[row + r] - x[label[row + r]];
    });
  }
  return {};
}

size_t linear_cross_entropy_grad_workspace(const Arguments& a) {
  const Tensor &h = a.in[1], &w = a.in[2];
  const Math math = math_of(h.dtype, a.flag(0));
  const int64_t V = w.shape[0], D = w.shape[1], rows = chunk_rows(h.rows(), V);
  const Operand b = weight_operand(w, 0), bt = weight_operand_transposed(w, 0), x = column_operand(h);
  const size_t products = std::max({product_bytes(math, b, rows, V, D), product_bytes(math, bt, rows, D, V), product_bytes(math, x, V, D, rows)});
  return align64(static_cast<size_t>(rows * V) * size_of(h.dtype)) + packed_once(math, b, V, D) + packed_once(math, bt, D, V) + products;
}

template <class T> Status backward(const Arguments& a) {
  const Tensor &h = a.in[1], &w = a.in[2], &bias = a.in[3], &labels = a.in[4], &dh = a.out[0], &dw = a.out[1];
  const Math math = math_of(h.dtype, a.flag(0));
  const int64_t V = w.shape[0], D = w.shape[1], T_rows = h.rows(), step = std::max<int64_t>(1, chunk_rows(T_rows, V));
  if (Status status = check_labels("linear_cross_entropy_grad", labels, V); !status.ok()) return status;
  uint8_t* workspace = a.workspace;
  T* dx = reinterpret_cast<T*>(workspace);
  workspace += align64(static_cast<size_t>(chunk_rows(T_rows, V) * V) * sizeof(T));
  const Operand b = pack_once(*a.pool, math, weight_operand(w, 0), V, D, workspace);
  const Operand bt = pack_once(*a.pool, math, weight_operand_transposed(w, 0), D, V, workspace);
  const T *dloss = a.in[0].as<T>(), *lse = a.in[5].as<T>();
  const int32_t* label = labels.as<int32_t>();
  T* dbias = bias.present() ? a.out[2].as<T>() : nullptr;
  if (T_rows == 0) std::memset(dw.data, 0, static_cast<size_t>(V * D) * sizeof(T));
  if (dbias != nullptr) std::fill(dbias, dbias + V, T(0));

  for (int64_t row = 0; row < T_rows; row += step) {
    const int64_t rows = std::min(step, T_rows - row);
    make_logits(a, math, h, b, bias, V, row, rows, dx, workspace);
    a.pool->run(rows, [&](int64_t r, int) {
      T* x = dx + r * V;
      const int64_t t = row + r;
      const T scale = label[t] < 0 ? 0 : dloss[t];
      if (scale == 0) {
        std::fill(x, x + V, T(0));
        return;
      }
      int64_t v = 0;
      for (; v + lanes <= V; v += lanes) store<T>(x + v, exponential(load<T>(x + v) - lse[t]) * scale);
      for (; v < V; v++) x[v] = exponential_of<T>(x[v] - lse[t]) * scale;
      x[label[t]] -= scale;
    });
    if (dbias != nullptr)
      a.pool->run_ranges(V, 1024, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = 0; r < rows; r++)
          for (int64_t v = begin; v < end; v++) dbias[v] += dx[r * V + v];
      });
    MatrixProduct p;
    p.a = {dx, h.dtype, Layout::rows, V};
    p.b = bt;
    p.c = dh.as<T>() + row * D;
    p.c_stride = D;
    p.m = rows, p.n = D, p.k = V;
    multiply(*a.pool, math, &p, 1, workspace, product_bytes(math, bt, rows, D, V));
    MatrixProduct q;
    q.a = {dx, h.dtype, Layout::columns, V};
    q.b = column_operand(h, row);
    q.c = dw.data;
    q.c_stride = D;
    q.m = V, q.n = D, q.k = rows;
    q.accumulate = row > 0;
    multiply(*a.pool, math, &q, 1, workspace, product_bytes(math, q.b, V, D, rows));
  }
  return {};
}

Status linear_cross_entropy(const Arguments& a) { return a.in[0].dtype == DType::float64 ? forward<double>(a) : forward<float>(a); }
Status linear_cross_entropy_grad(const Arguments& a) { return a.in[1].dtype == DType::float64 ? backward<double>(a) : backward<float>(a); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(linear_cross_entropy)
ZAYA_OPERATION_WITH_WORKSPACE(linear_cross_entropy_grad)

}  // namespace zaya::ZAYA_ISA
