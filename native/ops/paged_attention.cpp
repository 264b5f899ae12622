// paged_attention(q [T,N,H], k_pages [P,K,H',32], v_pages [P,K,32,H'], cu_seqlens int32 [S+1], cached int32 [S], page_table int32 [S,M])
//   {scale, window} → o [T,N,H]
//   Sequence s has cached[s] + its rows in this batch as keys; its row t has position cached[s] + t − cu_seqlens[s]. Keys 32·i … 32·i + 31 are
//   in page page_table[s][i]; how they lie there is in cpu/attention_pages.h. H' = H, in int8 pages H + 4. The formula and its order are in
//   attention.h; float32 pages give the bits of `attention`.
//   A task is one tile of queries and one kv head, or, when there are few tokens (decoding), one span of 512 keys and up to 8 kv heads, or one where spans
//   are fewer than threads.
//
// kv_append(k_pages, v_pages, k [T,K,H], v [T,K,H], cu_seqlens, cached, page_table) → k_pages', v_pages'
//   Writes each row's key and value at its position, rounded to the pages' type. In place where the plan says so.
//   Indices that lead out of the pages are refused; nothing is written then.
#include "cpu/streaming.h"
#include "ops/attention.h"

namespace zaya::ZAYA_ISA {
namespace {

// Batches of more tokens are not cut into spans: they have tasks enough, and this bounds the workspace.
constexpr int64_t split_tokens = 16;

struct Paging {
  Ragged ragged;
  const int32_t *cached, *page_table;
  int64_t pages_each;  // M

  int64_t length(int64_t s) const { return cached[s] + (ragged.end(s) - ragged.begin(s)); }
  int64_t page(int64_t s, int64_t block) const { return page_table[s * pages_each + block]; }
};

// The pages read (or written) for the rows of this batch must exist; first_key(cached) is the oldest key needed.
template <class FirstKey>
Status read_paging(const char* operation, const Tensor* in, int64_t tokens, int64_t pages, const FirstKey& first_key, Paging* paging) {
  const Tensor &cu_seqlens = in[0], &cached = in[1], &page_table = in[2];
  if (Status status = read_ragged(operation, cu_seqlens, tokens, &paging->ragged); !status.ok()) return status;
  const int64_t sequences = paging->ragged.sequences;
  if (cached.size() != sequences || page_table.rank != 2 || page_table.shape[0] != sequences)
    return error("[%s] expected cached and page_table of one row for each of the %lld sequences", operation, static_cast<long long>(sequences));
  paging->cached = cached.as<int32_t>();
  paging->page_table = page_table.as<int32_t>();
  paging->pages_each = page_table.shape[1];
  for (int64_t s = 0; s < sequences; s++) {
    const int64_t rows = paging->ragged.end(s) - paging->ragged.begin(s);
    if (rows == 0) continue;
    if (paging->cached[s] < 0 || paging->length(s) > paging->pages_each * block_keys)
      return error("[%s] sequence %lld: %d cached and %lld new tokens do not fit its page_table of %lld pages of 32 tokens", operation,
                   static_cast<long long>(s), paging->cached[s], static_cast<long long>(rows), static_cast<long long>(paging->pages_each));
    for (int64_t block = first_key(paging->cached[s]) / block_keys; block * block_keys < paging->length(s); block++)
      if (paging->page(s, block) < 0 || paging->page(s, block) >= pages)
        return error("[%s] sequence %lld: page_table names page %lld, there are %lld", operation, static_cast<long long>(s),
                     static_cast<long long>(paging->page(s, block)), static_cast<long long>(pages));
  }
  return {};
}

int64_t max_spans(const Tensor& page_table) { return (page_table.shape[1] + span_blocks - 1) / span_blocks; }

// Kv heads that a task treats together when there are few tokens.
constexpr int64_t most_heads = 8;

// Bytes of workspace of a thread: a line, then its tiles.
template <class T, class P> size_t bytes_of_thread(const TileShape& shape, int64_t kv_heads) {
  return 64 + static_cast<size_t>(std::min(kv_heads, most_heads)) * Tile<T, P>::bytes(shape);
}

template <class T, class P> Status paged_attention_of(const Arguments& a) {
  const Tensor& q_tensor = a.in[0];
  const int64_t tokens = q_tensor.shape[0], heads = q_tensor.shape[1], head = q_tensor.shape[2], kv_heads = a.in[1].shape[1];
  const T* q = q_tensor.as<T>();
  const P *k_pages = a.in[1].as<P>(), *v_pages = a.in[2].as<P>();
  T* o = a.out[0].as<T>();
  const T scale = static_cast<T>(a.attribute[0]);
  const TileShape shape{heads / kv_heads, head, a.integer(1)};
  Paging paging;
  auto first_key = [&](int64_t position) { return shape.first_key(position); };
  if (Status status = read_paging("paged_attention", a.in + 3, tokens, a.in[1].shape[0], first_key, &paging); !status.ok()) return status;

  const int64_t stride = heads * head, group_width = shape.group * head, pieces = count_pieces(paging.ragged, shape.tokens());
  const size_t tile_bytes = Tile<T, P>::bytes(shape), thread_bytes = bytes_of_thread<T, P>(shape, kv_heads);
  auto position_of = [&](const Piece& piece) { return paging.cached[piece.sequence] + piece.begin - paging.ragged.begin(piece.sequence); };
  auto spans_of = [&](const Piece& piece) {
    const int64_t position = position_of(piece);
    return Range{first_span(shape, position), end_span(position + piece.end - piece.begin - 1)};
  };
  auto loaded_at = [&](int thread) { return reinterpret_cast<int64_t*>(a.workspace + static_cast<size_t>(thread) * thread_bytes); };
  auto tile_at = [&](const Piece& piece, int64_t index, int thread) {
    Tile<T, P> tile(reinterpret_cast<uint8_t*>(loaded_at(thread)) + 64 + static_cast<size_t>(index) * tile_bytes, shape);
    tile.rows = (piece.end - piece.begin) * shape.group;
    tile.first_position = position_of(piece);
    return tile;
  };
  auto load = [&](Tile<T, P>& tile, const Piece& piece, int64_t kv_head) {
    load_queries(tile, shape, q + piece.begin * stride + kv_head * group_width, stride, piece.end - piece.begin, position_of(piece), scale);
  };
  auto write = [&](const Tile<T, P>& tile, const Piece& piece, int64_t kv_head) {
    write_outputs(tile, shape, o + piece.begin * stride + kv_head * group_width, stride, static_cast<T*>(nullptr), heads);
  };
  auto place = [&](const Piece& piece, int64_t kv_head, int64_t block) {
    return (paging.page(piece.sequence, block) * kv_heads + kv_head) * block_elements<P>(head);
  };
  std::fill(o + paging.ragged.rows() * stride, o + tokens * stride, T(0));

  if (tokens > split_tokens) {
    a.pool->run(pieces * kv_heads, [&](int64_t task, int thread) {
      task = pieces * kv_heads - 1 - task;  // the longest first
      const Piece piece = find_piece(paging.ragged, shape.tokens(), task / kv_heads);
      const int64_t kv_head = task % kv_heads;
      Tile<T, P> tile = tile_at(piece, 0, thread);
      load(tile, piece, kv_head);
      start_total(tile);
      const Range spans = spans_of(piece);
      for (int64_t span = spans.begin; span < spans.end; span++) {
        attend_span(tile, shape, span, [&](int64_t block) { return k_pages + place(piece, kv_head, block); },
                    [&](int64_t block) { return v_pages + place(piece, kv_head, block); });
        merge(tile, shape, tile.span);
      }
      write(tile, piece, kv_head);
    });
    return {};
  }

  // Few tokens: several kv heads are treated block by block, so that pages are read in the order in which they lie.
  Piece piece_of[split_tokens];
  int64_t first_task[split_tokens + 1] = {0};
  for (int64_t i = 0; i < pieces; i++) {
    piece_of[i] = find_piece(paging.ragged, shape.tokens(), i);
    first_task[i + 1] = first_task[i] + spans_of(piece_of[i]).count();
  }
  const int64_t tasks = first_task[pieces], heads_each = tasks < a.pool->threads() ? 1 : std::min(kv_heads, most_heads);
  const int64_t shares = (kv_heads + heads_each - 1) / heads_each;
  T* partials = reinterpret_cast<T*>(a.workspace + static_cast<size_t>(a.pool->threads()) * thread_bytes);
  auto partial = [&](int64_t i, int64_t span, int64_t kv_head) {
    const Piece& piece = piece_of[i];
    const int64_t rows = (piece.end - piece.begin) * shape.group, before = piece.begin * max_spans(a.in[5]) + (span - spans_of(piece).begin) * (piece.end - piece.begin);
    return Partial<T>::at(partials + Partial<T>::elements(before * heads + kv_head * rows, head), rows, head);
  };
  for (int thread = 0; thread < a.pool->threads(); thread++) *loaded_at(thread) = -1;
  a.pool->run(tasks * shares, [&](int64_t task, int thread) {
    const int64_t share = task % shares, first_head = share * heads_each, count = std::min(heads_each, kv_heads - first_head);
    const int64_t i = std::upper_bound(first_task, first_task + pieces, task / shares) - first_task - 1;
    const Piece& piece = piece_of[i];
    const Range spans = spans_of(piece);
    const int64_t span = spans.begin + task / shares - first_task[i];
    Tile<T, P> tiles[most_heads];
    Step<T, P> steps[most_heads];
    int64_t& loaded = *loaded_at(thread);  // whose queries the tiles hold
    for (int64_t n = 0; n < count; n++) {
      tiles[n] = tile_at(piece, n, thread);
      if (loaded != i * shares + share) load(tiles[n], piece, first_head + n);
      start_span(tiles[n], shape);
    }
    loaded = i * shares + share;
    const Range blocks = blocks_of(shape, span, position_of(piece), piece.end - piece.begin);
    const int64_t last_block = (position_of(piece) + piece.end - piece.begin - 1) / block_keys;
    auto first_at = [&](int64_t block) { return place(piece, first_head, block); };
    for (int64_t block = blocks.begin; block < blocks.end; block++) {
      for (int64_t n = 0; n < count; n++) {
        const int64_t at = first_at(block) + n * block_elements<P>(head);
        steps[n] = {&tiles[n], k_pages + at, v_pages + at};
      }
      // After a span the thread will likely take the one behind those that the others have.
      const int64_t next = block + 1 < blocks.end ? block + 1 : std::min(block + 1 + (a.pool->threads() - 1) * span_blocks, last_block);
      LinesAhead ahead(k_pages + first_at(next), v_pages + first_at(next), count * block_elements<P>(head) * static_cast<int64_t>(sizeof(P)));
      attend(steps, count, block, shape, &ahead);
    }
    for (int64_t n = 0; n < count; n++) {
      Tile<T, P>& tile = tiles[n];
      finish_span(tile);
      if (spans.count() == 1) {
        start_total(tile);
        merge(tile, shape, tile.span);
        write(tile, piece, first_head + n);
      } else {
        const Partial<T> to = partial(i, span, first_head + n);
        copy_bytes(to.o, tile.span.o, static_cast<size_t>(tile.rows * head) * sizeof(T), a.pool->apart());
        std::copy_n(tile.span.maximum, tile.rows, to.maximum);
        std::copy_n(tile.span.sum, tile.rows, to.sum);
      }
    }
  });
  if (tasks > pieces)
    a.pool->run(pieces * kv_heads, [&](int64_t task, int thread) {
      const int64_t i = task / kv_heads, kv_head = task % kv_heads;
      const Range spans = spans_of(piece_of[i]);
      if (spans.count() == 1) return;
      Tile<T, P> tile = tile_at(piece_of[i], 0, thread);
      start_total(tile);
      for (int64_t span = spans.begin; span < spans.end; span++) merge(tile, shape, partial(i, span, kv_head));
      write(tile, piece_of[i], kv_head);
    });
  return {};
}

template <class T, class P> size_t workspace_of(const Arguments& a) {
  const Tensor& q = a.in[0];
  const int64_t kv_heads = a.in[1].shape[1], head = q.shape[2];
  const TileShape shape{q.shape[1] / kv_heads, head, 0};
  const size_t rows = static_cast<size_t>(std::min(q.shape[0], split_tokens) * q.shape[1] * max_spans(a.in[5]));
  return static_cast<size_t>(a.pool->threads()) * bytes_of_thread<T, P>(shape, kv_heads) + rows * Partial<T>::elements(1, head) * sizeof(T);
}

// Calls body<T, P>() for the type of the rows and the type of the pages.
template <class Body> auto with_types(const Tensor& rows, const Tensor& pages, const Body& body) {
  if (rows.dtype == DType::float64) return body.template operator()<double, double>();
  if (pages.dtype == DType::int8) return body.template operator()<float, int8_t>();
  if (pages.dtype == DType::bfloat16) return body.template operator()<float, bfloat16>();
  return body.template operator()<float, float>();
}

size_t paged_attention_workspace(const Arguments& a) {
  return with_types(a.in[0], a.in[1], [&]<class T, class P> { return workspace_of<T, P>(a); });
}

Status paged_attention(const Arguments& a) {
  return with_types(a.in[0], a.in[1], [&]<class T, class P> { return paged_attention_of<T, P>(a); });
}

// Writes row `slot` of a block: x [H] as keys or as values; `at` gives the place of each number.
template <class P, class T, class Place>
void store_row(const T* x, int64_t head, [[maybe_unused]] int64_t slot, P* block, [[maybe_unused]] int bias, const Place& at) {
  if constexpr (std::is_same_v<P, int8_t>) {
    const Quantised quantised(x, head);
    block_steps(block, head)[slot] = quantised.step;
    quantised.each(x, head, [&](int64_t first, auto integers) {
      integers += bias;
      for (int64_t i = 0; i < std::min<int64_t>(lanes, head - first); i++) block[at(first + i)] = static_cast<int8_t>(integers[i]);
    });
  } else if constexpr (std::is_same_v<P, bfloat16>) {
    for (int64_t begin = 0; begin < head; begin += lanes) {
      bfloat16 numbers[lanes];
      const int64_t count = std::min<int64_t>(lanes, head - begin);
      round_row(x + begin, count, numbers);
      for (int64_t h = 0; h < count; h++) block[at(begin + h)] = numbers[h];
    }
  } else {
    for (int64_t h = 0; h < head; h++) block[at(h)] = x[h];
  }
}

template <class T, class P> Status kv_append_of(const Arguments& a) {
  const int64_t pages = a.in[0].shape[0], kv_heads = a.in[2].shape[1], head = a.in[2].shape[2], tokens = a.in[2].shape[0];
  const T *k = a.in[2].as<T>(), *v = a.in[3].as<T>();
  P *k_pages = a.out[0].as<P>(), *v_pages = a.out[1].as<P>();
  Paging paging;
  auto first_key = [](int64_t position) { return position; };
  if (Status status = read_paging("kv_append", a.in + 4, tokens, pages, first_key, &paging); !status.ok()) return status;
  const size_t bytes = static_cast<size_t>(a.in[0].size()) * sizeof(P);
  if (a.in[0].data != a.out[0].data) std::memcpy(k_pages, a.in[0].data, bytes);
  if (a.in[1].data != a.out[1].data) std::memcpy(v_pages, a.in[1].data, bytes);

  a.pool->run(count_pieces(paging.ragged, block_keys), [&](int64_t task, int) {
    const Piece piece = find_piece(paging.ragged, block_keys, task);
    for (int64_t t = piece.begin; t < piece.end; t++) {
      const int64_t position = paging.cached[piece.sequence] + t - paging.ragged.begin(piece.sequence);
      const int64_t page = paging.page(piece.sequence, position / block_keys), slot = position % block_keys;
      for (int64_t i = 0; i < kv_heads; i++) {
        const int64_t row = (t * kv_heads + i) * head, block = (page * kv_heads + i) * block_elements<P>(head);
        store_row(k + row, head, slot, k_pages + block, 128, [&](int64_t h) { return key_element<P>(h, slot); });
        store_row(v + row, head, slot, v_pages + block, 0, [&](int64_t h) { return value_element<P>(slot, h, head); });
      }
    }
  });
  return {};
}

Status kv_append(const Arguments& a) {
  return with_types(a.in[2], a.in[0], [&]<class T, class P> { return kv_append_of<T, P>(a); });
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(paged_attention)
ZAYA_OPERATION(kv_append)

}  // namespace zaya::ZAYA_ISA
