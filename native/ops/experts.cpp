// experts(x [T,D] or int8 rows, index int32 [T], prob [T], gate_up [E,2F,D], down [E,D,F]){compute} -> y [T,D]
//   y[t] = prob[t] · down[e] (silu(gate[e] x[t]) · (up[e] x[t])), e = index[t];  0 where e = E (skip).
//   A composite: expert_sort, gather_rows, grouped_linear, swiglu, grouped_linear, combine, with their arithmetic and hence their bits (prob finite and ≥ 0).
//   Two lists of tasks over all experts. Where F is a multiple of 32 a task of the first makes columns of gate and of up and activates them while they are
//   in the cache; of quantised panels the second writes results where their token is.
#include "cpu/expert_order.h"
#include "cpu/gemm.h"
#include "cpu/quantised.h"
#include "cpu/swiglu.h"

namespace zaya::ZAYA_ISA {
namespace {

struct Sizes {
  explicit Sizes(const Arguments& a) : tokens(a.in[0].shape[0]), experts(a.in[3].shape[0]), model(a.in[0].shape[1]), inner(a.in[4].shape[2]) {}
  // Whether gate and up can be made together: the rows of up begin with a panel of their own.
  bool together() const { return inner % panel_columns == 0; }
  int64_t tokens, experts, model, inner;
};
static_assert(panel_columns == quantised_rows);

// Takes what a kernel needs from the workspace, piece by piece; without a workspace it only counts.
class Pieces {
 public:
  explicit Pieces(uint8_t* workspace) : next_(workspace) {}
  template <class T> T* take(int64_t count) { return static_cast<T*>(take_bytes(static_cast<size_t>(count) * sizeof(T))); }
  void* take_bytes(size_t bytes) {
    void* piece = next_ == nullptr ? nullptr : next_ + taken_;
    taken_ += align64(bytes);
    return piece;
  }
  size_t taken() const { return taken_; }

 private:
  uint8_t* next_;
  size_t taken_ = 0;
};

struct Order {
  int32_t *order, *offsets, *next;
  Order(Pieces& pieces, const Sizes& s) : order(pieces.take<int32_t>(s.tokens)), offsets(pieces.take<int32_t>(s.experts + 2)), next(pieces.take<int32_t>(s.experts + 1)) {}
};

// What is left when the skipped tokens have got their zeros: those of an expert.
template <class T> Status sort_tokens(const Arguments& a, const Sizes& s, const Order& sorted, int64_t* routed) {
  if (Status status = order_by_expert("experts", a.in[1].as<int32_t>(), s.tokens, s.experts + 1, sorted.order, sorted.offsets, sorted.next); !status.ok())
    return status;
  *routed = sorted.offsets[s.experts];
  for (int64_t i = *routed; i < s.tokens; i++) std::fill_n(a.out[0].as<T>() + sorted.order[i] * s.model, s.model, T(0));
  return {};
}

// inner [rows, F] = silu(gate) · up of gate_up [rows, 2F].
template <class T> void activate(Pool& pool, const T* gate_up, int64_t rows, int64_t columns, T* inner) {
  for_rows(pool, rows, 2 * columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) swiglu_row(gate_up + i * 2 * columns, gate_up + i * 2 * columns + columns, inner + i * columns, columns);
  });
}

// --- float32, bfloat16, float64: rows are sorted by expert, multiplied, and put back.

template <class T> struct FloatPieces {
  Order sorted;
  MatrixProduct* list;
  T *rows, *gate_up, *inner, *out;
  uint8_t* packed;
  size_t packed_bytes;

  FloatPieces(Pieces& pieces, const Arguments& a, const Sizes& s) : sorted(pieces, s), list(pieces.take<MatrixProduct>(s.experts)) {
    const Math math = math_of(a.in[0].dtype, a.flag(0));
    rows = pieces.take<T>(s.tokens * s.model);
    gate_up = s.together() ? nullptr : pieces.take<T>(s.tokens * 2 * s.inner);
    inner = pieces.take<T>(s.tokens * s.inner);
    out = pieces.take<T>(s.tokens * s.model);
    auto wanted = [&](const Tensor& w, int64_t n, int64_t k, int64_t parts) {
      const size_t b = packed_b_bytes(math, weight_operand(w, 0), n, k) * static_cast<size_t>(s.experts);
      return packed_a_bytes(math, s.tokens, k) + 64 * static_cast<size_t>(s.experts) + enough_b_bytes(b, math, k, parts);
    };
    packed_bytes = std::max(wanted(a.in[3], 2 * s.inner, s.model, s.together() ? 2 : 1), wanted(a.in[4], s.model, s.inner, 1));
    packed = static_cast<uint8_t*>(pieces.take_bytes(packed_bytes));
  }

  // y = x · w[e]ᵀ, or the swiglu of that, for the rows of each expert e.
  void multiply_experts(const Arguments& a, const Sizes& s, const Tensor& w, const T* x, T* y, bool swiglu = false) {
    const int64_t n = w.shape[1], k = w.shape[2], columns = swiglu ? n / 2 : n;
    int64_t count = 0;
    for (int64_t e = 0; e < s.experts; e++) {
      const int64_t begin = sorted.offsets[e], end = sorted.offsets[e + 1];
      if (begin == end) continue;
      MatrixProduct p;
      p.a = {x + begin * k, a.in[0].dtype, Layout::rows, k};
      p.b = weight_operand(w, e);
      p.c = y + begin * columns;
      p.c_stride = columns;
      p.m = end - begin, p.n = n, p.k = k;
      p.swiglu = swiglu;
      list[count++] = p;
    }
    multiply(*a.pool, math_of(a.in[0].dtype, a.flag(0)), list, count, packed, packed_bytes);
  }
};

template <class T> Status float_experts(const Arguments& a) {
  const Sizes s(a);
  Pieces pieces(a.workspace);
  FloatPieces<T> p(pieces, a, s);
  int64_t routed = 0;
  if (Status status = sort_tokens<T>(a, s, p.sorted, &routed); !status.ok()) return status;
  const int32_t* order = p.sorted.order;
  for_rows(*a.pool, routed, s.model, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) std::copy_n(a.in[0].as<T>() + order[i] * s.model, s.model, p.rows + i * s.model);
  });
  p.multiply_experts(a, s, a.in[3], p.rows, s.together() ? p.inner : p.gate_up, s.together());
  if (!s.together()) activate(*a.pool, p.gate_up, routed, s.inner, p.inner);
  p.multiply_experts(a, s, a.in[4], p.inner, p.out);
  for_rows(*a.pool, routed, s.model, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const T weight = a.in[2].as<T>()[order[i]];
      map_lanes<T>(p.out + i * s.model, a.out[0].as<T>() + order[i] * s.model, s.model, [&](Lanes<T> y) { return weight * y; });
    }
  });
  return {};
}

// --- Quantised panels.

struct QuantisedPieces {
  Order sorted;
  QuantisedProduct* list;
  float *inner, *gate_up;
  void *x, *h;

  QuantisedPieces(Pieces& pieces, const Sizes& s) : sorted(pieces, s), list(pieces.take<QuantisedProduct>(s.experts)) {
    inner = pieces.take<float>(s.tokens * s.inner);
    gate_up = s.together() ? nullptr : pieces.take<float>(s.tokens * 2 * s.inner);
    x = pieces.take_bytes(QuantisedRows::bytes(s.tokens, s.model));
    h = pieces.take_bytes(QuantisedRows::bytes(s.tokens, s.inner));
  }
};

Status quantised_experts(const Arguments& a) {
  const Sizes s(a);
  Pieces pieces(a.workspace);
  QuantisedPieces p(pieces, s);
  int64_t routed = 0;
  if (Status status = sort_tokens<float>(a, s, p.sorted, &routed); !status.ok()) return status;
  const int32_t* order = p.sorted.order;
  const QuantisedRows x = quantise_rows(*a.pool, a.in[0], 0, routed, p.x, order);
  int64_t count = list_experts(a.in[3], p.sorted.offsets, p.list);
  if (s.together()) {
    const int64_t inner_panels = s.inner / quantised_rows;
    for (int64_t i = 0; i < count; i++) p.list[i].panels = inner_panels;
    for_runs(*a.pool, p.list, count, [&](const QuantisedPiece& piece, int64_t panel, int64_t end, int thread) {
      auto& [gate, up, block] = QuantisedScratch::of(*a.pool, thread);
      const QuantisedWeight& w = piece.product->w;
      const int64_t first = piece.product->first + piece.begin(), rows = piece.rows(), together = tile_elements / (rows * quantised_rows);
      fetch_panel(w, panel, rows);
      // As many panels of gate as the tile holds and those of up, one after the other or side by side, so that the memory is read in long streams.
      while (panel < end) {
        const int64_t stop = std::min(end, panel + together);
        multiply_panels(x, piece, w, panel, stop, stop < inner_panels ? w.panel(stop) : nullptr, gate, block, inner_panels, up);
        for (int64_t i = 0; panel < stop; panel++)
          for (int64_t row = first; row < first + rows; row++, i += quantised_rows)
            swiglu_row(gate + i, up + i, p.inner + row * s.inner + panel * quantised_rows, quantised_rows);
      }
    });
  } else {
    for (int64_t i = 0; i < count; i++) p.list[i].c = p.gate_up + p.list[i].first * 2 * s.inner, p.list[i].c_stride = 2 * s.inner;
    multiply(*a.pool, x, p.list, count);
    activate(*a.pool, p.gate_up, routed, s.inner, p.inner);
  }

  count = list_experts(a.in[4], p.sorted.offsets, p.list);
  const QuantisedRows h = quantise_rows(*a.pool, Tensor{p.inner, DType::float32, Encoding::plain, 2, {routed, s.inner}}, 0, routed, p.h);
  for (int64_t i = 0; i < count; i++) {
    QuantisedProduct& product = p.list[i];
    product.c = a.out[0].as<float>(), product.c_stride = s.model;
    product.index = order + product.first, product.factor = a.in[2].as<float>();
  }
  multiply(*a.pool, h, p.list, count);
  return {};
}

size_t experts_workspace(const Arguments& a) {
  const Sizes s(a);
  Pieces pieces(nullptr);
  if (is_quantised(a.in[3])) QuantisedPieces(pieces, s);
  else if (a.in[0].dtype == DType::float64) FloatPieces<double>(pieces, a, s);
  else FloatPieces<float>(pieces, a, s);
  return pieces.taken();
}

Status experts(const Arguments& a) {
  if (is_quantised(a.in[3]) != is_quantised(a.in[4])) return error("[experts] expected gate_up and down to be both in quantised panels, or neither");
  if (is_quantised(a.in[3])) return quantised_experts(a);
  return a.in[0].dtype == DType::float64 ? float_experts<double>(a) : float_experts<float>(a);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(experts)

}  // namespace zaya::ZAYA_ISA
