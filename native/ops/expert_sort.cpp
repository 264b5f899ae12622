// expert_sort(index int32 [T]){num_experts = E, wide} -> order int32 [T], offsets int32 [E+2], counts [E+1]
//   Class E is "skip". A stable counting sort: order holds the tokens of expert 0, then of expert 1, …, last the skipped ones, each in
//   the order they came; expert e owns order[offsets[e]] .. order[offsets[e+1]], the skipped tokens start at offsets[E], and
//   offsets[E+1] = T. counts[e] is the number of tokens of class e, as float64 when wide, else float32.
// An index outside [0, E] is an error.
#include "core/operation.h"

namespace zaya::ZAYA_ISA {
namespace {

Status expert_sort(const Arguments& a) {
  const Tensor& index = a.in[0];
  const int64_t tokens = index.size(), classes = a.integer(0) + 1;
  const int32_t* e = index.as<int32_t>();
  int32_t* order = a.out[0].as<int32_t>();
  int32_t* offsets = a.out[1].as<int32_t>();
  int32_t* next = reinterpret_cast<int32_t*>(a.workspace);
  std::memset(offsets, 0, static_cast<size_t>(classes + 1) * sizeof(int32_t));
  for (int64_t t = 0; t < tokens; t++) {
    if (e[t] < 0 || e[t] >= classes)
      return error("[expert_sort] expected an expert from 0 to %lld, received %d at token %lld", static_cast<long long>(classes - 1), e[t],
                   static_cast<long long>(t));
    offsets[e[t] + 1]++;
  }
  for (int64_t c = 0; c < classes; c++) {
    if (a.out[2].dtype == DType::float64) a.out[2].as<double>()[c] = offsets[c + 1];
    else a.out[2].as<float>()[c] = static_cast<float>(offsets[c + 1]);
    offsets[c + 1] += offsets[c];
    next[c] = offsets[c];
  }
  for (int64_t t = 0; t < tokens; t++) order[next[e[t]]++] = static_cast<int32_t>(t);
  return {};
}
size_t expert_sort_workspace(const Arguments& a) { return align64(static_cast<size_t>(a.integer(0) + 1) * sizeof(int32_t)); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(expert_sort)

}  // namespace zaya::ZAYA_ISA
