// cca_qk(z [T,C], conv [T,C], temp [K]){query_heads = N, clamp_temp, eps} -> q [T,N,H], k [T,K,H];  C = (N+K)·H, G = N/K
//   z holds the projected queries and keys q0, k0, conv what the convolutions made of them.
//   q_mean[n] = (q0[n] + k0[n div G]) / 2, k_mean[k] = mean of q_mean over the G query heads of k      ("qk mean")
//   q = unit(conv[:N] + q_mean), k = unit(conv[N:] + k_mean) · temp[k], unit(x) = x · sqrt(H) / max(|x|, eps)
//   With clamp_temp, exp(clamp(temp, 1e-7, 2)) stands for temp.
// cca_qk_grad(dq, dk, z, conv, temp){same} -> dz [T,C], dconv [T,C], dtemp [K]
//   For y = unit(x), s = sqrt(H) / max(|x|, eps): dx = s · (dy − x · (x · dy) / |x|²), or s · dy where |x| < eps.
//   q_mean receives dq_mean[n] = dx_q[n] + dx_k[n div G] / G; then dq0[n] = dq_mean[n] / 2, dk0[k] = Σ of dq_mean[n] / 2 over its heads.
// Norms in the type of z (float32), 16 lanes; dtemp by chunks of rows (cpu/rows.h).
#include "cpu/rows.h"
#include "cpu/streaming.h"
#include "cpu/vector.h"
#include "ops/cca_qk.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status mix(const Arguments& a) {
  const Tensor &z = a.in[0], &conv = a.in[1];
  const Heads<T> h(a, z, a.in[2]);
  const ResultRows<T> q(*a.pool, a.out[0]), k(*a.pool, a.out[1]);
  for_rows(*a.pool, z.shape[0], 2 * h.columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const T* z_row = z.as<T>() + t * h.columns;
      const T* conv_row = conv.as<T>() + t * h.columns;
      for (int64_t n = 0; n < h.queries + h.keys; n++) {
        const bool query = n < h.queries;
        auto make = [&](T* x) { normalised_head(h, z_row, conv_row + n * h.size, n, query ? T(1) : element<T>(a.in[2], n - h.queries), x); };
        if (query) q.make(t * h.queries + n, make);
        else k.make(t * h.keys + n - h.queries, make);
      }
    }
  });
  return {};
}

// x holds the mixed head and becomes its gradient. Returns Σ dy · unit(x), the gradient of a factor of the result.
template <class T> T unit_grad(const Heads<T>& h, const T* dy, T factor, T* x) {
  const T squares = dot(x, x, h.size), along = dot(x, dy, h.size);
  const T norm = std::sqrt(squares);
  const T scale = h.root / std::max(norm, h.eps);
  const T back = norm >= h.eps ? scale * factor * along / squares : T(0);
#pragma GCC ivdep
  for (int64_t i = 0; i < h.size; i++) x[i] = scale * factor * dy[i] - back * x[i];
  return scale * along;
}

template <class T> Status mix_grad(const Arguments& a) {
  const Tensor &dq = a.in[0], &dk = a.in[1], &z = a.in[2], &conv = a.in[3], &temp = a.in[4], &dtemp = a.out[2];
  const Heads<T> h(a, z, temp);
  const RowChunks chunks = row_chunks(z.shape[0]);
  T* partials = reinterpret_cast<T*>(a.workspace);
  const ResultRows<T> dzs(*a.pool, a.out[0]), dconvs(*a.pool, a.out[1]);
  for_chunks(*a.pool, chunks, [&](int64_t begin, int64_t end, int64_t chunk) {
    T* partial = partials + chunk * h.keys;
    std::fill(partial, partial + h.keys, T(0));
    for (int64_t t = begin; t < end; t++) {
      const T* z_row = z.as<T>() + t * h.columns;
      const T* conv_row = conv.as<T>() + t * h.columns;
      auto fill = [&](T* dz, T* dx) {
        for (int64_t n = 0; n < h.queries; n++) {
          mix_query(h, z_row, conv_row + n * h.size, n, dx + n * h.size);
          unit_grad(h, dq.as<T>() + (t * h.queries + n) * h.size, T(1), dx + n * h.size);
        }
        for (int64_t k = 0; k < h.keys; k++) {
          T* x = dx + (h.queries + k) * h.size;
          mix_key(h, z_row, conv_row + (h.queries + k) * h.size, k, x);
          partial[k] += unit_grad(h, dk.as<T>() + (t * h.keys + k) * h.size, h.temperature(element<T>(temp, k)), x);
          T* dk0 = dz + (h.queries + k) * h.size;
          std::fill(dk0, dk0 + h.size, T(0));
          const T share = 1 / static_cast<T>(h.group);
          for (int64_t g = 0; g < h.group; g++) {
            const int64_t n = k * h.group + g;
            const T* dx_q = dx + n * h.size;
            T* dq0 = dz + n * h.size;
#pragma GCC ivdep
            for (int64_t i = 0; i < h.size; i++) {
              dq0[i] = (dx_q[i] + x[i] * share) * T(0.5);
              dk0[i] += dq0[i];
            }
          }
        }
      };
      dzs.make(t, [&](T* dz) { dconvs.make(t, [&](T* dx) { fill(dz, dx); }); });
    }
  });
  add_chunks(*a.pool, chunks, partials, h.keys, h.keys, dtemp.as<T>());
  for (int64_t k = 0; k < h.keys; k++) dtemp.as<T>()[k] *= h.slope(element<T>(temp, k));
  return {};
}

Status cca_qk(const Arguments& a) {
  if (Status status = check_heads("cca_qk", a, a.in[0], a.in[2]); !status.ok()) return status;
  return a.out[0].dtype == DType::float64 ? mix<double>(a) : mix<float>(a);
}
Status cca_qk_grad(const Arguments& a) {
  if (Status status = check_heads("cca_qk_grad", a, a.in[2], a.in[4]); !status.ok()) return status;
  return a.out[0].dtype == DType::float64 ? mix_grad<double>(a) : mix_grad<float>(a);
}
size_t cca_qk_grad_workspace(const Arguments& a) { return partial_bytes<double>(a.in[2].shape[0], a.in[4].size()); }

}  // namespace

ZAYA_OPERATION(cca_qk)
ZAYA_OPERATION_WITH_WORKSPACE(cca_qk_grad)

}  // namespace zaya::ZAYA_ISA
