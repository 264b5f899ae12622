// combine(y_sorted [T,D], order int32 [T], prob [T]) -> y [T,D]: y[order[i]] = prob[order[i]] · y_sorted[i].
//   The rows of skipped tokens are 0 in y_sorted (grouped_linear writes them so), hence exactly 0 in y.
// combine_grad(dy [T,D], y_sorted, order, prob) -> dy_sorted [T,D], dprob [T]
//   dy_sorted[i] = prob[order[i]] · dy[order[i]], dprob[order[i]] = Σ dy[order[i]] · y_sorted[i] (16 lanes)
// order must be a permutation of 0..T−1 (expert_sort makes one); an entry outside that range, or a second of its kind, is an error.
#include "cpu/rows.h"
#include "cpu/streaming.h"

namespace zaya::ZAYA_ISA {
namespace {

Status check_order(const char* name, const Tensor& order, uint8_t* seen) {
  const int32_t* t = order.as<int32_t>();
  std::memset(seen, 0, static_cast<size_t>(order.size()));
  for (int64_t i = 0; i < order.size(); i++)
    if (t[i] < 0 || t[i] >= order.size() || seen[t[i]]++ > 0)
      return error("[%s] expected order to be a permutation of %lld rows, received %d at index %lld", name, static_cast<long long>(order.size()), t[i],
                   static_cast<long long>(i));
  return {};
}

template <class T> Status unsort(const Arguments& a) {
  const Tensor &sorted = a.in[0], &order = a.in[1], &prob = a.in[2];
  const int64_t columns = sorted.columns();
  const ResultRows<T> rows(*a.pool, a.out[0]);
  for_rows(*a.pool, order.size(), columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t t = order.as<int32_t>()[i];
      const T weight = prob.as<T>()[t];
      const T* x = sorted.as<T>() + i * columns;
      rows.make(t, [&](T* y) {
#pragma GCC ivdep
        for (int64_t c = 0; c < columns; c++) y[c] = weight * x[c];
      });
    }
  });
  return {};
}

template <class T> Status unsort_grad(const Arguments& a) {
  const Tensor &dy = a.in[0], &sorted = a.in[1], &order = a.in[2], &prob = a.in[3];
  const int64_t columns = sorted.columns();
  const ResultRows<T> rows(*a.pool, a.out[0]);
  for_rows(*a.pool, order.size(), columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t t = order.as<int32_t>()[i];
      const T weight = prob.as<T>()[t];
      const T* g = dy.as<T>() + t * columns;
      const T* x = sorted.as<T>() + i * columns;
      a.out[1].as<T>()[t] = sum_of<T>(columns, [&](int64_t c) { return g[c] * x[c]; });
      rows.make(i, [&](T* d) {
#pragma GCC ivdep
        for (int64_t c = 0; c < columns; c++) d[c] = weight * g[c];
      });
    }
  });
  return {};
}

Status combine(const Arguments& a) {
  if (Status status = check_order("combine", a.in[1], a.workspace); !status.ok()) return status;
  return a.out[0].dtype == DType::float64 ? unsort<double>(a) : unsort<float>(a);
}
Status combine_grad(const Arguments& a) {
  if (Status status = check_order("combine_grad", a.in[2], a.workspace); !status.ok()) return status;
  return a.out[0].dtype == DType::float64 ? unsort_grad<double>(a) : unsort_grad<float>(a);
}

size_t combine_workspace(const Arguments& a) { return align64(static_cast<size_t>(a.in[1].size())); }
size_t combine_grad_workspace(const Arguments& a) { return align64(static_cast<size_t>(a.in[2].size())); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(combine)
ZAYA_OPERATION_WITH_WORKSPACE(combine_grad)

}  // namespace zaya::ZAYA_ISA
