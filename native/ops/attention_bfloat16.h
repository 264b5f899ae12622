// Attention and its gradient with operands rounded to bfloat16, for training: queries (times scale), keys, values, probabilities, do and dS.
// Scores, softmax, lse and all sums are float32; products add two steps at a time, as told at Pair in cpu/attention_tile.h.
//
// Keys come in blocks of 64, aligned to the start of their document. A query takes the blocks in order (online softmax), so its chain
// depends on the document and its position alone. A key that a query does not see has weight 0: unlike in attention.h, what such a key
// of the same document holds must be finite.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/gemm_pack.h"
#include "cpu/rows.h"
#include "cpu/streaming.h"
#include "ops/attention.h"

namespace zaya::ZAYA_ISA {

constexpr int64_t pair_keys = 64;
constexpr int64_t pair_vectors = pair_keys / lanes;

// to[i] = (x[i], y[i]) as bfloat16, for 16 i.
inline void pair_lanes(Lanes<float> x, Lanes<float> y, Pair* to) {
#ifdef __AVX512BF16__
  const __m512i low = _mm512_cvtepu16_epi32(std::bit_cast<__m256i>(_mm512_cvtneps_pbh(std::bit_cast<__m512>(x))));
  const __m512i high = _mm512_cvtepu16_epi32(std::bit_cast<__m256i>(_mm512_cvtneps_pbh(std::bit_cast<__m512>(y))));
  _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
#else
  for (int i = 0; i < lanes; i++) to[i] = {{to_bfloat16(x[i]), to_bfloat16(y[i])}};
#endif
}

// A row of n numbers times scale as (n + 1) / 2 pairs along it, and two rows as n pairs across; y may be null.
inline void round_row(const float* x, int64_t n, float scale, Pair* pairs) {
  auto* to = reinterpret_cast<bfloat16*>(pairs);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) round_lanes(load(x + i) * scale, to + i);
  for (; i < n; i++) to[i] = to_bfloat16(x[i] * scale);
  if (n % 2 == 1) to[n] = 0;
}
inline void pair_rows(const float* x, const float* y, int64_t n, float scale, Pair* to) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) pair_lanes(load(x + i) * scale, y ? load(y + i) * scale : Lanes<float>{}, to + i);
  for (; i < n; i++) to[i] = {{to_bfloat16(x[i] * scale), y ? to_bfloat16(y[i] * scale) : bfloat16(0)}};
}

// Up to 64 rows x [tokens, ·, H] of one kv head as what scores are made with, [(H+1)/2][64] pairs along h, and as what takes weights, [32][H]
// pairs of keys. Absent keys are zeros; either may be null.
inline void pack_pairs(const float* x, int64_t stride, int64_t tokens, int64_t head, Pair* panel, Pair* across, bool past_caches) {
  if (panel) pack_panel({{x, DType::float32, Layout::rows, stride}, tokens, head, 0, pair_keys, panel, false, 1, past_caches}, DType::bfloat16, 0, even(head));
  if (across)
    for (int64_t j = 0; j < pair_keys; j += 2) {
      Pair* to = across + j / 2 * head;
      make_row(to, head, past_caches, [&](Pair* row) {
        if (j < tokens) pair_rows(x + j * stride, j + 1 < tokens ? x + (j + 1) * stride : nullptr, head, 1, row);
        else std::fill_n(row, head, Pair{});
      });
    }
}
inline int64_t panel_pairs(int64_t head) { return (head + 1) / 2 * pair_keys; }
inline int64_t across_pairs(int64_t head) { return pair_keys / 2 * head; }

// Lanes of part `part` (16 keys) of a block outside the keys [begin, end) become `value`.
inline Lanes<float> keep_keys(Lanes<float> x, int64_t part, int64_t begin, int64_t end, float value) {
  LanesOf<float>::mask index;
  for (int i = 0; i < lanes; i++) index[i] = static_cast<int32_t>(part * lanes) + i;
  const int32_t first = static_cast<int32_t>(begin), last = static_cast<int32_t>(end);
  return by_registers([=](auto v, auto at) { return (at >= first) & (at < last) ? v : decltype(v){} + value; }, x, index);
}

// One tile of queries of a forward pass.
struct PairTile {
  Pair* q;            // [rows][(H+1)/2], times scale
  Pair* weights;      // [12][32]
  float* scores;      // [12][64]
  float* o;           // [rows][H]
  float* lane_sum;    // [rows][16]
  float* maximum;     // [rows]
  int64_t rows = 0, first_position = 0;

  static size_t bytes(const TileShape& shape) {
    const int64_t rows = shape.rows(), depth = (shape.head + 1) / 2;
    return align64(4 * static_cast<size_t>(group_rows * (pair_keys + pair_keys / 2) + rows * (depth + shape.head + lanes + 1)));
  }
  PairTile(uint8_t* memory, const TileShape& shape) {
    weights = reinterpret_cast<Pair*>(memory);
    q = weights + group_rows * pair_keys / 2;
    scores = reinterpret_cast<float*>(q + shape.rows() * ((shape.head + 1) / 2));
    lane_sum = scores + group_rows * pair_keys;
    maximum = lane_sum + shape.rows() * lanes;
    o = maximum + shape.rows();
  }

  void start(const TileShape& shape, const float* from, int64_t stride, int64_t tokens, int64_t position, float scale) {
    rows = tokens * shape.group;
    first_position = position;
    const int64_t depth = (shape.head + 1) / 2;
    for (int64_t r = 0; r < rows; r++) round_row(from + r / shape.group * stride + r % shape.group * shape.head, shape.head, scale, q + r * depth);
    std::fill_n(o, rows * shape.head, 0.0f);
    std::fill_n(lane_sum, rows * lanes, 0.0f);
    std::fill_n(maximum, rows, -std::numeric_limits<float>::infinity());
  }

  void attend(const TileShape& shape, int64_t block, const Pair* keys, const Pair* values) {
    const int64_t head = shape.head, depth = (head + 1) / 2, start = block * pair_keys;
    for (int64_t row0 = 0; row0 < rows; row0 += group_rows) {
      const int64_t count = std::min(group_rows, rows - row0), last = first_position + (row0 + count - 1) / shape.group;
      const int64_t first = first_position + row0 / shape.group;
      if (last < start || shape.first_key(first) >= start + pair_keys) continue;
      const int64_t columns = std::min(pair_keys, (last + 1 - start + 31) / 32 * 32), parts = columns / lanes;
      multiply<Start::zero>(count, columns, Product<float, Pair>{q + row0 * depth, depth, 1, keys, pair_keys, scores, pair_keys, depth});
      const bool whole = start + columns - 1 <= first && shape.first_key(last) <= start;
      // The largest score of every row first, so that the exponentials of what they grew by are one vector.
      alignas(64) float factor[lanes] = {};
      bool seen[group_rows];
      for (int64_t r = 0; r < count; r++) {
        const int64_t position = first_position + (row0 + r) / shape.group;
        const int64_t begin = shape.first_key(position) - start, end = position + 1 - start;
        seen[r] = std::max<int64_t>(begin, 0) < std::min(end, columns);
        if (!seen[r]) continue;
        float* s = scores + r * pair_keys;
        Lanes<float> most = splat(-std::numeric_limits<float>::infinity());
        for (int64_t part = 0; part < parts; part++) {
          Lanes<float> some = load(s + part * lanes);
          if (!whole) store(s + part * lanes, some = keep_keys(some, part, begin, end, -std::numeric_limits<float>::infinity()));
          most = larger(some, most);
        }
        float& top = maximum[row0 + r];
        const float best = largest<float>(most, most), next = best > top ? best : top;
        factor[r] = top - next;
        top = next;
      }
      store(factor, softmax_exponential<float>(load(factor)));
      for (int64_t r = 0; r < count; r++) {
        auto* to = reinterpret_cast<bfloat16*>(weights + r * pair_keys / 2);
        if (!seen[r]) {
          std::fill_n(to, columns, bfloat16(0));
          continue;
        }
        Lanes<float> total = load(lane_sum + (row0 + r) * lanes) * factor[r];
        for (int64_t part = 0; part < parts; part++) {
          const Lanes<float> e = softmax_exponential<float>(load(scores + r * pair_keys + part * lanes) - maximum[row0 + r]);
          total += e;
          round_lanes(e, to + part * lanes);
        }
        store(lane_sum + (row0 + r) * lanes, total);
      }
      multiply<Start::scaled>(count, head, Product<float, Pair>{weights, pair_keys / 2, 1, values, head, o + row0 * head, head, columns / 2, factor});
    }
  }

  void finish(const TileShape& shape, float* to, int64_t stride, float* lse, int64_t heads, bool past_caches) const {
    for (int64_t r = 0; r < rows; r++) {
      const int64_t token = r / shape.group, g = r % shape.group;
      const float total = sum<float>(load(lane_sum + r * lanes)), inverse = 1 / total;
      make_row(to + token * stride + g * shape.head, shape.head, past_caches, [&](float* row) {
        map_lanes<float>(o + r * shape.head, row, shape.head, [&](Lanes<float> x) { return x * inverse; });
      });
      lse[token * heads + g] = maximum[r] + std::log(total);
    }
  }
};

// What attention_grad keeps of keys and values: blocks to make scores and do·v with, and keys to make dq with.
struct PairBlocks {
  using Number = float;
  static constexpr int64_t keys = pair_keys;
  Pair *key_panels, *value_panels, *key_rows;
  int64_t head;

  static size_t bytes(int64_t blocks, int64_t head) { return align64(sizeof(Pair) * static_cast<size_t>(blocks * (2 * panel_pairs(head) + across_pairs(head)))); }
  PairBlocks(uint8_t* memory, int64_t blocks, int64_t head)
      : key_panels(reinterpret_cast<Pair*>(memory)), value_panels(key_panels + blocks * panel_pairs(head)), key_rows(value_panels + blocks * panel_pairs(head)), head(head) {}

  void pack(int64_t block, const float* k, const float* v, int64_t stride, int64_t tokens, bool past_caches) const {
    pack_pairs(k, stride, tokens, head, key_panels + block * panel_pairs(head), key_rows + block * across_pairs(head), past_caches);
    pack_pairs(v, stride, tokens, head, value_panels + block * panel_pairs(head), nullptr, past_caches);
  }

  // One tile of queries against a block; rows are pairs of tokens and heads, in the order of both.
  struct Tile {
    Pair *q, *dout;                           // [rows][(H+1)/2]; q times scale
    Pair *q_across, *dout_across;             // [(rows+1)/2][H]
    Pair *probability_across, *dscore_across; // [(rows+1)/2][64]
    Pair* dscore;                             // [rows][32]
    float *dq;                                // [rows][H]
    float *scores, *products;                 // [rows][64]
    float *lse, *delta;                       // [rows]

    static size_t bytes(int64_t rows, int64_t head) {
      const int64_t half = (rows + 1) / 2, depth = (head + 1) / 2;
      return align64(4 * static_cast<size_t>(rows * (2 * depth + head + pair_keys / 2 + 2 * pair_keys + 2) + 2 * half * (head + pair_keys)));
    }
    Tile(uint8_t* memory, int64_t rows, int64_t head) {
      const int64_t half = (rows + 1) / 2, depth = (head + 1) / 2;
      q = reinterpret_cast<Pair*>(memory);
      dout = q + rows * depth;
      q_across = dout + rows * depth;
      dout_across = q_across + half * head;
      probability_across = dout_across + half * head;
      dscore_across = probability_across + half * pair_keys;
      dscore = dscore_across + half * pair_keys;
      dq = reinterpret_cast<float*>(dscore + rows * pair_keys / 2);
      scores = dq + rows * head;
      products = scores + rows * pair_keys;
      lse = products + rows * pair_keys;
      delta = lse + rows;
    }
    // Row r of the queries and of do.
    void load_row(int64_t r, const float* q_row, const float* dout_row, int64_t head, float scale) const {
      round_row(q_row, head, scale, q + r * ((head + 1) / 2));
      round_row(dout_row, head, 1, dout + r * ((head + 1) / 2));
    }
    // After all rows: the same across pairs of rows.
    void loaded(int64_t rows, int64_t head) const {
      across(q, rows, head, q_across);
      across(dout, rows, head, dout_across);
    }

   private:
    static void across(const Pair* along, int64_t rows, int64_t head, Pair* to) {
      const auto* x = reinterpret_cast<const bfloat16*>(along);
      const int64_t stride = (head + 1) / 2 * 2;
      for (int64_t r = 0; r < rows; r += 2)
        for (int64_t h = 0; h < head; h++) to[r / 2 * head + h] = {{x[r * stride + h], r + 1 < rows ? x[(r + 1) * stride + h] : bfloat16(0)}};
    }
  };

  // Adds what the queries at [position, …) of the tile and the block at `start` of their document, packed as number `block`, give each other.
  void add(const Tile& tile, const TileShape& shape, int64_t block, int64_t start, int64_t count, int64_t position, int64_t tokens, float* dk, float* dv, int64_t stride) const {
    const int64_t rows = tokens * shape.group, depth = (head + 1) / 2, last = position + tokens - 1;
    const int64_t columns = std::min(pair_keys, (std::min(count, last + 1 - start) + 31) / 32 * 32), parts = columns / lanes;
    const bool whole = start + columns - 1 <= position && shape.first_key(last) <= start && count >= columns;
    multiply<Start::zero>(rows, columns, Product<float, Pair>{tile.q, depth, 1, key_panels + block * panel_pairs(head), pair_keys, tile.scores, pair_keys, depth});
    multiply<Start::zero>(rows, columns,
                          Product<float, Pair>{tile.dout, depth, 1, value_panels + block * panel_pairs(head), pair_keys, tile.products, pair_keys, depth});
    for (int64_t r = 0; r < rows; r += 2)
      for (int64_t part = 0; part < parts; part++) {
        Lanes<float> p[2] = {}, d[2] = {};
        for (int64_t i = 0; i < std::min<int64_t>(2, rows - r); i++) {
          const int64_t at = (r + i) * pair_keys + part * lanes;
          p[i] = softmax_exponential<float>(load(tile.scores + at) - tile.lse[r + i]);
          d[i] = p[i] * (load(tile.products + at) - tile.delta[r + i]);
          if (!whole) {
            const int64_t own = position + (r + i) / shape.group, begin = shape.first_key(own) - start, end = std::min(count, own + 1 - start);
            p[i] = keep_keys(p[i], part, begin, end, 0);
            d[i] = keep_keys(d[i], part, begin, end, 0);
          }
          round_lanes(d[i], reinterpret_cast<bfloat16*>(tile.dscore + (r + i) * pair_keys / 2) + part * lanes);
        }
        pair_lanes(p[0], p[1], tile.probability_across + r / 2 * pair_keys + part * lanes);
        pair_lanes(d[0], d[1], tile.dscore_across + r / 2 * pair_keys + part * lanes);
      }
    const int64_t seen = std::min(count, columns), half = (rows + 1) / 2;
    multiply<Start::keep>(rows, head, Product<float, Pair>{tile.dscore, pair_keys / 2, 1, key_rows + block * across_pairs(head), head, tile.dq, head, columns / 2});
    multiply<Start::keep>(seen, head, Product<float, Pair>{tile.probability_across, 1, pair_keys, tile.dout_across, head, dv, stride, half});
    multiply<Start::keep>(seen, head, Product<float, Pair>{tile.dscore_across, 1, pair_keys, tile.q_across, head, dk, stride, half});
  }
};

}  // namespace zaya::ZAYA_ISA
