// residual_merge: see residual_merge.h.
// residual_merge_grad(dout [T,D], y, h?, y_scale?, y_bias?, h_scale?, h_bias?) -> dy [T,D], then for each input that is present, in
//   order: dh [T,D], dy_scale, dy_bias, dh_scale, dh_bias [D]
//   dy = dout · y_scale, dy_scale = Σ_t dout · (y + y_bias), dy_bias = y_scale · Σ_t dout, and the same for h.
// Sums over t by chunks of rows (cpu/rows.h).
#include "cpu/streaming.h"
#include "ops/residual_merge.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status merge(const Arguments& a) {
  const Tensor &y = a.in[0], &h = a.in[1], &out = a.out[0];
  const int64_t columns = y.columns();
  uint8_t* workspace = a.workspace;
  const Branch<T> ys = read_branch<T>(a.in[2], a.in[3], columns, workspace);
  const Branch<T> hs = h.present() ? read_branch<T>(a.in[4], a.in[5], columns, workspace) : Branch<T>{};
  const ResultRows<T> merged(*a.pool, out);
  for_rows(*a.pool, y.rows(), columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++)
      merged.make(t, [&](T* row) { merge_row<T>(y.as<T>() + t * columns, h.present() ? h.as<T>() + t * columns : nullptr, ys, hs, columns, row); });
  });
  return {};
}

template <class T> size_t merge_bytes(const Arguments& a, int first) {
  const int64_t columns = a.in[first].columns();
  return branch_bytes<T>(a.in[first + 2], a.in[first + 3], columns) + branch_bytes<T>(a.in[first + 4], a.in[first + 5], columns);
}

// One branch of the gradient: dx = dout · scale, sum += dout · (x + bias).
template <class T> void branch_grad(const T* dout, const T* x, Branch<T> branch, int64_t columns, T* dx, T* sum) {
#pragma GCC ivdep
  for (int64_t i = 0; i < columns; i++) {
    sum[i] += dout[i] * (x[i] + branch.bias[i]);
    dx[i] = dout[i] * branch.scale[i];
  }
}

template <class T> Status merge_grad(const Arguments& a) {
  const Tensor &dout = a.in[0], &y = a.in[1], &h = a.in[2];
  const int64_t columns = y.columns();
  uint8_t* workspace = a.workspace;
  const Branch<T> ys = read_branch<T>(a.in[3], a.in[4], columns, workspace);
  const Branch<T> hs = h.present() ? read_branch<T>(a.in[5], a.in[6], columns, workspace) : Branch<T>{};
  const bool sums = a.in[3].present() || a.in[4].present() || a.in[5].present() || a.in[6].present();
  T* partials = reinterpret_cast<T*>(workspace);
  const ResultRows<T> dy(*a.pool, a.out[0]), dh(*a.pool, a.out[h.present() ? 1 : 0]);
  const bool past_caches = a.pool->apart();
  const RowChunks chunks = row_chunks(y.rows());
  for_chunks(*a.pool, chunks, [&](int64_t begin, int64_t end, int64_t chunk) {
    make_row(partials + chunk * 3 * columns, 3 * columns, past_caches, [&](T* total) {
      T* y_sum = total + columns;
      T* h_sum = y_sum + columns;
      std::fill(total, total + 3 * columns, T(0));
      for (int64_t t = begin; t < end; t++) {
        const T* d = dout.as<T>() + t * columns;
        if (sums)
#pragma GCC ivdep
          for (int64_t i = 0; i < columns; i++) total[i] += d[i];
        if (h.present()) dh.make(t, [&](T* row) { branch_grad<T>(d, h.as<T>() + t * columns, hs, columns, row, h_sum); });
        dy.make(t, [&](T* row) { branch_grad<T>(d, y.as<T>() + t * columns, ys, columns, row, y_sum); });
      }
    });
  });
  int output = h.present() ? 2 : 1;
  for (int vector = 0; vector < 4; vector++) {
    if (!a.in[3 + vector].present()) continue;
    T* out = a.out[output++].as<T>();
    const bool of_h = vector >= 2, bias = vector % 2 == 1;
    add_chunks(*a.pool, chunks, partials + (bias ? 0 : of_h ? 2 : 1) * columns, 3 * columns, columns, out);
    if (bias) {
      const T* scale = of_h ? hs.scale : ys.scale;
#pragma GCC ivdep
      for (int64_t i = 0; i < columns; i++) out[i] *= scale[i];
    }
  }
  return {};
}

Status residual_merge(const Arguments& a) { return a.out[0].dtype == DType::float64 ? merge<double>(a) : merge<float>(a); }
size_t residual_merge_workspace(const Arguments& a) {
  return a.out[0].dtype == DType::float64 ? merge_bytes<double>(a, 0) : merge_bytes<float>(a, 0);
}

Status residual_merge_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? merge_grad<double>(a) : merge_grad<float>(a); }
size_t residual_merge_grad_workspace(const Arguments& a) {
  const int64_t rows = a.in[1].rows(), columns = a.in[1].columns();
  return a.out[0].dtype == DType::float64 ? merge_bytes<double>(a, 1) + partial_bytes<double>(rows, columns, 3)
                                          : merge_bytes<float>(a, 1) + partial_bytes<float>(rows, columns, 3);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(residual_merge)
ZAYA_OPERATION_WITH_WORKSPACE(residual_merge_grad)

}  // namespace zaya::ZAYA_ISA
