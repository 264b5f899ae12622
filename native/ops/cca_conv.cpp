// cca_conv(z [T,C], depthwise_w [C,1,2], depthwise_b [C], grouped_w [C,H,2], grouped_b [C], cu_seqlens [S+1],
//          state? [slots,2,C], slots? [S], cached? [S]) -> [T,C];  C/H groups of H channels
//   y[t,c]   = depthwise_w[c,0] · z[t−1,c] + depthwise_w[c,1] · z[t,c] + depthwise_b[c]
//   out[t,c] = grouped_b[c] + Σ_h grouped_w[c,h,0] · y[t−1, h] + grouped_w[c,h,1] · y[t, h]     (h over the channels of c's group)
//   Each sequence starts from z[−1] = z[−2] = 0, hence y[−1] = depthwise_b; or, where cached[s] > 0, from the two rows of its slot
//   (oldest first). There is no activation between the two convolutions.
// cca_conv_grad(dout [T,C], z, depthwise_w, depthwise_b, grouped_w, cu_seqlens) (without state)
//   -> dz [T,C], d_depthwise_w [C,1,2], d_depthwise_b [C], d_grouped_w [C,H,2], d_grouped_b [C]
//
// The grouped convolution is a small matrix product a group: row t of A holds y[t−1] beside y[t], 2H wide. y is computed again in the
// gradient. Gradient of the pairs: dA = dout · W; dy[t] = dA[t](second half) + dA[t+1](first half), dz[t] = w1 · dy[t] + w0 · dy[t+1];
// at a sequence's first row the first half of dA belongs to y[−1] and reaches depthwise_b alone.
// Accumulation: out starts from the bias and takes y[t−1] in the order of h, then y[t]; weight gradients take the rows of a chunk in
// order, then the chunks.
#include "cpu/attention_tile.h"
#include "cpu/gemm_pack.h"
#include "cpu/ragged.h"
#include "cpu/rows.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t block_rows = 94;   // rows of pairs at a time: they stay in the second-level cache, and with two more fill tiles of 12
constexpr int64_t task_rows = 282;   // rows a task of the forward pass
constexpr int64_t chunk_rows = 752;  // rows that share one partial weight gradient; at most max_parts of them

constexpr int64_t max_parts = 8;
RowChunks weight_chunks(int64_t rows) {
  const int64_t size = std::max(chunk_rows, (rows + max_parts - 1) / max_parts);
  return {rows, size, (rows + size - 1) / size};
}
int64_t most_parts(int64_t rows) { return std::min(max_parts, (rows + chunk_rows - 1) / chunk_rows); }

template <class T> struct Convolution {
  int64_t tokens, channels, width;  // width = H
  const T* z;
  const T* state = nullptr;
  const T* older = nullptr;  // depthwise_w[c,0]
  const T* newer = nullptr;  // depthwise_w[c,1]
  const T* bias = nullptr;   // depthwise_b
  const T* zeros = nullptr;
  Ragged ragged;

  // z[t − back] of sequence s for the channels from `first`, reaching into the state and, before it, zeros.
  const T* row(int64_t s, int64_t t, int64_t back, int64_t first) const {
    const int64_t from = t - back, start = ragged.begin(s);
    if (from >= start) return z + from * channels + first;
    const int64_t slot = ragged.history(s);
    return slot < 0 ? zeros : state + (slot * 2 + 2 + from - start) * channels + first;
  }

  void depthwise(const T* before, const T* now, int64_t first, T* y) const {
    const T *w0 = older + first, *w1 = newer + first, *b = bias + first;
#pragma GCC ivdep
    for (int64_t h = 0; h < width; h++) y[h] = w0[h] * before[h] + w1[h] * now[h] + b[h];
  }

  // pairs[t − begin] = y[t − 1] beside y[t] for the group's channels and rows begin..end, all of which belong to sequences.
  void fill_pairs(int64_t begin, int64_t end, int64_t first, T* pairs) const {
    int64_t s = begin < end ? ragged.owner(begin) : 0;
    for (int64_t t = begin; t < end; t++, pairs += 2 * width) {
      while (t >= ragged.end(s)) s++;
      const T *now = row(s, t, 0, first), *before = row(s, t, 1, first);
      if (t == begin || t == ragged.begin(s)) depthwise(row(s, t, 2, first), before, first, pairs);
      else std::copy(pairs - width, pairs, pairs);
      depthwise(before, now, first, pairs + width);
    }
  }
};

template <class T> size_t bytes_of(int64_t elements) { return align64(static_cast<size_t>(elements) * sizeof(T)); }

template <class T> size_t convolve_thread_bytes(int64_t width) {
  return bytes_of<T>(packed_elements(width, 2 * width)) + bytes_of<T>(2 * width * panel_columns) + bytes_of<T>(2 * width * block_rows);
}

// Up to 32 rows of the weight from channel `first` on, as a panel: element (c, k) at 32k + c.
template <class T> void pack_channels(const Tensor& weight, int64_t first, int64_t count, int64_t depth, T* converted, T* panel) {
  const T* from = converted;
  if (weight.dtype == dtype_of<T>()) from = weight.as<T>() + first * depth;
  else read_elements<T>(weight, first * depth, count * depth, converted);
  pack_panel({{from, dtype_of<T>(), Layout::rows, depth}, count, depth, 0, panel_columns, panel}, dtype_of<T>(), 0, depth);
}

template <class T> size_t taps_bytes(const Tensor& depthwise) { return 2 * bytes_of<T>(depthwise.shape[0]); }

template <class T> void read_taps(const Tensor& depthwise, Convolution<T>& conv, uint8_t*& workspace) {
  T* older = reinterpret_cast<T*>(workspace);
  T* newer = older + bytes_of<T>(conv.channels) / sizeof(T);
  workspace += taps_bytes<T>(depthwise);
  for (int64_t c = 0; c < conv.channels; c++) {
    older[c] = element<T>(depthwise, 2 * c);
    newer[c] = element<T>(depthwise, 2 * c + 1);
  }
  conv.older = older;
  conv.newer = newer;
}

template <class T> size_t convolve_bytes(const Arguments& a) {
  const int64_t width = a.in[3].shape[1];
  return taps_bytes<T>(a.in[1]) + vector_bytes<T>(a.in[2]) + vector_bytes<T>(a.in[4]) + bytes_of<T>(width) +
         static_cast<size_t>(a.pool->threads()) * convolve_thread_bytes<T>(width);
}

template <class T> Status convolve(const Arguments& a) {
  const Tensor &z = a.in[0], &weight = a.in[3], &state = a.in[6], &out = a.out[0];
  Convolution<T> conv;
  conv.tokens = z.shape[0];
  conv.channels = z.shape[1];
  conv.width = weight.shape[1];
  conv.z = z.as<T>();
  if (Status status = read_ragged("cca_conv", a.in[5], conv.tokens, &conv.ragged); !status.ok()) return status;
  if (state.present()) {
    if (Status status = read_slots("cca_conv", a.in[7], a.in[8], state.shape[0], &conv.ragged); !status.ok()) return status;
    conv.state = state.as<T>();
  }
  const int64_t width = conv.width, channels = conv.channels, groups = channels / width;
  uint8_t* workspace = a.workspace;
  read_taps<T>(a.in[1], conv, workspace);
  conv.bias = read_vector<T>(a.in[2], workspace);
  const T* grouped_bias = read_vector<T>(a.in[4], workspace);
  T* zeros = reinterpret_cast<T*>(workspace);
  workspace += bytes_of<T>(width);
  std::fill(zeros, zeros + width, T(0));
  conv.zeros = zeros;

  const int64_t blocks = (conv.tokens + task_rows - 1) / task_rows;
  a.pool->run(groups * blocks, [&](int64_t task, int thread) {
    T* matrix = reinterpret_cast<T*>(workspace + static_cast<size_t>(thread) * convolve_thread_bytes<T>(width));
    T* converted = matrix + bytes_of<T>(packed_elements(width, 2 * width)) / sizeof(T);
    T* pairs = converted + bytes_of<T>(2 * width * panel_columns) / sizeof(T);
    const int64_t first = task % groups * width, task_begin = task / groups * task_rows;
    const int64_t task_end = std::min(conv.tokens, task_begin + task_rows);
    for (int64_t begin = task_begin; begin < task_end; begin += block_rows) {
      const int64_t end = std::min(task_end, begin + block_rows), owned = std::min(end, std::max(begin, conv.ragged.rows()));
      conv.fill_pairs(begin, owned, first, pairs);
      T* result = out.as<T>() + begin * channels + first;
      for (int64_t t = begin; t < end; t++) {
        T* row = out.as<T>() + t * channels + first;
        if (t < owned) std::copy(grouped_bias + first, grouped_bias + first + width, row);
        else std::fill(row, row + width, T(0));
      }
      // Row k of a panel belongs to y[t−1] where k is even, to y[t] where it is odd.
      for (int64_t c = 0; c < width; c += panel_columns) {
        const int64_t count = std::min(panel_columns, width - c);
        T* panel = matrix + c * 2 * width;
        if (begin == task_begin) pack_channels<T>(weight, first + c, count, 2 * width, converted, panel);
        for (int64_t half = 0; half < 2; half++)
          multiply<Start::keep>(owned - begin, count,
                                Product<T, T>{pairs + half * width, 2 * width, 1, panel + half * panel_columns, 2 * panel_columns, result + c, channels, width});
      }
    }
  });
  return {};
}

// Workspace of one thread of the gradient: the group's matrix, pairs, their gradient with a halo of two rows, dy of two rows.
template <class T> size_t gradient_thread_bytes(int64_t width) {
  return bytes_of<T>(2 * width * width) + bytes_of<T>(2 * width * block_rows) + bytes_of<T>(2 * width * (block_rows + 2)) + bytes_of<T>(2 * width);
}

// out[c][j·H + h] = weight[first + c, h, j]
template <class T> void split_group(const Tensor& weight, int64_t first, int64_t width, T* row, T* out) {
  for (int64_t c = 0; c < width; c++, out += 2 * width) {
    read_elements<T>(weight, (first + c) * 2 * width, 2 * width, row);
    for (int64_t h = 0; h < width; h++) {
      out[h] = row[2 * h];
      out[width + h] = row[2 * h + 1];
    }
  }
}

// out[i, h, j] = sum over chunks of partial[i][j·H + h], i over `rows` rows.
template <class T> void add_split_chunks(Pool& pool, RowChunks chunks, const T* partial, int64_t stride, int64_t rows, int64_t width, T* out) {
  pool.run_ranges(rows, std::max<int64_t>(1, 4096 / width), [&](int64_t begin, int64_t end, int) {
    std::fill(out + begin * 2 * width, out + end * 2 * width, T(0));
    for (int64_t chunk = 0; chunk < chunks.count; chunk++)
      for (int64_t i = begin; i < end; i++) {
        const T* from = partial + chunk * stride + i * 2 * width;
        T* to = out + i * 2 * width;
#pragma GCC ivdep
        for (int64_t h = 0; h < width; h++) {
          to[2 * h] += from[h];
          to[2 * h + 1] += from[width + h];
        }
      }
  });
}

// What a chunk of rows adds up a channel: 2H of grouped_w, then the two taps a group, depthwise_b, grouped_b.
template <class T> size_t gradient_bytes(const Arguments& a) {
  const int64_t width = a.in[4].shape[1], channels = a.in[1].shape[1];
  return taps_bytes<T>(a.in[2]) + vector_bytes<T>(a.in[3]) + bytes_of<T>(width) +
         bytes_of<T>(most_parts(a.in[1].shape[0]) * channels * (2 * width + 4)) +
         static_cast<size_t>(a.pool->threads()) * gradient_thread_bytes<T>(width);
}

template <class T> Status convolve_grad(const Arguments& a) {
  const Tensor &dout = a.in[0], &z = a.in[1], &weight = a.in[4];
  Convolution<T> conv;
  conv.tokens = z.shape[0];
  conv.channels = z.shape[1];
  conv.width = weight.shape[1];
  conv.z = z.as<T>();
  const Ragged& ragged = conv.ragged;
  if (Status status = read_ragged("cca_conv_grad", a.in[5], conv.tokens, &conv.ragged); !status.ok()) return status;
  const int64_t width = conv.width, channels = conv.channels, groups = channels / width, owned = ragged.rows();
  uint8_t* workspace = a.workspace;
  read_taps<T>(a.in[2], conv, workspace);
  conv.bias = read_vector<T>(a.in[3], workspace);
  T* zeros = reinterpret_cast<T*>(workspace);
  workspace += bytes_of<T>(width);
  std::fill(zeros, zeros + width, T(0));
  conv.zeros = zeros;
  T* partials = reinterpret_cast<T*>(workspace);
  workspace += bytes_of<T>(most_parts(conv.tokens) * channels * (2 * width + 4));
  const int64_t of_taps = channels * 2 * width, of_bias = of_taps + 2 * channels, of_grouped = of_bias + channels, partial_size = of_grouped + channels;

  const RowChunks chunks = weight_chunks(conv.tokens);
  a.pool->run(groups * chunks.count, [&](int64_t task, int thread) {
    T* matrix = reinterpret_cast<T*>(workspace + static_cast<size_t>(thread) * gradient_thread_bytes<T>(width));
    T* pairs = matrix + bytes_of<T>(2 * width * width) / sizeof(T);
    T* dpairs = pairs + bytes_of<T>(2 * width * block_rows) / sizeof(T);
    T* dy = dpairs + bytes_of<T>(2 * width * (block_rows + 2)) / sizeof(T);  // two rows: dy[t] and dy[t+1]
    const int64_t chunk = task / groups, first = task % groups * width;
    split_group<T>(weight, first, width, dy, matrix);
    T* partial = partials + chunk * partial_size;
    T* dweight = partial + first * 2 * width;
    T* dolder = partial + of_taps + first * 2;
    T* dnewer = dolder + width;
    T* dbias = partial + of_bias + first;
    T* dgrouped = partial + of_grouped + first;
    std::fill(dweight, dweight + 2 * width * width, T(0));
    std::fill(dolder, dolder + 2 * width, T(0));
    std::fill(dbias, dbias + width, T(0));
    std::fill(dgrouped, dgrouped + width, T(0));

    const int64_t chunk_end = std::min(conv.tokens, (chunk + 1) * chunks.size);
    for (int64_t begin = chunk * chunks.size; begin < chunk_end; begin += block_rows) {
      const int64_t end = std::min(chunk_end, begin + block_rows);
      for (int64_t t = std::max(begin, owned); t < end; t++) std::fill_n(a.out[0].as<T>() + t * channels + first, width, T(0));
      const int64_t last = std::min(end, owned), halo = std::min(end + 2, owned);
      if (last <= begin) continue;
      const T* d = dout.as<T>() + begin * channels + first;
      conv.fill_pairs(begin, last, first, pairs);
      multiply<Start::keep>(width, 2 * width, Product<T, T>{d, 1, channels, pairs, 2 * width, dweight, 2 * width, last - begin});
      multiply<Start::zero>(halo - begin, 2 * width, Product<T, T>{d, channels, 1, matrix, 2 * width, dpairs, 2 * width, width});

      int64_t s = ragged.owner(begin);
      for (int64_t t = begin; t < last; t++) {
        while (t >= ragged.end(s)) s++;
        // dy of row u of sequence s; 0 past its end.
        auto gradient_of = [&](int64_t u, T* sum) {
          if (u >= ragged.end(s)) return std::fill(sum, sum + width, T(0));
          const T* own = dpairs + (u - begin) * 2 * width + width;
          const T* next = own + width;
          if (u + 1 == ragged.end(s)) return void(std::copy(own, own + width, sum));
#pragma GCC ivdep
          for (int64_t h = 0; h < width; h++) sum[h] = own[h] + next[h];
        };
        T *now = dy + (t & 1) * width, *next = dy + (1 - (t & 1)) * width;
        if (t == begin || t == ragged.begin(s)) gradient_of(t, now);
        gradient_of(t + 1, next);
        const T *z_now = conv.row(s, t, 0, first), *z_before = conv.row(s, t, 1, first);
        const T *older = conv.older + first, *newer = conv.newer + first;
        const T* g = dout.as<T>() + t * channels + first;
        T* dz = a.out[0].as<T>() + t * channels + first;
#pragma GCC ivdep
        for (int64_t h = 0; h < width; h++) {
          dz[h] = newer[h] * now[h] + older[h] * next[h];
          dolder[h] += now[h] * z_before[h];
          dnewer[h] += now[h] * z_now[h];
          dbias[h] += now[h];
          dgrouped[h] += g[h];
        }
        if (t == ragged.begin(s)) {
          const T* before = dpairs + (t - begin) * 2 * width;
#pragma GCC ivdep
          for (int64_t h = 0; h < width; h++) dbias[h] += before[h];
        }
      }
    }
  });
  add_split_chunks(*a.pool, chunks, partials, partial_size, channels, width, a.out[3].as<T>());
  add_split_chunks(*a.pool, chunks, partials + of_taps, partial_size, groups, width, a.out[1].as<T>());
  add_chunks(*a.pool, chunks, partials + of_bias, partial_size, channels, a.out[2].as<T>());
  add_chunks(*a.pool, chunks, partials + of_grouped, partial_size, channels, a.out[4].as<T>());
  return {};
}

Status cca_conv(const Arguments& a) { return a.out[0].dtype == DType::float64 ? convolve<double>(a) : convolve<float>(a); }
size_t cca_conv_workspace(const Arguments& a) { return a.out[0].dtype == DType::float64 ? convolve_bytes<double>(a) : convolve_bytes<float>(a); }
Status cca_conv_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? convolve_grad<double>(a) : convolve_grad<float>(a); }
size_t cca_conv_grad_workspace(const Arguments& a) {
  return a.out[0].dtype == DType::float64 ? gradient_bytes<double>(a) : gradient_bytes<float>(a);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(cca_conv)
ZAYA_OPERATION_WITH_WORKSPACE(cca_conv_grad)

}  // namespace zaya::ZAYA_ISA
