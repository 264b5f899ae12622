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
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> struct Heads {
  int64_t queries, keys, group, size, columns;
  T eps, root;
  bool clamp;

  explicit Heads(const Arguments& a, const Tensor& z, const Tensor& temp)
      : queries(a.integer(0)), keys(temp.size()), group(queries / keys), size(z.columns() / (queries + keys)), columns(z.columns()),
        eps(static_cast<T>(a.attribute[2])), root(std::sqrt(static_cast<T>(size))), clamp(a.flag(1)) {}

  T temperature(T temp) const { return clamp ? std::exp(std::min(std::max(temp, T(1e-7)), T(2))) : temp; }
  // d temperature / d temp
  T slope(T temp) const { return clamp ? (temp >= T(1e-7) && temp <= T(2) ? std::exp(temp) : T(0)) : T(1); }
};

template <class T> T dot(const T* a, const T* b, int64_t n) {
  return sum_of<T>(n, [&](int64_t i) { return a[i] * b[i]; });
}

// x = conv + q_mean for query head n.
template <class T> void mix_query(const Heads<T>& h, const T* z, const T* conv, int64_t n, T* x) {
  const T* q0 = z + n * h.size;
  const T* k0 = z + (h.queries + n / h.group) * h.size;
  const T* c = conv + n * h.size;
#pragma GCC ivdep
  for (int64_t i = 0; i < h.size; i++) x[i] = c[i] + (q0[i] + k0[i]) * T(0.5);
}

// x = conv + k_mean for key head k.
template <class T> void mix_key(const Heads<T>& h, const T* z, const T* conv, int64_t k, T* x) {
  const T* k0 = z + (h.queries + k) * h.size;
  const T* c = conv + (h.queries + k) * h.size;
  const T share = 1 / static_cast<T>(h.group);
#pragma GCC ivdep
  for (int64_t i = 0; i < h.size; i++) x[i] = (z[k * h.group * h.size + i] + k0[i]) * T(0.5);
  for (int64_t g = 1; g < h.group; g++) {
    const T* q0 = z + (k * h.group + g) * h.size;
#pragma GCC ivdep
    for (int64_t i = 0; i < h.size; i++) x[i] += (q0[i] + k0[i]) * T(0.5);
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < h.size; i++) x[i] = c[i] + x[i] * share;
}

template <class T> Status mix(const Arguments& a) {
  const Tensor &z = a.in[0], &conv = a.in[1];
  const Heads<T> h(a, z, a.in[2]);
  for_rows(*a.pool, z.shape[0], 2 * h.columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const T* z_row = z.as<T>() + t * h.columns;
      const T* conv_row = conv.as<T>() + t * h.columns;
      for (int64_t n = 0; n < h.queries + h.keys; n++) {
        const bool query = n < h.queries;
        T* x = query ? a.out[0].as<T>() + (t * h.queries + n) * h.size : a.out[1].as<T>() + (t * h.keys + n - h.queries) * h.size;
        if (query) mix_query(h, z_row, conv_row, n, x);
        else mix_key(h, z_row, conv_row, n - h.queries, x);
        T scale = h.root / std::max(std::sqrt(dot(x, x, h.size)), h.eps);
        if (!query) scale *= h.temperature(element<T>(a.in[2], n - h.queries));
#pragma GCC ivdep
        for (int64_t i = 0; i < h.size; i++) x[i] *= scale;
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
  for_chunks(*a.pool, chunks, [&](int64_t begin, int64_t end, int64_t chunk) {
    T* partial = partials + chunk * h.keys;
    std::fill(partial, partial + h.keys, T(0));
    for (int64_t t = begin; t < end; t++) {
      const T* z_row = z.as<T>() + t * h.columns;
      const T* conv_row = conv.as<T>() + t * h.columns;
      T* dz = a.out[0].as<T>() + t * h.columns;
      T* dx = a.out[1].as<T>() + t * h.columns;
      for (int64_t n = 0; n < h.queries; n++) {
        mix_query(h, z_row, conv_row, n, dx + n * h.size);
        unit_grad(h, dq.as<T>() + (t * h.queries + n) * h.size, T(1), dx + n * h.size);
      }
      for (int64_t k = 0; k < h.keys; k++) {
        T* x = dx + (h.queries + k) * h.size;
        mix_key(h, z_row, conv_row, k, x);
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
    }
  });
  add_chunks(*a.pool, chunks, partials, h.keys, h.keys, dtemp.as<T>());
  for (int64_t k = 0; k < h.keys; k++) dtemp.as<T>()[k] *= h.slope(element<T>(temp, k));
  return {};
}

Status check(const char* name, const Arguments& a, const Tensor& z, const Tensor& temp) {
  const int64_t queries = a.integer(0), keys = temp.size();
  if (keys < 1 || queries < 1 || queries % keys != 0 || z.columns() % (queries + keys) != 0)
    return error("[%s] %lld query heads, %lld key heads and %lld columns do not fit together", name, static_cast<long long>(queries),
                 static_cast<long long>(keys), static_cast<long long>(z.columns()));
  return {};
}

Status cca_qk(const Arguments& a) {
  if (Status status = check("cca_qk", a, a.in[0], a.in[2]); !status.ok()) return status;
  return a.out[0].dtype == DType::float64 ? mix<double>(a) : mix<float>(a);
}
Status cca_qk_grad(const Arguments& a) {
  if (Status status = check("cca_qk_grad", a, a.in[2], a.in[4]); !status.ok()) return status;
  return a.out[0].dtype == DType::float64 ? mix_grad<double>(a) : mix_grad<float>(a);
}
size_t cca_qk_grad_workspace(const Arguments& a) { return partial_bytes<double>(a.in[2].shape[0], a.in[4].size()); }

}  // namespace

ZAYA_OPERATION(cca_qk)
ZAYA_OPERATION_WITH_WORKSPACE(cca_qk_grad)

}  // namespace zaya::ZAYA_ISA
