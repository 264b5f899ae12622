// top_k(logits [R,V], temperatures [R]) {k} → values [R,k], ids int32 [R,k], sums [R,2], masses [R,⌈V/8192⌉]
//   values and ids: the k largest logits of each row, largest first, the lower id first where two are equal.
//   sums: Σ_v exp(l_v − max l) and Σ_v exp((l_v − max l) / temperature), the second 1 where the temperature is 0. So for any of the ids
//   log softmax(l)_v = l_v − max l − log sums[0]. NaN where a logit is NaN or +∞; values and ids are then of no use.
//   masses: the second sum of each chunk of 8192 logits, 0 where the temperature is 0: whoever draws one knows in which chunk it is.
//
// Nothing is sorted but the result. The k-th largest of the maxima of groups of logits is a floor that at least k logits reach and, with twice as many
// groups as k or more, few others: those alone are gathered and ranked. Sums run over chunks of 8192 logits in lanes, then over the chunks in order.
#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t group_columns = 64;
constexpr int64_t chunk_columns = 8192;
constexpr float lowest = -std::numeric_limits<float>::infinity();

int64_t groups_of(int64_t columns) { return (columns + group_columns - 1) / group_columns; }
int64_t chunks_of(int64_t columns) { return (columns + chunk_columns - 1) / chunk_columns; }

float largest_of(const float* x, int64_t n) {
  Lanes<float> best = splat(lowest);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Lanes<float> next = load(x + i);
    best = next > best ? next : best;
  }
  const Lanes<float> rest = load_first(x + i, n - i, lowest);
  best = rest > best ? rest : best;
  float largest = best[0];
  for (int j = 1; j < lanes; j++) largest = std::max(largest, best[j]);
  return largest;
}

float exponential_sum(const float* x, int64_t n, float max, float factor) {
  Lanes<float> total = splat(0.0f);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) total += exponential((load(x + i) - max) * factor);
  if (i < n) total += exponential((load_first(x + i, n - i, lowest) - max) * factor);
  return sum<float>(total);
}

// A number that is larger where the logit is, or where it is equal and the id is lower.
uint64_t rank_of(float logit, uint32_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.0f);
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t(ordered) << 32 | (0xffffffffu - id);
}

// The k-th largest of n maxima, n being halved while enough stay: two that are taken together are one of a group twice as large. Overwrites them.
float floor_of(float* maxima, int64_t n, int64_t k) {
  if (k > n) return lowest;
  while (n / 2 >= 2 * k) {
    const int64_t half = (n + 1) / 2;
    for (int64_t i = 0; half + i < n; i++) maxima[i] = std::max(maxima[i], maxima[half + i]);
    n = half;
  }
  std::nth_element(maxima, maxima + k - 1, maxima + n, std::greater<float>());
  return maxima[k - 1];
}

// Ranks in `ranks` [V] the logits that reach the floor; at least k of them where so many are numbers.
int64_t gather(const float* row, int64_t columns, const float* maxima, float floor, uint64_t* ranks) {
  int64_t count = 0;
  for (int64_t begin = 0; begin < columns; begin += group_columns) {
    if (!(maxima[begin / group_columns] >= floor)) continue;
    for (int64_t i = begin; i < std::min(columns, begin + group_columns); i++)
      if (row[i] >= floor) ranks[count++] = rank_of(row[i], static_cast<uint32_t>(i));
  }
  return count;
}

struct Scratch {
  float* maxima;     // [R][groups]
  float* largest;    // [R][chunks]
  float* partial;    // [R][chunks]
  uint8_t* threads;  // for each: uint64 [V], float [groups]
  size_t thread_bytes;

  Scratch(uint8_t* memory, int64_t rows, int64_t columns)
      : maxima(reinterpret_cast<float*>(memory)), largest(maxima + rows * groups_of(columns)), partial(largest + rows * chunks_of(columns)),
        threads(memory + shared_bytes(rows, columns)),
        thread_bytes(align64(static_cast<size_t>(columns) * sizeof(uint64_t) + static_cast<size_t>(groups_of(columns)) * sizeof(float))) {}
  static size_t shared_bytes(int64_t rows, int64_t columns) {
    return align64(static_cast<size_t>(rows * (groups_of(columns) + 2 * chunks_of(columns))) * sizeof(float));
  }
};

Status top_k(const Arguments& a) {
  const int64_t rows = a.in[0].shape[0], columns = a.in[0].shape[1], k = a.out[0].shape[1];
  const int64_t groups = groups_of(columns), chunks = chunks_of(columns);
  const float *logits = a.in[0].as<float>(), *temperatures = a.in[1].as<float>();
  float *values = a.out[0].as<float>(), *sums = a.out[2].as<float>(), *masses = a.out[3].as<float>();
  int32_t* ids = a.out[1].as<int32_t>();
  const Scratch scratch(a.workspace, rows, columns);

  a.pool->run(rows * chunks, [&](int64_t task, int) {
    const int64_t row = task / chunks, begin = task % chunks * chunk_columns, end = std::min(columns, begin + chunk_columns);
    float* maxima = scratch.maxima + row * groups + begin / group_columns;
    for (int64_t i = begin; i < end; i += group_columns)
      maxima[(i - begin) / group_columns] = largest_of(logits + row * columns + i, std::min(group_columns, end - i));
    scratch.largest[task] = largest_of(maxima, groups_of(end - begin));
  });
  a.pool->run(rows * chunks, [&](int64_t task, int) {
    const int64_t row = task / chunks, begin = task % chunks * chunk_columns, n = std::min(columns - begin, chunk_columns);
    const float max = largest_of(scratch.largest + row * chunks, chunks), temperature = temperatures[row];
    const float* x = logits + row * columns + begin;
    scratch.partial[task] = exponential_sum(x, n, max, 1);
    masses[task] = temperature == 1 ? scratch.partial[task] : temperature > 0 ? exponential_sum(x, n, max, 1 / temperature) : 0;
  });
  a.pool->run(rows, [&](int64_t row, int thread) {
    auto total = [&](const float* of) { return static_cast<float>(std::accumulate(of + row * chunks, of + (row + 1) * chunks, 0.0)); };
    sums[2 * row] = total(scratch.partial);
    sums[2 * row + 1] = temperatures[row] > 0 ? total(masses) : 1;

    uint64_t* ranks = reinterpret_cast<uint64_t*>(scratch.threads + static_cast<size_t>(thread) * scratch.thread_bytes);
    float* folded = reinterpret_cast<float*>(ranks + columns);
    const float* maxima = scratch.maxima + row * groups;
    std::copy_n(maxima, groups, folded);
    const int64_t found = gather(logits + row * columns, columns, maxima, floor_of(folded, groups, k), ranks), kept = std::min(k, found);
    std::nth_element(ranks, ranks + kept, ranks + found, std::greater<uint64_t>());
    std::sort(ranks, ranks + kept, std::greater<uint64_t>());
    for (int64_t i = 0; i < k; i++) {
      const int32_t id = i < kept ? static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(ranks[i])) : 0;
      ids[row * k + i] = id;
      values[row * k + i] = i < kept ? logits[row * columns + id] : std::numeric_limits<float>::quiet_NaN();
    }
  });
  return {};
}

size_t top_k_workspace(const Arguments& a) {
  const Scratch scratch(nullptr, a.in[0].shape[0], a.in[0].shape[1]);
  return Scratch::shared_bytes(a.in[0].shape[0], a.in[0].shape[1]) + static_cast<size_t>(a.pool->threads()) * scratch.thread_bytes;
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(top_k)

}  // namespace zaya::ZAYA_ISA
