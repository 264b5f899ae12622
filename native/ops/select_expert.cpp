// select_expert(p [T,C], bias [C]) -> index int32 [T], prob [T]
//   index[t] = argmax over c of p[t,c] + bias[c]; of equal values the lowest c. prob[t] = p[t, index[t]], without the bias.
//   The sum is taken in the type of p, float32. A NaN never wins; a row of NaN selects 0.
// select_expert_grad(dprob [T], index [T], p [T,C]) -> dp [T,C]: dprob[t] at index[t], 0 elsewhere. p gives the shape only; the bias
//   has no gradient (it is balanced by balance_grad).
#include "cpu/rows.h"
#include "cpu/vector.h"
#include "ops/select_expert.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status select(const Arguments& a) {
  const Tensor& p = a.in[0];
  const int64_t classes = p.columns();
  uint8_t* workspace = a.workspace;
  const T* bias = read_vector<T>(a.in[1], workspace);
  for_rows(*a.pool, p.rows(), classes, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const T* row = p.as<T>() + t * classes;
      const int32_t best = best_class(row, bias, classes);
      a.out[0].as<int32_t>()[t] = best;
      a.out[1].as<T>()[t] = row[best];
    }
  });
  return {};
}

template <class T> Status select_grad(const Arguments& a) {
  const Tensor& dp = a.out[0];
  const int64_t classes = dp.columns(), tokens = dp.rows();
  const int32_t* index = a.in[1].as<int32_t>();
  for (int64_t t = 0; t < tokens; t++)
    if (index[t] < 0 || index[t] >= classes)
      return error("[select_expert_grad] expected an index from 0 to %lld, received %d", static_cast<long long>(classes - 1), index[t]);
  for_rows(*a.pool, tokens, classes, [&](int64_t begin, int64_t end, int) {
    T* rows = dp.as<T>();
    std::fill(rows + begin * classes, rows + end * classes, T(0));
    for (int64_t t = begin; t < end; t++) rows[t * classes + index[t]] = a.in[0].as<T>()[t];
  });
  return {};
}

Status select_expert(const Arguments& a) { return a.in[0].dtype == DType::float64 ? select<double>(a) : select<float>(a); }
size_t select_expert_workspace(const Arguments& a) {
  return a.in[0].dtype == DType::float64 ? vector_bytes<double>(a.in[1]) : vector_bytes<float>(a.in[1]);
}
Status select_expert_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? select_grad<double>(a) : select_grad<float>(a); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(select_expert)
ZAYA_OPERATION(select_expert_grad)

}  // namespace zaya::ZAYA_ISA
