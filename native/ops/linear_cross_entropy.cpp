// linear_cross_entropy(h [T,D], w [V,D], bias? [V], labels int32 [T]){compute} -> loss [T], lse [T]
//   x = h wᵀ + bias;  lse[t] = log Σ_v exp(x[t,v]);  loss[t] = lse[t] − x[t, labels[t]], 0 where the label is −1
//   with w in quantised panels the product is that of 8-bit integers (cpu/quantised.h)
// linear_cross_entropy_grad(dloss [T], h, w, bias?, labels, lse){compute} -> dh [T,D], dw [V,D], dbias? [V]
//   dx[t,v] = (exp(x[t,v] − lse[t]) − [v = labels[t]]) · dloss[t], 0 where the label is −1;  dh = dx w,  dw = dxᵀ h,  dbias = Σ_t dx
// linear_cross_entropy_sum(h, w, bias?, labels){compute} -> loss_sum [1], dh [T,D], dw [V,D], dbias? [V]
//   loss_sum = Σ_t loss[t] with its gradient in one pass: a chunk's logits become, in place, dx[t,v] = exp(x − max) / Σ_v exp(x − max) − [v = labels[t]]
//
// The logits are made for a chunk of rows at a time, 16 MB of them or 256 rows, and made again by linear_cross_entropy_grad. A row's sum
// runs in 16 lanes over v; dw and dbias add up over t in order, across the chunks. Products as told in cpu/gemm.h; where they round to
// bfloat16, dx is kept in it, and for twice as many rows: dw, which is as large as w, is added to for all of them at once.
#include <algorithm>
#include <limits>

#include "cpu/attention_tile.h"
#include "cpu/gemm.h"
#include "cpu/quantised.h"
#include "cpu/streaming.h"
#include "ops/sum.h"

namespace zaya::ZAYA_ISA {
namespace {

// A chunk of logits and the gradient that is kept; but so many rows at least, since every chunk reads w and every kept part adds to dw.
constexpr int64_t chunk_elements = 4 << 20, least_chunk_rows = 256;
constexpr int64_t kept_elements = 8 << 20, least_kept_rows = 512;
// Weights up to this size are packed once a call, larger ones piece by piece in every chunk.
constexpr size_t pack_once_bytes = size_t(64) << 20;

int64_t most_rows(int64_t elements, int64_t least, int64_t vocabulary) { return std::max(least, elements / std::max<int64_t>(1, vocabulary)); }
int64_t chunk_rows(int64_t rows, int64_t vocabulary) { return std::min(rows, most_rows(chunk_elements, least_chunk_rows, vocabulary)); }

// Bytes for a copy of B in panels, or 0 where it is read in place or packed piece by piece.
size_t packed_once(Math math, const Operand& b, int64_t n, int64_t k) {
  if (packed_b_bytes(math, b, n, k) == 0) return 0;
  const size_t bytes = align64(static_cast<size_t>(packed_elements(n, k)) * size_of(packed_dtype(math, b.dtype)));
  return bytes <= pack_once_bytes ? bytes : 0;
}

Operand pack_once(Pool& pool, Math math, const Operand& b, int64_t n, int64_t k, uint8_t*& workspace) {
  const size_t bytes = packed_once(math, b, n, k);
  if (bytes == 0) return b;
  const DType dtype = packed_dtype(math, b.dtype);
  pack_panels(pool, b, n, k, dtype, workspace);
  const Operand packed{workspace, dtype, Layout::panels, k};
  workspace += bytes;
  return packed;
}

size_t product_bytes(Math math, const Operand& b, int64_t m, int64_t n, int64_t k) {
  return align64(packed_a_bytes(math, m, k)) + align64(enough_b_bytes(packed_b_bytes(math, b, n, k), math, k));
}

Status check_labels(const char* name, const Tensor& labels, int64_t vocabulary) {
  const int32_t* label = labels.as<int32_t>();
  for (int64_t t = 0; t < labels.size(); t++)
    if (label[t] < -1 || label[t] >= vocabulary)
      return error("[%s] expected labels from −1 to %lld, received %d at row %lld", name, static_cast<long long>(vocabulary - 1), label[t],
                   static_cast<long long>(t));
  return {};
}

template <class T> T largest_of(const T* x, int64_t n) {
  Lanes<T> most = splat<T>(-std::numeric_limits<T>::infinity());
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) most = larger(load<T>(x + i), most);
  T largest = -std::numeric_limits<T>::infinity();
  for (int j = 0; j < lanes; j++) largest = std::max(largest, static_cast<T>(most[j]));
  for (int64_t j = i; j < n; j++) largest = std::max(largest, x[j]);
  return largest;
}

// Σ exp(x − largest) in 16 lanes; `keep` is given each lot of 16 (the last one padded with zeros) and where it begins.
template <class T, class F> T sum_exponentials(const T* x, int64_t n, T largest, F&& keep) {
  Lanes<T> total = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Lanes<T> e = softmax_exponential<T>(load<T>(x + i) - largest);
    keep(i, e);
    total += e;
  }
  if (i < n) {
    const Lanes<T> e = softmax_exponential<T>(load_first<T>(x + i, n - i, -std::numeric_limits<T>::infinity()) - largest);
    keep(i, e);
    total += e;
  }
  return sum<T>(total);
}

template <class T> T log_sum_exp(const T* x, int64_t n) {
  const T largest = largest_of(x, n);
  if (largest == -std::numeric_limits<T>::infinity()) return largest;
  return largest + std::log(sum_exponentials(x, n, largest, [](int64_t, Lanes<T>) {}));
}

// The logits of rows [row, row + rows) into `logits`, `stride` elements from row to row.
void make_logits(const Arguments& a, Math math, const Tensor& h, const Operand& w, const Tensor& bias, int64_t vocabulary, int64_t row, int64_t rows,
                 void* logits, int64_t stride, uint8_t* workspace) {
  MatrixProduct p;
  p.a = row_operand(h, row);
  p.b = w;
  p.c = logits;
  p.c_stride = stride;
  p.m = rows, p.n = vocabulary, p.k = h.columns();
  p.bias = bias.present() ? bias.data : nullptr;
  multiply(*a.pool, math, &p, 1, workspace, product_bytes(math, w, rows, vocabulary, h.columns()));
}

template <class T> size_t logits_bytes(const Arguments& a) {
  const int64_t V = a.in[1].shape[0];
  return align64(static_cast<size_t>(chunk_rows(a.in[0].rows(), V) * V) * sizeof(T));
}

// make(row, rows, logits) makes the logits of some rows, one row after the other.
template <class T, class F> Status sum_logits(const Arguments& a, F&& make) {
  const Tensor& labels = a.in[3];
  const int64_t V = a.in[1].shape[0], T_rows = a.in[0].rows(), step = std::max<int64_t>(1, chunk_rows(T_rows, V));
  if (Status status = check_labels("linear_cross_entropy", labels, V); !status.ok()) return status;
  T *logits = reinterpret_cast<T*>(a.workspace), *loss = a.out[0].as<T>(), *lse = a.out[1].as<T>();
  const int32_t* label = labels.as<int32_t>();
  for (int64_t row = 0; row < T_rows; row += step) {
    const int64_t rows = std::min(step, T_rows - row);
    make(row, rows, logits);
    a.pool->run(rows, [&](int64_t r, int) {
      const T* x = logits + r * V;
      lse[row + r] = log_sum_exp<T>(x, V);
      loss[row + r] = label[row + r] < 0 ? 0 : lse[row + r] - x[label[row + r]];
    });
  }
  return {};
}

template <class T> size_t forward_bytes(const Arguments& a) {
  const Tensor &h = a.in[0], &w = a.in[1];
  const Math math = math_of(h.dtype, a.flag(0));
  const int64_t V = w.shape[0], D = w.shape[1];
  const Operand b = weight_operand(w, 0);
  return logits_bytes<T>(a) + packed_once(math, b, V, D) + product_bytes(math, b, chunk_rows(h.rows(), V), V, D);
}

template <class T> Status forward(const Arguments& a) {
  const Tensor &h = a.in[0], &w = a.in[1], &bias = a.in[2];
  const Math math = math_of(h.dtype, a.flag(0));
  const int64_t V = w.shape[0];
  uint8_t* workspace = a.workspace + logits_bytes<T>(a);
  const Operand b = pack_once(*a.pool, math, weight_operand(w, 0), V, w.shape[1], workspace);
  return sum_logits<T>(a, [&](int64_t row, int64_t rows, T* logits) { make_logits(a, math, h, b, bias, V, row, rows, logits, V, workspace); });
}

size_t quantised_bytes(const Arguments& a) {
  return logits_bytes<float>(a) + QuantisedRows::bytes(chunk_rows(a.in[0].rows(), a.in[1].shape[0]), a.in[1].shape[1]);
}

Status quantised_forward(const Arguments& a) {
  const Tensor& bias = a.in[2];
  QuantisedProduct p;
  p.w = quantised_weight(a.in[1], 0);
  p.panels = quantised_panels(p.w.n);
  p.c_stride = p.w.n;
  p.bias = bias.present() ? bias.as<float>() : nullptr;
  return sum_logits<float>(a, [&](int64_t row, int64_t rows, float* logits) {
    p.m = rows;
    p.c = logits;
    multiply(*a.pool, quantise_rows(*a.pool, a.in[0], row, rows, a.workspace + logits_bytes<float>(a)), &p, 1);
  });
}

// Logits with their gradient in their place, and what turns the gradient into those of h, w and bias, a chunk of rows at a time.
template <class T> class Gradient {
 public:
  Gradient(const Arguments& a, const Tensor& h, const Tensor& w, const Tensor& bias, const Tensor* out)
      : a_(a), math_(math_of(h.dtype, a.flag(0))), h_(h), w_(w), bias_(bias), dh_(out[0]), dw_(out[1]), dbias_(bias.present() ? out[2].as<T>() : nullptr) {}

  int64_t rows() const { return h_.rows(); }
  int64_t vocabulary() const { return w_.shape[0]; }

  size_t bytes() const {
    const int64_t V = vocabulary(), D = w_.shape[1], m = chunk(), kept = kept_rows();
    const Operand b = weight_operand(w_, 0), bt = weight_operand_transposed(w_, 0), x = column_operand(h_);
    const size_t products = std::max({product_bytes(math_, b, m, V, D), product_bytes(math_, bt, m, D, V), product_bytes(math_, x, classes_each(), D, kept)});
    return logits_bytes() + kept_bytes() + packed_once(math_, b, V, D) + packed_once(math_, bt, D, V) + products;
  }

  // turn(t, x) replaces the logits x of row t by dx and is called for all rows, on any thread.
  template <class F> void run(F&& turn) {
    const int64_t V = vocabulary(), D = w_.shape[1], step = std::max<int64_t>(1, chunk()), many = std::max<int64_t>(1, kept_rows()), stride = stride_of(sizeof(T));
    uint8_t* workspace = a_.workspace;
    T* x = reinterpret_cast<T*>(workspace);
    workspace += logits_bytes();
    auto* kept = reinterpret_cast<bfloat16*>(workspace);
    workspace += kept_bytes();
    const int64_t kept_stride = stride_of(sizeof(bfloat16));
    const Operand b = pack_once(*a_.pool, math_, weight_operand(w_, 0), V, D, workspace);
    const Operand bt = pack_once(*a_.pool, math_, weight_operand_transposed(w_, 0), D, V, workspace);
    if (rows() == 0) std::memset(dw_.data, 0, static_cast<size_t>(V * D) * sizeof(T));
    if (dbias_ != nullptr) std::fill(dbias_, dbias_ + V, T(0));
    for (int64_t first = 0; first < rows(); first += many) {
      const int64_t end = std::min(rows(), first + many);
      for (int64_t row = first; row < end; row += step) {
        const int64_t count = std::min(step, end - row);
        make_logits(a_, math_, h_, b, bias_, V, row, count, x, stride, workspace);
        a_.pool->run(count, [&](int64_t r, int) {
          turn(row + r, x + r * stride);
          if constexpr (sizeof(T) == 4)
            if (narrow()) narrow_row(x + r * stride, V, kept + (row - first + r) * kept_stride);
        });
        if (dbias_ != nullptr)
          a_.pool->run_ranges(V, 1024, [&](int64_t begin, int64_t last, int) {
            for (int64_t r = 0; r < count; r++)
              for (int64_t v = begin; v < last; v++) dbias_[v] += x[r * stride + v];
          });
        MatrixProduct p;
        p.a = narrow() ? Operand{kept + (row - first) * kept_stride, DType::bfloat16, Layout::rows, kept_stride} : Operand{x, h_.dtype, Layout::rows, stride};
        p.b = bt;
        p.c = dh_.as<T>() + row * D;
        p.c_stride = D;
        p.m = count, p.n = D, p.k = V;
        multiply(*a_.pool, math_, &p, 1, workspace, product_bytes(math_, bt, count, D, V));
      }
      const Operand dx = narrow() ? Operand{kept, DType::bfloat16, Layout::columns, kept_stride} : Operand{x, h_.dtype, Layout::columns, stride};
      for (int64_t v = 0; v < V; v += classes_each()) {
        MatrixProduct q;
        q.a = dx;
        q.a.data = static_cast<const uint8_t*>(dx.data) + static_cast<size_t>(v) * size_of(dx.dtype);
        q.b = column_operand(h_, first);
        q.c = dw_.as<T>() + v * D;
        q.c_stride = D;
        q.m = std::min(classes_each(), V - v), q.n = D, q.k = end - first;
        q.accumulate = first > 0;
        multiply(*a_.pool, math_, &q, 1, workspace, product_bytes(math_, q.b, q.m, D, q.k));
      }
    }
  }

 private:
  bool narrow() const { return math_ == Math::bfloat16; }
  int64_t chunk() const { return chunk_rows(rows(), vocabulary()); }
  // Rows whose gradient is kept.
  int64_t kept_rows() const { return narrow() ? std::min(rows(), most_rows(kept_elements, least_kept_rows, vocabulary())) : chunk(); }
  // Classes whose weights get their gradient at a time; the same for any number of rows, so that the workspace only grows with it.
  int64_t classes_each() const {
    const int64_t most = narrow() ? most_rows(kept_elements, least_kept_rows, vocabulary()) : most_rows(chunk_elements, least_chunk_rows, vocabulary());
    return std::min(vocabulary(), packed_rows(math_, most));
  }
  // From row to row, of elements of this size: an odd number of cache lines, so that rows of a tile do not fall into one set of the cache.
  int64_t stride_of(size_t size) const {
    const auto line = static_cast<int64_t>(64 / size);
    return (vocabulary() + 2 * line - 1) / (2 * line) * 2 * line + line;
  }
  size_t logits_bytes() const { return align64(static_cast<size_t>(chunk() * stride_of(sizeof(T))) * sizeof(T)); }
  size_t kept_bytes() const { return narrow() ? align64(static_cast<size_t>(kept_rows() * stride_of(sizeof(bfloat16))) * sizeof(bfloat16)) : 0; }

  // Past the caches: it is read when many more have been made. What is behind the row may be overwritten up to a line.
  static void narrow_row(const T* x, int64_t n, bfloat16* to) {
    for (int64_t v = 0; v < n; v += 2 * lanes) {
      alignas(64) bfloat16 line[2 * lanes];
      round_lanes(load(x + v), line);
      round_lanes(load(x + v + lanes), line + lanes);
      copy_bytes(to + v, line, sizeof line, true);
    }
  }

  const Arguments& a_;
  Math math_;
  const Tensor &h_, &w_, &bias_, &dh_, &dw_;
  T* dbias_;
};

template <class T> Status backward(const Arguments& a) {
  const Tensor& labels = a.in[4];
  Gradient<T> gradient(a, a.in[1], a.in[2], a.in[3], a.out);
  const int64_t V = gradient.vocabulary();
  if (Status status = check_labels("linear_cross_entropy_grad", labels, V); !status.ok()) return status;
  const T *dloss = a.in[0].as<T>(), *lse = a.in[5].as<T>();
  const int32_t* label = labels.as<int32_t>();
  gradient.run([&](int64_t t, T* x) {
    const T scale = label[t] < 0 ? 0 : dloss[t];
    if (scale == 0) return void(std::fill(x, x + V, T(0)));
    map_lanes<T>(x, x, V, [&](Lanes<T> v) { return exponential(v - lse[t]) * scale; });
    x[label[t]] -= scale;
  });
  return {};
}

template <class T> Status forward_and_backward(const Arguments& a) {
  const Tensor& labels = a.in[3];
  Gradient<T> gradient(a, a.in[0], a.in[1], a.in[2], a.out + 1);
  const int64_t V = gradient.vocabulary(), rows = gradient.rows();
  if (Status status = check_labels("linear_cross_entropy_sum", labels, V); !status.ok()) return status;
  const int32_t* label = labels.as<int32_t>();
  T* loss = reinterpret_cast<T*>(a.workspace + gradient.bytes());
  gradient.run([&](int64_t t, T* x) {
    loss[t] = 0;
    if (label[t] < 0) return void(std::fill(x, x + V, T(0)));
    const T largest = largest_of(x, V), own = x[label[t]];
    const T total = sum_exponentials(x, V, largest, [&](int64_t v, Lanes<T> e) {
      if (v + lanes <= V) store<T>(x + v, e);
      else store_first<T>(x + v, e, V - v);
    });
    loss[t] = largest + std::log(total) - own;
    const T share = T(1) / total;
    map_lanes<T>(x, x, V, [&](Lanes<T> e) { return e * share; });
    x[label[t]] -= T(1);
  });
  a.out[0].as<T>()[0] = sum_in_runs<T>(rows, [&](int64_t t) { return loss[t]; });
  return {};
}

size_t linear_cross_entropy_grad_workspace(const Arguments& a) {
  return a.in[1].dtype == DType::float64 ? Gradient<double>(a, a.in[1], a.in[2], a.in[3], a.out).bytes()
                                         : Gradient<float>(a, a.in[1], a.in[2], a.in[3], a.out).bytes();
}

size_t linear_cross_entropy_sum_workspace(const Arguments& a) {
  const size_t bytes = a.in[0].dtype == DType::float64 ? Gradient<double>(a, a.in[0], a.in[1], a.in[2], a.out + 1).bytes()
                                                       : Gradient<float>(a, a.in[0], a.in[1], a.in[2], a.out + 1).bytes();
  return bytes + align64(static_cast<size_t>(a.in[0].rows()) * size_of(a.in[0].dtype));
}

size_t linear_cross_entropy_workspace(const Arguments& a) {
  if (is_quantised(a.in[1])) return quantised_bytes(a);
  return a.in[0].dtype == DType::float64 ? forward_bytes<double>(a) : forward_bytes<float>(a);
}
Status linear_cross_entropy(const Arguments& a) {
  if (is_quantised(a.in[1])) return quantised_forward(a);
  return a.in[0].dtype == DType::float64 ? forward<double>(a) : forward<float>(a);
}
Status linear_cross_entropy_grad(const Arguments& a) { return a.in[1].dtype == DType::float64 ? backward<double>(a) : backward<float>(a); }
Status linear_cross_entropy_sum(const Arguments& a) {
  return a.in[0].dtype == DType::float64 ? forward_and_backward<double>(a) : forward_and_backward<float>(a);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(linear_cross_entropy)
ZAYA_OPERATION_WITH_WORKSPACE(linear_cross_entropy_grad)
ZAYA_OPERATION_WITH_WORKSPACE(linear_cross_entropy_sum)

}  // namespace zaya::ZAYA_ISA
