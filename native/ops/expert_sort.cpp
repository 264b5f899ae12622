// expert_sort(index int32 [T]){num_experts = E, wide} -> order int32 [T], offsets int32 [E+2], counts [E+1]
//   Class E is "skip". A stable counting sort: order holds the tokens of expert 0, then of expert 1, …, last the skipped ones, each in
//   the order they came; expert e owns order[offsets[e]] .. order[offsets[e+1]], the skipped tokens start at offsets[E], and
//   offsets[E+1] = T. counts[e] is the number of tokens of class e, as float64 when wide, else float32.
// An index outside [0, E] is an error.
#include "cpu/expert_order.h"

namespace zaya::ZAYA_ISA {
namespace {

Status expert_sort(const Arguments& a) {
  const Tensor& index = a.in[0];
  const int64_t classes = a.integer(0) + 1;
  int32_t* offsets = a.out[1].as<int32_t>();
  int32_t* next = reinterpret_cast<int32_t*>(a.workspace);
  if (Status status = order_by_expert("expert_sort", index.as<int32_t>(), index.size(), classes, a.out[0].as<int32_t>(), offsets, next); !status.ok())
    return status;
  for (int64_t c = 0; c < classes; c++) {
    const int32_t count = offsets[c + 1] - offsets[c];
    if (a.out[2].dtype == DType::float64) a.out[2].as<double>()[c] = count;
    else a.out[2].as<float>()[c] = static_cast<float>(count);
  }
  return {};
}
size_t expert_sort_workspace(const Arguments& a) { return align64(static_cast<size_t>(a.integer(0) + 1) * sizeof(int32_t)); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(expert_sort)

}  // namespace zaya::ZAYA_ISA
