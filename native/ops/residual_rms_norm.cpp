// residual_rms_norm(y [T,D], h? [T,D], y_scale?, y_bias?, h_scale?, h_bias?, weight [D]){eps, form} -> out [T,D], normed [T,D]?, quantised [T,D]?
//   out = residual_merge(y, h, …), normed = rms_norm(out, weight), quantised = quantise(normed): the end of one half-block and the norm that opens the
//   next, as its products want it, in one pass over memory. The same numbers, bit for bit, as the operations one after the other.
//   form: 0 normed, 1 quantised, 2 both.
#include "cpu/quantised.h"
#include "cpu/streaming.h"
#include "ops/residual_merge.h"
#include "ops/rms_norm.h"

namespace zaya::ZAYA_ISA {
namespace {

enum Form { normed = 0, quantised = 1, both = 2 };
Form form_of(const Arguments& a) { return static_cast<Form>(a.integer(1)); }

// A row that is only quantised is normed here, a thread.
template <class T> size_t row_bytes(const Arguments& a) {
  return form_of(a) == Form::quantised ? align64(static_cast<size_t>(a.in[0].columns()) * sizeof(T)) : 0;
}

template <class T> Status merge_norm(const Arguments& a) {
  const Tensor &y = a.in[0], &h = a.in[1];
  const int64_t columns = y.columns();
  const T eps = static_cast<T>(a.attribute[0]);
  const Form form = form_of(a);
  uint8_t* workspace = a.workspace;
  const Branch<T> ys = read_branch<T>(a.in[2], a.in[3], columns, workspace);
  const Branch<T> hs = h.present() ? read_branch<T>(a.in[4], a.in[5], columns, workspace) : Branch<T>{};
  const T* weight = read_vector<T>(a.in[6], workspace);
  const QuantisedRows integers(form == Form::normed ? nullptr : a.out[a.num_out - 1].data, y.rows(), columns);
  const ResultRows<T> merged(*a.pool, a.out[0]), norms(*a.pool, a.out[form == Form::quantised ? 0 : 1]);
  for_rows(*a.pool, y.rows(), columns, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t t = begin; t < end; t++)
      merged.make(t, [&](T* row) {
        merge_row<T>(y.as<T>() + t * columns, h.present() ? h.as<T>() + t * columns : nullptr, ys, hs, columns, row);
        auto make_norm = [&](T* norm) {
          norm_row(row, weight, columns, eps, norm);
          if constexpr (std::is_same_v<T, float>)
            if (form != Form::normed) integers.fill(t, norm, a.pool->apart());
        };
        if (form == Form::quantised) make_norm(reinterpret_cast<T*>(workspace + static_cast<size_t>(thread) * row_bytes<T>(a)));
        else norms.make(t, make_norm);
      });
  });
  return {};
}

template <class T> size_t merge_norm_bytes(const Arguments& a) {
  const int64_t columns = a.in[0].columns();
  return branch_bytes<T>(a.in[2], a.in[3], columns) + branch_bytes<T>(a.in[4], a.in[5], columns) + vector_bytes<T>(a.in[6]) +
         static_cast<size_t>(a.pool->threads()) * row_bytes<T>(a);
}

Status residual_rms_norm(const Arguments& a) { return a.out[0].dtype == DType::float64 ? merge_norm<double>(a) : merge_norm<float>(a); }
size_t residual_rms_norm_workspace(const Arguments& a) {
  return a.out[0].dtype == DType::float64 ? merge_norm_bytes<double>(a) : merge_norm_bytes<float>(a);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(residual_rms_norm)

}  // namespace zaya::ZAYA_ISA
