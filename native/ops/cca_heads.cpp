// cca_heads(z [T,C], current [T,W], delayed [T,W], depthwise_w, depthwise_b, grouped_w, grouped_b, temp [K], positions int32 [T],
//           cu_seqlens [S+1], conv_state [slots,2,C], delay_state [slots,1,W], slots [S], cached [S])
//   {query_heads = N, clamp_temp, eps, rotary, theta}
//   -> q [T,N,H], k [T,K,H], v [T,K,H], conv_tail [S,2,C], delay_tail [S,1,W];  C = (N+K)·H, 2W = K·H
//   Everything of compressed convolutional attention between the projections and the cache, for generation:
//     q, k = rope(cca_qk(z, cca_conv(z))), v = value_delay(current, delayed), and the sequence_tail of z and of delayed.
//   The same numbers, bit for bit, as those operations one after the other (packages/kernels/src/ops/cca_heads.ts).
// A head is a group of the convolution, so a task takes one head and a block of rows from the columns of z to the rotated head; the values
// and the tails are tasks beside them. Angles are found once for all heads.
#include "ops/cca_conv.h"
#include "ops/cca_qk.h"
#include "ops/rope.h"
#include "ops/sequence_tail.h"
#include "ops/value_delay.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t angle_rows = 64;  // of a task
constexpr int64_t value_rows = 64;  // of a task

// Of the workspace: frequencies, then sines beside cosines of every row, then for each thread angles, the convolution, a block of its result.
int64_t half_of(const Arguments& a) { return a.integer(3) / 2; }
size_t table_bytes(const Arguments& a) { return align64(static_cast<size_t>(half_of(a) * (1 + 2 * a.in[0].shape[0])) * sizeof(float)); }
size_t angle_bytes(const Arguments& a) { return align64(static_cast<size_t>(half_of(a)) * sizeof(float)); }
template <class T> size_t block_bytes(int64_t width) { return align64(static_cast<size_t>(GroupConvolution<T>::block_rows * width) * sizeof(T)); }
template <class T> size_t thread_bytes(const Arguments& a) {
  return angle_bytes(a) + GroupConvolution<T>::bytes(a.in[5]) + block_bytes<T>(a.in[5].shape[1]);
}

template <class T> Status make_heads(const Arguments& a) {
  const Tensor &z = a.in[0], &temp = a.in[7];
  if (Status status = check_heads("cca_heads", a, z, temp); !status.ok()) return status;
  RaggedRows<T> columns, delayed;
  if (Status status = read_rows("cca_heads", z, a.in[9], a.in[10], a.in[12], a.in[13], &columns); !status.ok()) return status;
  if (Status status = read_rows("cca_heads", a.in[2], a.in[9], a.in[11], a.in[12], a.in[13], &delayed); !status.ok()) return status;
  const Heads<T> heads(a, z, temp);
  const int32_t* positions = a.in[8].as<int32_t>();
  const int64_t tokens = columns.tokens, half = half_of(a), block = GroupConvolution<T>::block_rows;
  float* frequency = reinterpret_cast<float*>(a.workspace);
  float* table = frequency + half;
  auto scratch_of = [&](int thread) { return a.pool->own(thread, thread_bytes<T>(a), a.workspace + table_bytes(a)); };

  rope_frequencies(static_cast<float>(a.attribute[4]), half, frequency);
  a.pool->run_ranges(tokens, angle_rows, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t t = begin; t < end; t++)
      rope_angles(positions[t], frequency, half, reinterpret_cast<float*>(scratch_of(thread)), table + 2 * half * t, table + 2 * half * t + half);
  });

  auto make_head = [&](int64_t n, int64_t begin, int64_t end, int thread) {
    uint8_t* scratch = scratch_of(thread) + angle_bytes(a);
    T* mixed = reinterpret_cast<T*>(scratch + GroupConvolution<T>::bytes(a.in[5]));
    GroupConvolution<T>(columns, a.in + 3, n, scratch).run(begin, end, mixed, heads.size);
    const bool query = n < heads.queries;
    const int64_t count = query ? heads.queries : heads.keys, i = query ? n : n - heads.queries;
    const T factor = query ? T(1) : element<T>(temp, i);
    for (int64_t t = begin; t < end; t++) {
      T* x = a.out[query ? 0 : 1].as<T>() + (t * count + i) * heads.size;
      normalised_head(heads, columns.x + t * columns.columns, mixed + (t - begin) * heads.size, n, factor, x);
      rotate(x, x, heads.size, half, table + 2 * half * t, table + 2 * half * t + half);
    }
  };
  const int64_t all_heads = heads.queries + heads.keys, blocks = (tokens + block - 1) / block, values = (tokens + value_rows - 1) / value_rows;
  const int64_t head_tasks = all_heads * blocks;
  a.pool->run(head_tasks + values + columns.ragged.sequences, [&](int64_t task, int thread) {
    if (task < head_tasks) {
      const int64_t begin = task / all_heads * block;
      make_head(task % all_heads, begin, std::min(tokens, begin + block), thread);
    } else if (task < head_tasks + values) {
      const int64_t begin = (task - head_tasks) * value_rows;
      delay_rows(a.in[1].as<T>(), delayed, begin, std::min(tokens, begin + value_rows), a.out[2].as<T>());
    } else {
      const int64_t s = task - head_tasks - values;
      tail_rows(columns, s, columns.depth, a.out[3].as<T>() + s * columns.depth * columns.columns);
      tail_rows(delayed, s, delayed.depth, a.out[4].as<T>() + s * delayed.depth * delayed.columns);
    }
  });
  return {};
}

Status cca_heads(const Arguments& a) { return a.out[0].dtype == DType::float64 ? make_heads<double>(a) : make_heads<float>(a); }
size_t cca_heads_workspace(const Arguments& a) {
  const auto threads = static_cast<size_t>(a.pool->threads());
  return table_bytes(a) + threads * (a.out[0].dtype == DType::float64 ? thread_bytes<double>(a) : thread_bytes<float>(a));
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(cca_heads)

}  // namespace zaya::ZAYA_ISA
