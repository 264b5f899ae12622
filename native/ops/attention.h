// Causal attention with grouped heads and an optional window, for one query against one document:
//   o = Σ_j softmax_j(scale · q·k_j) v_j,  lse = log Σ_j exp(scale · q·k_j),  j from max(0, p − window + 1) to p, the query's position.
// What is shared by `attention` (keys in one piece) and `paged_attention` (keys in pages), so that the two have the same bits.
//
// Keys come in blocks of 32, aligned to position 0 of the document, as cpu/attention_pages.h describes them. A query takes the
// blocks in order (online softmax: block maximum, rescale, add P·V key by key) within spans of 512 keys, and its spans are then merged in
// order. That chain depends on the document and the position only, not on which other queries share a tile, how a prompt was cut,
// or which thread did it; a span can be done by another thread. Keys a query does not see are left out of its chain altogether,
// so nothing they hold (NaN included) can reach it. Scores, maxima, sums and outputs are float32 (or float64).
// Source: Dao et al., FlashAttention-2 (arXiv 2307.08691), section 3.1; Flash-Decoding for the spans.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/attention_pages.h"
#include "cpu/ragged.h"

namespace zaya::ZAYA_ISA {

constexpr int64_t span_blocks = 16;
constexpr int64_t tile_rows = 48;
constexpr int64_t group_rows = 12;

// Rows of one tile: `tokens` consecutive tokens times the `group` query heads of one kv head.
struct TileShape {
  int64_t group, head, window;
  int64_t tokens() const { return std::max<int64_t>(1, tile_rows / group); }
  int64_t rows() const { return tokens() * group; }
  // The oldest key the token at this position sees.
  int64_t first_key(int64_t position) const { return window > 0 ? std::max<int64_t>(0, position - window + 1) : 0; }
};

// Softmax state of some rows: outputs not yet divided, running maxima, sums. A maximum of −inf means no key was seen yet.
template <class T> struct Partial {
  T* o;
  T* maximum;
  T* sum;
  // A row's maximum and sum have a line, so that outputs begin with one and can be streamed.
  static size_t elements(int64_t rows, int64_t head) { return static_cast<size_t>(rows * (head + lanes)); }
  static Partial at(T* memory, int64_t rows, int64_t head) { return {memory, memory + rows * head, memory + rows * head + rows * lanes / 2}; }
};

// Scratch of one thread for one tile. P is the type of the keys and values.
template <class T, class P = T> struct Tile {
  Queries<P> q;  // [rows], times scale
  T* o;          // [rows][H]
  T* lane_sum;   // [rows][16]
  T* maximum;    // [rows], and room for a vector from any row on
  T* scores;     // [12][32]
  T* rescale;    // [16] what a row's sums before the block are multiplied by
  T* steps;      // [16] the step of a row's weights
  T* scratch;    // [16][H]
  Partial<T> span, total;
  int64_t rows = 0, first_position = 0;

  static size_t bytes(const TileShape& shape) {
    int64_t rows = (shape.rows() + 15) / 16 * 16;
    return align64(sizeof(T) * (static_cast<size_t>(rows * (2 * shape.head + lanes + 3) + group_rows * block_keys + (3 + shape.head) * lanes) +
                                2 * Partial<T>::elements(rows, shape.head)));
  }
  Tile() = default;
  Tile(uint8_t* memory, const TileShape& shape) {
    int64_t capacity = (shape.rows() + 15) / 16 * 16, head = shape.head;
    scores = reinterpret_cast<T*>(memory);
    rescale = scores + group_rows * block_keys;
    steps = rescale + lanes;
    scratch = steps + lanes;
    T* queries = scratch + lanes * head;
    o = queries + capacity * head;
    lane_sum = o + capacity * head;
    maximum = lane_sum + capacity * lanes;
    T* query_steps = maximum + capacity + lanes;
    q = {reinterpret_cast<decltype(q.rows)>(queries), reinterpret_cast<float*>(query_steps), reinterpret_cast<int32_t*>(query_steps + capacity)};
    span = Partial<T>::at(query_steps + 2 * capacity, capacity, head);
    total = Partial<T>::at(span.sum + capacity, capacity, head);
    span.o = o;  // the span's outputs are where they were made
  }
};

// Lanes outside [begin, end) of the 32 become `value`.
template <class T> inline void keep_range(Lanes<T>& low, Lanes<T>& high, int64_t begin, int64_t end, T value) {
  using Mask = typename LanesOf<T>::mask;
  using Index = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
  Mask index;
  for (int i = 0; i < lanes; i++) index[i] = i;
  const auto kept = [=](auto x, auto at) {
    return (at >= static_cast<Index>(begin)) & (at < static_cast<Index>(end)) ? x : decltype(x){} + value;
  };
  low = by_registers(kept, low, index);
  high = by_registers(kept, high, index + lanes);
}

struct Range {
  int64_t begin, end;
  int64_t count() const { return end - begin; }
};

// A block of keys of one kv head, and the tile to which it is added.
template <class T, class P> struct Step {
  Tile<T, P>* tile;
  const P *keys, *values;
};

// Adds the keys [32·block, 32·block + 32) to every row that sees some of them, in `count` tiles of the same tokens and as many kv heads. Every part of the work
// is done for all tiles before the next, so that others go on while one row waits for what it needs. Keys and values are read in the order of the steps; what
// is read next, if that is known, is fetched meanwhile.
template <class T, class P> inline void attend(const Step<T, P>* steps, int64_t count, int64_t block, const TileShape& shape, LinesAhead* ahead) {
  const int64_t head = shape.head, all_rows = steps[0].tile->rows, first_position = steps[0].tile->first_position, start = block * block_keys;
  const int64_t last_position = first_position + (all_rows - 1) / shape.group;
  const bool whole = start + block_keys - 1 <= first_position && shape.first_key(last_position) <= start;
  for (int64_t row0 = 0; row0 < all_rows; row0 += group_rows, ahead = nullptr) {
    const int64_t rows = std::min(group_rows, all_rows - row0);
    // Lines that products do not fetch are shared out to the two visits of each row.
    const int64_t by_products = count * (head * lines_of_keys<P> + 2 * block_keys * lines_of_values) / numbers_of_unit<P>;
    const int64_t by_visit = ahead ? std::max<int64_t>(0, ahead->lines() - by_products) / (2 * count * rows) + 1 : 0;
    Range seen[group_rows];  // the keys of the block that a row sees
    bool any = whole;
    std::fill_n(seen, rows, Range{0, block_keys});
    for (int64_t r = 0; !whole && r < rows; r++) {
      const int64_t position = first_position + (row0 + r) / shape.group;
      seen[r] = {std::max<int64_t>(0, shape.first_key(position) - start), std::min(block_keys, position + 1 - start)};
      any |= seen[r].count() > 0;
    }
    if (!any) continue;
    for (int64_t i = 0; i < count; i++) {
      const Step<T, P>& step = steps[i];
      if constexpr (sizeof(P) == 1)  // the steps of values are wanted before the values
        for (int line = 0; line < 2; line++) __builtin_prefetch(block_steps(step.values, head) + line * lanes);
      score_keys(step.tile->q, row0, rows, head, step.keys, step.tile->scores, ahead);
    }
    for (int64_t i = 0; i < count; i++) {
      const Tile<T, P>& tile = *steps[i].tile;
      T best[lanes];
      std::fill_n(best, lanes, -std::numeric_limits<T>::infinity());
      for (int64_t r = 0; r < rows; r++) {
        if (seen[r].count() <= 0) continue;
        T* s = tile.scores + r * block_keys;
        Lanes<T> low = load(s), high = load(s + lanes);
        if (seen[r].count() < block_keys) {
          keep_range(low, high, seen[r].begin, seen[r].end, -std::numeric_limits<T>::infinity());
          store(s, low);
          store(s + lanes, high);
        }
        best[r] = largest<T>(low, high);
        if (ahead) ahead->fetch(by_visit);
      }
      T* maximum = tile.maximum + row0;
      const Lanes<T> before = load(maximum), now = larger(load(best), before);
      store(maximum, now);
      store(tile.rescale, softmax_exponential<T>(before - now));
    }
    for (int64_t i = 0; i < count; i++) {
      const Tile<T, P>& tile = *steps[i].tile;
      for (int64_t r = 0; r < rows; r++) {
        if (seen[r].count() <= 0) continue;
        T* s = tile.scores + r * block_keys;
        T* lane_sum = tile.lane_sum + (row0 + r) * lanes;
        const Lanes<T> maximum = splat(tile.maximum[row0 + r]);
        const Lanes<T> low = softmax_exponential<T>(load(s) - maximum), high = softmax_exponential<T>(load(s + lanes) - maximum);
        if (ahead) ahead->fetch(by_visit);
        store(lane_sum, load(lane_sum) * tile.rescale[r] + (low + high));
        tile.steps[r] = pack_weights(low, high, steps[i].values, head, s);
      }
    }
    // Rows that see the same keys go together; usually that is all of them.
    for (int64_t i = 0; i < count; i++)
      for (int64_t r = 0; r < rows;) {
        const Tile<T, P>& tile = *steps[i].tile;
        int64_t next = r + 1;
        while (next < rows && seen[next].begin == seen[r].begin && seen[next].end == seen[r].end) next++;
        if (seen[r].count() > 0)
          add_values(next - r, head, tile.scores + r * block_keys, tile.steps + r, steps[i].values, seen[r].begin, seen[r].end, tile.o + (row0 + r) * head,
                     tile.rescale + r, tile.scratch, ahead);
        r = next;
      }
  }
}

// The blocks of a span that some of `tokens` tokens sees, the first of which has the position given.
inline Range blocks_of(const TileShape& shape, int64_t span, int64_t position, int64_t tokens) {
  return {std::max(span * span_blocks, shape.first_key(position) / block_keys), std::min((span + 1) * span_blocks, (position + tokens - 1) / block_keys + 1)};
}

template <class T, class P> inline void start_span(Tile<T, P>& tile, const TileShape& shape) {
  std::fill_n(tile.o, tile.rows * shape.head, T(0));
  std::fill_n(tile.lane_sum, tile.rows * lanes, T(0));
  std::fill_n(tile.maximum, tile.rows, -std::numeric_limits<T>::infinity());
}

// Leaves the result in tile.span.
template <class T, class P> inline void finish_span(Tile<T, P>& tile) {
  for (int64_t r = 0; r < tile.rows; r++) {
    tile.span.maximum[r] = tile.maximum[r];
    tile.span.sum[r] = sum<T>(load(tile.lane_sum + r * lanes));
  }
}

// Attends to the keys of one span, from nothing; keys(block) and values(block) give the blocks.
template <class T, class P, class Keys, class Values>
inline void attend_span(Tile<T, P>& tile, const TileShape& shape, int64_t span, const Keys& keys, const Values& values) {
  start_span(tile, shape);
  const Range blocks = blocks_of(shape, span, tile.first_position, tile.rows / shape.group);
  for (int64_t block = blocks.begin; block < blocks.end; block++) {
    const Step<T, P> step{&tile, keys(block), values(block)};
    attend(&step, 1, block, shape, nullptr);
  }
  finish_span(tile);
}

template <class T, class P> inline void start_total(Tile<T, P>& tile) { std::fill_n(tile.total.maximum, tile.rows, -std::numeric_limits<T>::infinity()); }

// tile.total becomes the softmax over both sets of keys. A side that saw no key leaves the other untouched.
template <class T, class P> inline void merge(Tile<T, P>& tile, const TileShape& shape, const Partial<T>& next) {
  const int64_t head = shape.head;
  const T none = -std::numeric_limits<T>::infinity();
  Partial<T>& total = tile.total;
  for (int64_t row0 = 0; row0 < tile.rows; row0 += lanes) {
    const int64_t rows = std::min<int64_t>(lanes, tile.rows - row0);
    const Lanes<T> before = load(total.maximum + row0), other = load_first(next.maximum + row0, rows), maximum = larger(other, before);
    T old_factor[lanes], new_factor[lanes], highest[lanes];
    store(highest, maximum);
    store(old_factor, exponential(before - maximum));
    store(new_factor, exponential(other - maximum));
    for (int64_t i = 0; i < rows; i++) {
      const int64_t r = row0 + i;
      if (next.maximum[r] == none && next.sum[r] == 0) continue;
      T* to = total.o + r * head;
      const T* from = next.o + r * head;
      if (total.maximum[r] == none) {
        std::copy_n(from, head, to);
        total.maximum[r] = next.maximum[r];
        total.sum[r] = next.sum[r];
        continue;
      }
      for (int64_t h = 0; h < head; h++) to[h] = to[h] * old_factor[i] + from[h] * new_factor[i];
      total.sum[r] = total.sum[r] * old_factor[i] + next.sum[r] * new_factor[i];
      total.maximum[r] = highest[i];
    }
  }
}

// Takes the queries of `tokens` tokens; q points at the first one's first head of this kv head, tokens are `stride` elements apart.
template <class T, class P> inline void load_queries(Tile<T, P>& tile, const TileShape& shape, const T* q, int64_t stride, int64_t tokens, int64_t first_position, T scale) {
  tile.rows = tokens * shape.group;
  tile.first_position = first_position;
  for (int64_t r = 0; r < tile.rows; r++) {
    const T* from = q + r / shape.group * stride + r % shape.group * shape.head;
    for (int64_t h = 0; h < shape.head; h++) tile.scratch[h] = from[h] * scale;
    tile.q.set(r, tile.scratch, shape.head);
  }
}

// Divides by the sums and writes outputs as q was laid out; lse (may be null) has `heads` entries a token.
template <class T, class P> inline void write_outputs(const Tile<T, P>& tile, const TileShape& shape, T* o, int64_t stride, T* lse, int64_t heads) {
  for (int64_t r = 0; r < tile.rows; r++) {
    const int64_t token = r / shape.group, g = r % shape.group;
    const T inverse = T(1) / tile.total.sum[r];
    const T* from = tile.total.o + r * shape.head;
    T* to = o + token * stride + g * shape.head;
    for (int64_t h = 0; h < shape.head; h++) to[h] = from[h] * inverse;
    if (lse) lse[token * heads + g] = tile.total.maximum[r] + std::log(tile.total.sum[r]);
  }
}

inline int64_t first_span(const TileShape& shape, int64_t first_position) { return shape.first_key(first_position) / (block_keys * span_blocks); }
inline int64_t end_span(int64_t last_position) { return last_position / (block_keys * span_blocks) + 1; }

// The ragged axis cut into pieces of at most `length` tokens that never cross a sequence.
struct Piece {
  int64_t sequence, begin, end;  // rows [begin, end) of the ragged axis
};

inline int64_t count_pieces(const Ragged& ragged, int64_t length) {
  int64_t pieces = 0;
  for (int64_t s = 0; s < ragged.sequences; s++) pieces += (ragged.end(s) - ragged.begin(s) + length - 1) / length;
  return pieces;
}

inline Piece find_piece(const Ragged& ragged, int64_t length, int64_t index) {
  for (int64_t s = 0;; s++) {
    const int64_t begin = ragged.begin(s), end = ragged.end(s), pieces = (end - begin + length - 1) / length;
    if (index < pieces) return {s, begin + index * length, std::min(end, begin + (index + 1) * length)};
    index -= pieces;
  }
}

}  // namespace zaya::ZAYA_ISA
