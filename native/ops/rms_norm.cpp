// rms_norm(x [T,D], weight [D]){eps} -> y [T,D]: y = x · weight / sqrt(mean(x²) + eps); statistics in the type of x (float32).
// rms_norm_grad(dy [T,D], x [T,D], weight [D], add? [T,D]){eps} -> dx [T,D], dweight [D]
//   With r = 1 / sqrt(mean(x²) + eps), g = dy · weight:  dx = r · (g − x · r² · mean(g · x)) (+ add),  dweight = Σ_t dy · x · r.
//   The statistics are computed again from x: a row stays in the first-level cache between the two passes.
//   `add` is a gradient that reaches x by another path; adding it here saves a pass over memory.
// Accumulation: a row's sums in 16 lanes; dweight by chunks of rows (cpu/rows.h).
#include "cpu/rows.h"
#include "cpu/streaming.h"
#include "cpu/vector.h"
#include "ops/rms_norm.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status norm(const Arguments& a) {
  const Tensor &x = a.in[0], &out = a.out[0];
  const int64_t columns = x.columns();
  const T eps = static_cast<T>(a.attribute[0]);
  uint8_t* workspace = a.workspace;
  const T* weight = read_vector<T>(a.in[1], workspace);
  const ResultRows<T> norms(*a.pool, out);
  for_rows(*a.pool, x.rows(), columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) norms.make(t, [&](T* norm) { norm_row(x.as<T>() + t * columns, weight, columns, eps, norm); });
  });
  return {};
}

template <class T> Status norm_grad(const Arguments& a) {
  const Tensor &dy = a.in[0], &x = a.in[1], &add = a.in[3], &dx = a.out[0], &dweight = a.out[1];
  const int64_t columns = x.columns();
  const T eps = static_cast<T>(a.attribute[0]);
  uint8_t* workspace = a.workspace;
  const T* weight = read_vector<T>(a.in[2], workspace);
  T* partials = reinterpret_cast<T*>(workspace);
  const RowChunks chunks = row_chunks(x.rows());
  const ResultRows<T> gradients(*a.pool, dx);
  const bool past_caches = a.pool->apart();
  for_chunks(*a.pool, chunks, [&](int64_t begin, int64_t end, int64_t chunk) {
    make_row(partials + chunk * columns, columns, past_caches, [&](T* partial) {
      std::fill(partial, partial + columns, T(0));
      for (int64_t t = begin; t < end; t++) {
        const T* g = dy.as<T>() + t * columns;
        const T* row = x.as<T>() + t * columns;
        const T squares = sum_of<T>(columns, [&](int64_t i) { return row[i] * row[i]; });
        const T product = sum_of<T>(columns, [&](int64_t i) { return g[i] * weight[i] * row[i]; });
        const T scale = 1 / std::sqrt(squares / static_cast<T>(columns) + eps);
        const T along = scale * scale * scale * (product / static_cast<T>(columns));
#pragma GCC ivdep
        for (int64_t i = 0; i < columns; i++) partial[i] += g[i] * row[i] * scale;
        gradients.make(t, [&](T* d) {
          if (add.present()) {
            const T* other = add.as<T>() + t * columns;
#pragma GCC ivdep
            for (int64_t i = 0; i < columns; i++) d[i] = g[i] * weight[i] * scale - row[i] * along + other[i];
          } else {
#pragma GCC ivdep
            for (int64_t i = 0; i < columns; i++) d[i] = g[i] * weight[i] * scale - row[i] * along;
          }
        });
      }
    });
  });
  add_chunks(*a.pool, chunks, partials, columns, columns, dweight.as<T>());
  return {};
}

Status rms_norm(const Arguments& a) { return a.out[0].dtype == DType::float64 ? norm<double>(a) : norm<float>(a); }
size_t rms_norm_workspace(const Arguments& a) {
  return a.out[0].dtype == DType::float64 ? vector_bytes<double>(a.in[1]) : vector_bytes<float>(a.in[1]);
}

Status rms_norm_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? norm_grad<double>(a) : norm_grad<float>(a); }
size_t rms_norm_grad_workspace(const Arguments& a) {
  const int64_t rows = a.in[1].rows(), columns = a.in[1].columns();
  return a.out[0].dtype == DType::float64 ? vector_bytes<double>(a.in[2]) + partial_bytes<double>(rows, columns)
                                          : vector_bytes<float>(a.in[2]) + partial_bytes<float>(rows, columns);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(rms_norm)
ZAYA_OPERATION_WITH_WORKSPACE(rms_norm_grad)

}  // namespace zaya::ZAYA_ISA
