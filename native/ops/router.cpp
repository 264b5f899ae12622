// router(x [T,D], previous? [T,R], scale? [R], down_w [R,D], down_b [R], norm_w [R], fc1_w [R,R], fc1_b [R], fc2_w [R,R], fc2_b [R],
//        out_w [C,R], balancing [C]){eps} -> r [T,R], index int32 [T], prob [T]
//   r = x · down_wᵀ + down_b (+ previous · scale)
//   p = softmax(out_w · gelu(fc2_w · gelu(fc1_w · rms_norm(r) + fc1_b) + fc2_b))        sums in float32, whatever the weights are stored as
//   index = argmax of p + balancing, prob = p[index]
//   The same numbers, bit for bit, as linear, residual_merge, rms_norm, gelu, softmax and select_expert one after the other.
// A task takes 24 rows from x to the choice, so what lies between stays in the cache; a step of at most 24 rows is one such task whose
// products share their panels out to the threads.
#include "cpu/panel_product.h"
#include "cpu/rows.h"
#include "cpu/vector.h"
#include "ops/gelu.h"
#include "ops/residual_merge.h"
#include "ops/rms_norm.h"
#include "ops/select_expert.h"
#include "ops/softmax.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t block_rows = 2 * tile_height;
constexpr int weights[] = {3, 6, 8, 10};       // down, fc1, fc2, out
constexpr int vectors[] = {4, 5, 7, 9, 11};    // down_b, norm_w, fc1_b, fc2_b, balancing

template <class T> size_t bytes_of(int64_t elements) { return align64(static_cast<size_t>(elements) * sizeof(T)); }

// Packed weights, where they do not lie in panels already.
template <class T> size_t weight_bytes(const Tensor& w) {
  return PanelWeight<T>::in_place(w) ? 0 : align64(static_cast<size_t>(packed_elements(w.shape[0], w.shape[1])) * size_of(PanelWeight<T>::packed(w.dtype)));
}

template <class T> PanelWeight<T> read_weight(Pool& pool, const Tensor& w, uint8_t*& workspace) {
  PanelWeight<T> weight{PanelWeight<T>::packed(w.dtype), w.as<uint8_t>(), w.shape[0], even(w.shape[1])};
  if (PanelWeight<T>::in_place(w)) return weight;
  pack_panels(pool, weight_operand(w, 0), w.shape[0], w.shape[1], weight.dtype, workspace);
  weight.panels = workspace;
  workspace += weight_bytes<T>(w);
  return weight;
}

// Of a task: packed rows of x or of R columns, two blocks of R columns, one of classes.
template <class T> size_t thread_bytes(const Arguments& a) {
  const int64_t columns = a.in[3].shape[1], states = a.in[3].shape[0], classes = a.in[10].shape[0];
  return bytes_of<T>(block_rows * even(std::max(columns, states))) + 2 * bytes_of<T>(block_rows * states) + bytes_of<T>(block_rows * classes);
}

template <class T> size_t route_bytes(const Arguments& a) {
  size_t bytes = branch_bytes<T>({}, {}, a.in[3].shape[0]) + branch_bytes<T>(a.in[2], {}, a.in[3].shape[0]);
  for (int i : weights) bytes += weight_bytes<T>(a.in[i]);
  for (int i : vectors) bytes += vector_bytes<T>(a.in[i]);
  return bytes + static_cast<size_t>(a.pool->threads()) * thread_bytes<T>(a);
}

template <class T> struct Router {
  PanelWeight<T> down, fc1, fc2, out;
  const T *down_bias, *norm, *fc1_bias, *fc2_bias, *balancing;
  Branch<T> projected, previous;
  T eps;
};

// c = f(x · wᵀ + bias) for `rows` rows, or x · wᵀ alone where there is no bias; share(panels, fn) runs fn(first panel, last) over the panels of w.
template <class T, class Share, class F>
void multiply_rows(const T* x, int64_t rows, int64_t k, const PanelWeight<T>& w, const T* bias, T* packed, T* c, const Share& share, F&& f) {
  const T* strips = pack_strips(x, rows, k, packed);
  share(panels_of(w.n), [&](int64_t panel0, int64_t panel1) {
    multiply_strips(strips, tile_height * w.k, rows, w, panel0, panel1, c, w.n, false);
    if (bias == nullptr) return;
    const int64_t begin = panel0 * panel_columns, columns = std::min(w.n, panel1 * panel_columns) - begin;
    for (int64_t i = 0; i < rows; i++) {
      T* row = c + i * w.n + begin;
      map_lanes<T>(row, bias + begin, row, columns, [&](Lanes<T> y, Lanes<T> b) { return f(y + b); });
    }
  });
}

template <class T, class Share>
void route_rows(const Arguments& a, const Router<T>& router, int64_t begin, int64_t rows, uint8_t* scratch, const Share& share) {
  const int64_t columns = a.in[0].columns(), states = router.down.n, classes = router.out.n;
  T* packed = reinterpret_cast<T*>(scratch);
  scratch += bytes_of<T>(block_rows * even(std::max(columns, states)));
  T* first = reinterpret_cast<T*>(scratch);
  T* second = reinterpret_cast<T*>(scratch + bytes_of<T>(block_rows * states));
  T* p = reinterpret_cast<T*>(scratch + 2 * bytes_of<T>(block_rows * states));
  T* r = a.out[0].as<T>() + begin * states;

  const auto identity = [](Lanes<T> v) { return v; };
  multiply_rows(a.in[0].as<T>() + begin * columns, rows, columns, router.down, router.down_bias, packed, r, share, identity);
  for (int64_t i = 0; i < rows; i++) {
    if (a.in[1].present()) merge_row(r + i * states, a.in[1].as<T>() + (begin + i) * states, router.projected, router.previous, states, r + i * states);
    norm_row(r + i * states, router.norm, states, router.eps, first + i * states);
  }
  multiply_rows(first, rows, states, router.fc1, router.fc1_bias, packed, second, share, gelu_lanes<T>);
  multiply_rows(second, rows, states, router.fc2, router.fc2_bias, packed, first, share, gelu_lanes<T>);
  multiply_rows(first, rows, states, router.out, static_cast<const T*>(nullptr), packed, p, share, identity);
  for (int64_t i = 0; i < rows; i++) {
    softmax_row(p + i * classes, classes, p + i * classes);
    const int32_t best = best_class(p + i * classes, router.balancing, classes);
    a.out[1].as<int32_t>()[begin + i] = best;
    a.out[2].as<T>()[begin + i] = p[i * classes + best];
  }
}

template <class T> Status route(const Arguments& a) {
  const int64_t tokens = a.in[0].rows(), states = a.in[3].shape[0];
  uint8_t* workspace = a.workspace;
  Router<T> router;
  PanelWeight<T>* matrix[] = {&router.down, &router.fc1, &router.fc2, &router.out};
  for (int i = 0; i < 4; i++) *matrix[i] = read_weight<T>(*a.pool, a.in[weights[i]], workspace);
  const T** vector[] = {&router.down_bias, &router.norm, &router.fc1_bias, &router.fc2_bias, &router.balancing};
  for (int i = 0; i < 5; i++) *vector[i] = read_vector<T>(a.in[vectors[i]], workspace);
  router.projected = read_branch<T>({}, {}, states, workspace);
  router.previous = read_branch<T>(a.in[2], {}, states, workspace);
  router.eps = static_cast<T>(a.attribute[0]);

  if (tokens <= block_rows) {
    route_rows(a, router, 0, tokens, workspace, [&](int64_t panels, const auto& fn) {
      a.pool->run_streams(panels, [&](int64_t panel0, int64_t panel1, int) { fn(panel0, panel1); });
    });
    return {};
  }
  a.pool->run_ranges(tokens, block_rows, [&](int64_t begin, int64_t end, int thread) {
    route_rows(a, router, begin, end - begin, workspace + static_cast<size_t>(thread) * thread_bytes<T>(a),
               [](int64_t panels, const auto& fn) { fn(int64_t(0), panels); });
  });
  return {};
}

Status router(const Arguments& a) { return a.out[0].dtype == DType::float64 ? route<double>(a) : route<float>(a); }
size_t router_workspace(const Arguments& a) { return a.out[0].dtype == DType::float64 ? route_bytes<double>(a) : route_bytes<float>(a); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(router)

}  // namespace zaya::ZAYA_ISA
