// cca_conv(z [T,C], depthwise_w [C,1,2], depthwise_b [C], grouped_w [C,H,2], grouped_b [C], cu_seqlens [S+1],
//          state? [slots,2,C], slots? [S], cached? [S]) -> [T,C];  C/H groups of H channels
//   y[t,c]   = depthwise_w[c,0] · z[t−1,c] + depthwise_w[c,1] · z[t,c] + depthwise_b[c]
//   out[t,c] = grouped_b[c] + Σ_h grouped_w[c,h,0] · y[t−1, h] + grouped_w[c,h,1] · y[t, h]     (h over the channels of c's group)
//   Each sequence starts from z[−1] = z[−2] = 0, hence y[−1] = depthwise_b; or, where cached[s] > 0, from the two rows of its slot
//   (oldest first). There is no activation between the two convolutions. grouped_w may lie in panels, then as [C/H,H,2H].
// cca_conv_grad(dout [T,C], z, depthwise_w, depthwise_b, grouped_w, cu_seqlens) (without state)
//   -> dz [T,C], d_depthwise_w [C,1,2], d_depthwise_b [C], d_grouped_w [C,H,2], d_grouped_b [C]
//
// The forward pass is told in ops/cca_conv.h. y is computed again in the gradient. Gradient of the pairs y[t−1], y[t]: dA = dout · W;
// dy[t] = dA[t](second half) + dA[t+1](first half), dz[t] = w1 · dy[t] + w0 · dy[t+1];
// at a sequence's first row the first half of dA belongs to y[−1] and reaches depthwise_b alone.
// Accumulation: weight gradients take the rows of a chunk in order, then the chunks.
#include "cpu/attention_tile.h"
#include "cpu/rows.h"
#include "cpu/streaming.h"
#include "ops/cca_conv.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t block_rows = 94;   // rows of pairs at a time: they stay in the second-level cache, and with two more fill tiles of 12
constexpr int64_t chunk_rows = 752;  // rows that share one partial weight gradient; at most max_parts of them

constexpr int64_t max_parts = 8;
RowChunks weight_chunks(int64_t rows) {
  const int64_t size = std::max(chunk_rows, (rows + max_parts - 1) / max_parts);
  return {rows, size, (rows + size - 1) / size};
}
int64_t most_parts(int64_t rows) { return std::min(max_parts, (rows + chunk_rows - 1) / chunk_rows); }

template <class T> size_t bytes_of(int64_t elements) { return align64(static_cast<size_t>(elements) * sizeof(T)); }

// Tasks are groups by blocks of rows; a task of a weight that must be packed takes more rows, to pack it less often.
template <class T> Status convolve(const Arguments& a) {
  const Tensor &z = a.in[0], &grouped = a.in[3], &out = a.out[0];
  RaggedRows<T> columns;
  if (Status status = read_rows("cca_conv", z, a.in[5], a.in[6], a.in[7], a.in[8], &columns); !status.ok()) return status;
  const int64_t width = grouped.shape[1], groups = columns.columns / width;
  const int64_t block = GroupConvolution<T>::block_rows, task_rows = GroupConvolution<T>::in_place(grouped) ? block : 3 * block;
  a.pool->run(groups * ((columns.tokens + task_rows - 1) / task_rows), [&](int64_t task, int thread) {
    const int64_t group = task % groups, task_begin = task / groups * task_rows, task_end = std::min(columns.tokens, task_begin + task_rows);
    const GroupConvolution<T> convolution(columns, a.in + 1, group, a.workspace + static_cast<size_t>(thread) * GroupConvolution<T>::bytes(grouped));
    for (int64_t begin = task_begin; begin < task_end; begin += block)
      convolution.run(begin, std::min(task_end, begin + block), out.as<T>() + begin * columns.columns + group * width, columns.columns);
  });
  return {};
}

// Workspace of one thread of the gradient: taps, the group's matrix, pairs, their gradient with a halo of two rows, dy of two rows.
template <class T> size_t gradient_thread_bytes(int64_t width) {
  return Depthwise<T>::bytes(width) + bytes_of<T>(2 * width * width) + bytes_of<T>(2 * width * block_rows) + bytes_of<T>(2 * width * (block_rows + 2)) + bytes_of<T>(2 * width);
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
  return bytes_of<T>(most_parts(a.in[1].shape[0]) * channels * (2 * width + 4)) +
         static_cast<size_t>(a.pool->threads()) * gradient_thread_bytes<T>(width);
}

template <class T> Status convolve_grad(const Arguments& a) {
  const Tensor &dout = a.in[0], &z = a.in[1], &weight = a.in[4];
  RaggedRows<T> columns;
  if (Status status = read_rows("cca_conv_grad", z, a.in[5], {}, {}, {}, &columns); !status.ok()) return status;
  const Ragged& ragged = columns.ragged;
  const int64_t width = weight.shape[1], channels = columns.columns, groups = channels / width, owned = ragged.rows();
  uint8_t* workspace = a.workspace;
  T* partials = reinterpret_cast<T*>(workspace);
  workspace += bytes_of<T>(most_parts(columns.tokens) * channels * (2 * width + 4));
  const int64_t of_taps = channels * 2 * width, of_bias = of_taps + 2 * channels, of_grouped = of_bias + channels, partial_size = of_grouped + channels;

  const RowChunks chunks = weight_chunks(columns.tokens);
  const bool past_caches = a.pool->apart();
  a.pool->run(groups * chunks.count, [&](int64_t task, int thread) {
    uint8_t* scratch = workspace + static_cast<size_t>(thread) * gradient_thread_bytes<T>(width);
    T* matrix = reinterpret_cast<T*>(scratch + Depthwise<T>::bytes(width));
    T* pairs = matrix + bytes_of<T>(2 * width * width) / sizeof(T);
    T* dpairs = pairs + bytes_of<T>(2 * width * block_rows) / sizeof(T);
    T* dy = dpairs + bytes_of<T>(2 * width * (block_rows + 2)) / sizeof(T);  // two rows: dy[t] and dy[t+1]
    const int64_t chunk = task / groups, first = task % groups * width;
    const Depthwise<T> depthwise(columns, a.in[2], a.in[3], first, width, scratch);
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

    const int64_t chunk_end = std::min(columns.tokens, (chunk + 1) * chunks.size);
    for (int64_t begin = chunk * chunks.size; begin < chunk_end; begin += block_rows) {
      const int64_t end = std::min(chunk_end, begin + block_rows);
      for (int64_t t = std::max(begin, owned); t < end; t++) std::fill_n(a.out[0].as<T>() + t * channels + first, width, T(0));
      const int64_t last = std::min(end, owned), halo = std::min(end + 2, owned);
      if (last <= begin) continue;
      const T* d = dout.as<T>() + begin * channels + first;
      depthwise.pairs(begin, last, pairs, pairs + width, 2 * width);
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
        const T *z_now = depthwise.row(s, t, 0), *z_before = depthwise.row(s, t, 1);
        const T *older = depthwise.older(), *newer = depthwise.newer();
        const T* g = dout.as<T>() + t * channels + first;
        make_row(a.out[0].as<T>() + t * channels + first, width, past_caches, [&](T* dz) {
#pragma GCC ivdep
          for (int64_t h = 0; h < width; h++) {
            dz[h] = newer[h] * now[h] + older[h] * next[h];
            dolder[h] += now[h] * z_before[h];
            dnewer[h] += now[h] * z_now[h];
            dbias[h] += now[h];
            dgrouped[h] += g[h];
          }
        });
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
size_t cca_conv_workspace(const Arguments& a) {
  return static_cast<size_t>(a.pool->threads()) *
         (a.out[0].dtype == DType::float64 ? GroupConvolution<double>::bytes(a.in[3]) : GroupConvolution<float>::bytes(a.in[3]));
}
Status cca_conv_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? convolve_grad<double>(a) : convolve_grad<float>(a); }
size_t cca_conv_grad_workspace(const Arguments& a) {
  return a.out[0].dtype == DType::float64 ? gradient_bytes<double>(a) : gradient_bytes<float>(a);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(cca_conv)
ZAYA_OPERATION_WITH_WORKSPACE(cca_conv_grad)

}  // namespace zaya::ZAYA_ISA
