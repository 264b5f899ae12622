// attention(q [T,N,H], k [T,K,H], v [T,K,H], cu_seqlens int32 [S+1]){scale, window, compute} → o [T,N,H], lse [T,N]
//   The formula and its order are in attention.h. Query head n reads kv head n div (N/K); window 0 means none.
//   Keys and values are first laid out as the pages of paged_attention, so both have the same bits. Rows ≥ cu_seqlens[S] become 0.
//   compute: 0 float32; 1 operands rounded to bfloat16, as told in attention_bfloat16.h (AVX2, which has no such products, stays with 0).
//
// attention_grad(do, q, k, v, o, lse, cu_seqlens){scale, window, compute} → dq, dk, dv
//   P = exp(scale·q·kᵀ − lse), delta = Σ_h do·o, dS = P ∘ (do·vᵀ − delta), dq = scale · dS·k, dk = scale · dSᵀ·q, dv = Pᵀ·do
//   Nothing but lse is saved; P is computed again. Each document is cut into chunks of 256 tokens. Phase p treats key chunk c with query
//   chunk c + p, for all c at once: no two tasks of a phase write the same row, and every row receives its parts in the order of the
//   phases, whatever the number of threads. So S, P and dS are computed once (five products), in parallel also for one long document.
//   All sums are float32 (or float64).
#include "cpu/streaming.h"
#include "ops/attention.h"
#include "ops/attention_bfloat16.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t chunk_tokens = 256;
constexpr int64_t grad_rows = 64;
#if defined(__AVX2__) && !defined(__AVX512BF16__)
constexpr bool has_pairs = false;
#else
constexpr bool has_pairs = true;
#endif
bool in_bfloat16(const Arguments& a, DType dtype) { return has_pairs && a.flag(2) && dtype == DType::float32; }

// Rows [begin, end) of one kv head as a block: x [tokens, K, H] → panel [H][32] and rows [32][H], absent keys 0. Either may be null.
template <class T> void pack_block(const T* x, int64_t stride, int64_t tokens, int64_t head, T* panel, T* rows) {
  if (panel)
    for (int64_t h = 0; h < head; h++) {
      T* to = panel + h * block_keys;
      for (int64_t j = 0; j < tokens; j++) to[j] = x[j * stride + h];
      for (int64_t j = tokens; j < block_keys; j++) to[j] = 0;
    }
  if (rows) {
    for (int64_t j = 0; j < tokens; j++) std::copy_n(x + j * stride, head, rows + j * head);
    std::fill_n(rows + tokens * head, (block_keys - tokens) * head, T(0));
  }
}

struct Sizes {
  int64_t tokens, heads, kv_heads, head, sequences;
  int64_t group() const { return heads / kv_heads; }
  // Blocks of `keys` keys of one kv head: sequence s starts at block ragged.begin(s) / keys + s, which leaves room for its last, partial one.
  int64_t max_blocks(int64_t keys) const { return tokens / keys + sequences; }
  int64_t blocks(int64_t keys) const { return max_blocks(keys) * kv_heads; }
  int64_t first_block(const Ragged& ragged, int64_t sequence, int64_t kv_head, int64_t keys) const {
    return kv_head * max_blocks(keys) + ragged.begin(sequence) / keys + sequence;
  }
  // The block that a piece of at most `keys` tokens is packed into.
  int64_t block_of(const Ragged& ragged, const Piece& piece, int64_t kv_head, int64_t keys) const {
    return first_block(ragged, piece.sequence, kv_head, keys) + (piece.begin - ragged.begin(piece.sequence)) / keys;
  }
};

Sizes sizes_of(const Tensor& q, const Tensor& k, const Tensor& cu_seqlens) {
  return {q.shape[0], q.shape[1], k.shape[1], q.shape[2], cu_seqlens.shape[0] - 1};
}

template <class T> Status attention_of(const Arguments& a) {
  const Sizes n = sizes_of(a.in[0], a.in[1], a.in[3]);
  const T *q = a.in[0].as<T>(), *k = a.in[1].as<T>(), *v = a.in[2].as<T>();
  T *o = a.out[0].as<T>(), *lse = a.out[1].as<T>();
  const T scale = static_cast<T>(a.attribute[0]);
  const TileShape shape{n.group(), n.head, a.integer(1)};
  Ragged ragged;
  if (Status status = read_ragged("attention", a.in[3], n.tokens, &ragged); !status.ok()) return status;

  const int64_t block_size = block_keys * n.head, packed = n.blocks(block_keys) * block_size;
  T* keys = reinterpret_cast<T*>(a.workspace);
  T* values = keys + packed;
  uint8_t* scratch = a.workspace + align64(2 * sizeof(T) * static_cast<size_t>(packed));
  const int64_t q_stride = n.heads * n.head, kv_stride = n.kv_heads * n.head;

  a.pool->run(count_pieces(ragged, block_keys) * n.kv_heads, [&](int64_t task, int) {
    const Piece piece = find_piece(ragged, block_keys, task / n.kv_heads);
    const int64_t head = task % n.kv_heads, from = piece.begin * kv_stride + head * n.head;
    const int64_t to = n.block_of(ragged, piece, head, block_keys) * block_size;
    pack_block<T>(k + from, kv_stride, piece.end - piece.begin, n.head, keys + to, nullptr);
    pack_block<T>(v + from, kv_stride, piece.end - piece.begin, n.head, nullptr, values + to);
  });

  const int64_t tasks = count_pieces(ragged, shape.tokens()) * n.kv_heads;
  a.pool->run(tasks, [&](int64_t task, int thread) {
    task = tasks - 1 - task;  // the longest first
    const Piece piece = find_piece(ragged, shape.tokens(), task / n.kv_heads);
    const int64_t kv_head = task % n.kv_heads, position = piece.begin - ragged.begin(piece.sequence), tokens = piece.end - piece.begin;
    const int64_t first = n.first_block(ragged, piece.sequence, kv_head, block_keys) * block_size;
    const int64_t row = piece.begin * q_stride + kv_head * n.group() * n.head;
    Tile<T> tile(a.pool->own(thread, Tile<T>::bytes(shape), scratch), shape);
    load_queries(tile, shape, q + row, q_stride, tokens, position, scale);
    start_total(tile);
    for (int64_t span = first_span(shape, position); span < end_span(position + tokens - 1); span++) {
      attend_span(
          tile, shape, span, [&](int64_t block) { return keys + first + block * block_size; },
          [&](int64_t block) { return values + first + block * block_size; });
      merge(tile, shape, tile.span);
    }
    write_outputs(tile, shape, o + row, q_stride, lse + piece.begin * n.heads + kv_head * n.group(), n.heads);
  });
  const int64_t used = ragged.rows();
  std::fill(o + used * q_stride, o + n.tokens * q_stride, T(0));
  std::fill(lse + used * n.heads, lse + n.tokens * n.heads, T(0));
  return {};
}

Status attention_in_bfloat16(const Arguments& a) {
  const Sizes n = sizes_of(a.in[0], a.in[1], a.in[3]);
  const float *q = a.in[0].as<float>(), *k = a.in[1].as<float>(), *v = a.in[2].as<float>();
  float *o = a.out[0].as<float>(), *lse = a.out[1].as<float>();
  const TileShape shape{n.group(), n.head, a.integer(1)};
  Ragged ragged;
  if (Status status = read_ragged("attention", a.in[3], n.tokens, &ragged); !status.ok()) return status;

  const int64_t panel = panel_pairs(n.head), across = across_pairs(n.head), blocks = n.blocks(pair_keys);
  Pair* keys = reinterpret_cast<Pair*>(a.workspace);
  Pair* values = keys + blocks * panel;
  uint8_t* scratch = a.workspace + align64(sizeof(Pair) * static_cast<size_t>(blocks * (panel + across)));
  const int64_t q_stride = n.heads * n.head, kv_stride = n.kv_heads * n.head;

  a.pool->run(count_pieces(ragged, pair_keys) * n.kv_heads, [&](int64_t task, int) {
    const Piece piece = find_piece(ragged, pair_keys, task / n.kv_heads);
    const int64_t head = task % n.kv_heads, from = piece.begin * kv_stride + head * n.head, block = n.block_of(ragged, piece, head, pair_keys);
    pack_pairs(k + from, kv_stride, piece.end - piece.begin, n.head, keys + block * panel, nullptr, a.pool->apart());
    pack_pairs(v + from, kv_stride, piece.end - piece.begin, n.head, nullptr, values + block * across, a.pool->apart());
  });

  const bool past_caches = a.pool->apart();
  const int64_t tasks = count_pieces(ragged, shape.tokens()) * n.kv_heads;
  a.pool->run(tasks, [&](int64_t task, int thread) {
    task = tasks - 1 - task;  // the longest first
    const Piece piece = find_piece(ragged, shape.tokens(), task / n.kv_heads);
    const int64_t kv_head = task % n.kv_heads, position = piece.begin - ragged.begin(piece.sequence), tokens = piece.end - piece.begin;
    const int64_t first = n.first_block(ragged, piece.sequence, kv_head, pair_keys), row = piece.begin * q_stride + kv_head * n.group() * n.head;
    PairTile tile(a.pool->own(thread, PairTile::bytes(shape), scratch), shape);
    tile.start(shape, q + row, q_stride, tokens, position, static_cast<float>(a.attribute[0]));
    for (int64_t block = shape.first_key(position) / pair_keys; block <= (position + tokens - 1) / pair_keys; block++)
      tile.attend(shape, block, keys + (first + block) * panel, values + (first + block) * across);
    tile.finish(shape, o + row, q_stride, lse + piece.begin * n.heads + kv_head * n.group(), n.heads, past_caches);
  });
  const int64_t used = ragged.rows();
  std::fill(o + used * q_stride, o + n.tokens * q_stride, 0.0f);
  std::fill(lse + used * n.heads, lse + n.tokens * n.heads, 0.0f);
  return {};
}

size_t attention_workspace(const Arguments& a) {
  const Sizes n = sizes_of(a.in[0], a.in[1], a.in[3]);
  const TileShape shape{n.group(), n.head, 0};
  const auto threads = static_cast<size_t>(a.pool->threads());
  if (in_bfloat16(a, a.in[0].dtype))
    return align64(sizeof(Pair) * static_cast<size_t>(n.blocks(pair_keys) * (panel_pairs(n.head) + across_pairs(n.head)))) + threads * PairTile::bytes(shape);
  const bool wide = a.in[0].dtype == DType::float64;
  return align64(2 * size_of(a.in[0].dtype) * static_cast<size_t>(n.blocks(block_keys) * block_keys * n.head)) +
         threads * (wide ? Tile<double>::bytes(shape) : Tile<float>::bytes(shape));
}

Status attention(const Arguments& a) {
  if (in_bfloat16(a, a.in[0].dtype)) return attention_in_bfloat16(a);
  return a.in[0].dtype == DType::float64 ? attention_of<double>(a) : attention_of<float>(a);
}

// What attention_grad keeps of keys and values in float32 (or float64); PairBlocks of attention_bfloat16.h is the same in bfloat16.
template <class T> struct NumberBlocks {
  using Number = T;
  static constexpr int64_t keys = block_keys;
  T *key_panels, *value_panels, *key_rows;  // [H][32], [H][32], [32][H]
  int64_t head;

  static size_t bytes(int64_t blocks, int64_t head) { return align64(3 * sizeof(T) * static_cast<size_t>(blocks * block_keys * head)); }
  NumberBlocks(uint8_t* memory, int64_t blocks, int64_t head)
      : key_panels(reinterpret_cast<T*>(memory)), value_panels(key_panels + blocks * block_keys * head), key_rows(value_panels + blocks * block_keys * head), head(head) {}

  void pack(int64_t block, const T* k, const T* v, int64_t stride, int64_t tokens, bool) const {
    const int64_t to = block * block_keys * head;
    pack_block<T>(k, stride, tokens, head, key_panels + to, key_rows + to);
    pack_block<T>(v, stride, tokens, head, value_panels + to, nullptr);
  }

  // One tile of queries against a block; rows are pairs of tokens and heads, in the order of both.
  struct Tile {
    T *q, *dout, *dq;           // [rows][H]; q times scale
    T *probability, *dscore;    // [rows][32]
    T *lse, *delta;             // [rows]

    static size_t bytes(int64_t rows, int64_t head) { return align64(sizeof(T) * static_cast<size_t>(rows * (3 * head + 2 * block_keys + 2))); }
    Tile(uint8_t* memory, int64_t rows, int64_t head) {
      q = reinterpret_cast<T*>(memory);
      dout = q + rows * head;
      dq = dout + rows * head;
      probability = dq + rows * head;
      dscore = probability + rows * block_keys;
      lse = dscore + rows * block_keys;
      delta = lse + rows;
    }
    void load_row(int64_t r, const T* q_row, const T* dout_row, int64_t head, T scale) const {
      for (int64_t h = 0; h < head; h++) q[r * head + h] = q_row[h] * scale;
      std::copy_n(dout_row, head, dout + r * head);
    }
    void loaded(int64_t, int64_t) const {}
  };

  // Adds what the queries at [position, …) of the tile and the block at `start` of their document, packed as number `block`, give each other.
  void add(const Tile& tile, const TileShape& shape, int64_t block, int64_t start, int64_t count, int64_t position, int64_t tokens, T* dk, T* dv, int64_t stride) const {
    const int64_t rows = tokens * shape.group, packed = block * block_keys * head;
    const bool whole = start + block_keys - 1 <= position && shape.first_key(position + tokens - 1) <= start;
    multiply<Start::zero>(rows, block_keys, Product<T, T>{tile.q, head, 1, key_panels + packed, block_keys, tile.probability, block_keys, head});
    multiply<Start::zero>(rows, block_keys, Product<T, T>{tile.dout, head, 1, value_panels + packed, block_keys, tile.dscore, block_keys, head});
    for (int64_t r = 0; r < rows; r++) {
      T *p = tile.probability + r * block_keys, *ds = tile.dscore + r * block_keys;
      const Lanes<T> shift = splat(tile.lse[r]), delta_r = splat(tile.delta[r]);
      Lanes<T> low = softmax_exponential<T>(load(p) - shift), high = softmax_exponential<T>(load(p + lanes) - shift);
      Lanes<T> dlow = low * (load(ds) - delta_r), dhigh = high * (load(ds + lanes) - delta_r);
      if (!whole) {
        const int64_t own = position + r / shape.group;
        const int64_t begin = shape.first_key(own) - start, end = own + 1 - start;
        keep_range<T>(low, high, begin, end, 0);
        keep_range<T>(dlow, dhigh, begin, end, 0);
      }
      store(p, low);
      store(p + lanes, high);
      store(ds, dlow);
      store(ds + lanes, dhigh);
    }
    multiply<Start::keep>(rows, head, Product<T, T>{tile.dscore, block_keys, 1, key_rows + packed, head, tile.dq, head, count});
    multiply<Start::keep>(count, head, Product<T, T>{tile.probability, 1, block_keys, tile.dout, head, dv, stride, rows});
    multiply<Start::keep>(count, head, Product<T, T>{tile.dscore, 1, block_keys, tile.q, head, dk, stride, rows});
  }
};

int64_t grad_tokens(int64_t group) { return std::clamp<int64_t>(grad_rows / group, 1, chunk_tokens); }

template <class Blocks> Status attention_grad_of(const Arguments& a) {
  using T = typename Blocks::Number;
  using Tile = typename Blocks::Tile;
  const Sizes n = sizes_of(a.in[1], a.in[2], a.in[6]);
  const T *dout = a.in[0].as<T>(), *q = a.in[1].as<T>(), *k = a.in[2].as<T>(), *v = a.in[3].as<T>(), *o = a.in[4].as<T>(), *lse = a.in[5].as<T>();
  T *dq = a.out[0].as<T>(), *dk = a.out[1].as<T>(), *dv = a.out[2].as<T>();
  const T scale = static_cast<T>(a.attribute[0]);
  const int64_t group = n.group(), head = n.head;
  const TileShape shape{group, head, a.integer(1)};
  Ragged ragged;
  if (Status status = read_ragged("attention_grad", a.in[6], n.tokens, &ragged); !status.ok()) return status;

  const Blocks blocks(a.workspace, n.blocks(Blocks::keys), head);
  T* delta = reinterpret_cast<T*>(a.workspace + Blocks::bytes(n.blocks(Blocks::keys), head));  // [T,N]
  uint8_t* scratch = reinterpret_cast<uint8_t*>(delta) + align64(sizeof(T) * static_cast<size_t>(n.tokens * n.heads));
  const int64_t q_stride = n.heads * head, kv_stride = n.kv_heads * head;

  a.pool->run(count_pieces(ragged, Blocks::keys) * n.kv_heads, [&](int64_t task, int) {
    const Piece piece = find_piece(ragged, Blocks::keys, task / n.kv_heads);
    const int64_t kv_head = task % n.kv_heads, from = piece.begin * kv_stride + kv_head * head;
    blocks.pack(n.block_of(ragged, piece, kv_head, Blocks::keys), k + from, v + from, kv_stride, piece.end - piece.begin, a.pool->apart());
    for (int64_t t = piece.begin; t < piece.end; t++)
      for (int64_t i = kv_head * group; i < (kv_head + 1) * group; i++) {
        const T *left = dout + t * q_stride + i * head, *right = o + t * q_stride + i * head;
        delta[t * n.heads + i] = sum_of<T>(head, [&](int64_t h) { return left[h] * right[h]; });
      }
  });

  const bool past_caches = a.pool->apart();
  int64_t phases = 0;
  for (int64_t s = 0; s < n.sequences; s++)
    phases = std::max(phases, (ragged.end(s) - ragged.begin(s) + chunk_tokens - 1) / chunk_tokens);
  if (shape.window > 0) phases = std::min(phases, (shape.window + chunk_tokens - 2) / chunk_tokens + 1);

  for (int64_t phase = 0; phase < phases; phase++) {
    const int64_t distance = phase * chunk_tokens;
    // Pairs of chunks of this phase: those of the query axis that are at least `phase` chunks from their document's start.
    auto pairs_of = [&](int64_t s) { return std::max<int64_t>(0, (ragged.end(s) - ragged.begin(s) - distance + chunk_tokens - 1) / chunk_tokens); };
    int64_t pairs = 0;
    for (int64_t s = 0; s < n.sequences; s++) pairs += pairs_of(s);
    a.pool->run(pairs * n.kv_heads, [&](int64_t task, int thread) {
      int64_t s = 0, pair = task / n.kv_heads;
      const int64_t kv_head = task % n.kv_heads;
      for (; pair >= pairs_of(s); s++) pair -= pairs_of(s);
      const int64_t document = ragged.begin(s), length = ragged.end(s) - document;
      const int64_t key_begin = pair * chunk_tokens, key_end = std::min(length, key_begin + chunk_tokens);
      const int64_t query_begin = key_begin + distance, query_end = std::min(length, query_begin + chunk_tokens);
      const int64_t first_block = n.first_block(ragged, s, kv_head, Blocks::keys);
      T *dk_head = dk + document * kv_stride + kv_head * head, *dv_head = dv + document * kv_stride + kv_head * head;
      if (phase == 0)
        for (int64_t t = key_begin; t < key_end; t++)
          for (T* to : {dk_head + t * kv_stride, dv_head + t * kv_stride})
            make_row(to, head, past_caches, [&](T* row) { std::fill_n(row, head, T(0)); });
      const int64_t step = grad_tokens(group), width = group * head;
      Tile tile(a.pool->own(thread, Tile::bytes(step * group, head), scratch), step * group, head);
      for (int64_t position = query_begin; position < query_end; position += step) {
        const int64_t tokens = std::min(step, query_end - position);
        const int64_t row = (document + position) * q_stride + kv_head * width;
        const int64_t number = (document + position) * n.heads + kv_head * group;
        for (int64_t t = 0; t < tokens; t++) {
          for (int64_t i = 0; i < group; i++)
            tile.load_row(t * group + i, q + row + t * q_stride + i * head, dout + row + t * q_stride + i * head, head, scale);
          std::copy_n(lse + number + t * n.heads, group, tile.lse + t * group);
          std::copy_n(delta + number + t * n.heads, group, tile.delta + t * group);
        }
        tile.loaded(tokens * group, head);
        std::fill_n(tile.dq, tokens * width, T(0));
        for (int64_t key = key_begin; key < key_end && key < position + tokens; key += Blocks::keys) {
          if (key + Blocks::keys <= shape.first_key(position)) continue;
          blocks.add(tile, shape, first_block + key / Blocks::keys, key, std::min(Blocks::keys, key_end - key), position, tokens, dk_head + key * kv_stride,
                     dv_head + key * kv_stride, kv_stride);
        }
        for (int64_t t = 0; t < tokens; t++) {
          T* to = dq + row + t * q_stride;
          const T* from = tile.dq + t * width;
          if (phase == 0)
            make_row(to, width, past_caches, [&](T* made) {
              for (int64_t i = 0; i < width; i++) made[i] = from[i] * scale;
            });
          else
            for (int64_t i = 0; i < width; i++) to[i] += from[i] * scale;
        }
      }
    });
  }
  const int64_t used = ragged.rows();
  std::fill(dq + used * q_stride, dq + n.tokens * q_stride, T(0));
  std::fill(dk + used * kv_stride, dk + n.tokens * kv_stride, T(0));
  std::fill(dv + used * kv_stride, dv + n.tokens * kv_stride, T(0));
  return {};
}

template <class Blocks> size_t attention_grad_bytes(const Arguments& a) {
  const Sizes n = sizes_of(a.in[1], a.in[2], a.in[6]);
  return Blocks::bytes(n.blocks(Blocks::keys), n.head) + align64(sizeof(typename Blocks::Number) * static_cast<size_t>(n.tokens * n.heads)) +
         static_cast<size_t>(a.pool->threads()) * Blocks::Tile::bytes(grad_tokens(n.group()) * n.group(), n.head);
}

size_t attention_grad_workspace(const Arguments& a) {
  if (in_bfloat16(a, a.in[1].dtype)) return attention_grad_bytes<PairBlocks>(a);
  return a.in[1].dtype == DType::float64 ? attention_grad_bytes<NumberBlocks<double>>(a) : attention_grad_bytes<NumberBlocks<float>>(a);
}

Status attention_grad(const Arguments& a) {
  if (in_bfloat16(a, a.in[1].dtype)) return attention_grad_of<PairBlocks>(a);
  return a.in[1].dtype == DType::float64 ? attention_grad_of<NumberBlocks<double>>(a) : attention_grad_of<NumberBlocks<float>>(a);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(attention)
ZAYA_OPERATION_WITH_WORKSPACE(attention_grad)

}  // namespace zaya::ZAYA_ISA
