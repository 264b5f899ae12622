// paged_attention(q [T,N,H], k_pages [P,K,H,32], v_pages [P,K,32,H], cu_seqlens int32 [S+1], cached int32 [S], page_table int32 [S,M])
//   {scale, window} → o [T,N,H]
//   Sequence s has cached[s] + its rows in this batch as keys; its row t has position cached[s] + t − cu_seqlens[s]. Keys 32·i … 32·i + 31 are
//   in page page_table[s][i]. The formula and its order are in attention.h; float32 pages give the bits of `attention`.
//   A task is one tile of queries and one kv head; when there are few (decoding few sequences) the spans of 512 keys are tasks of their own.
//
// kv_append(k_pages, v_pages, k [T,K,H], v [T,K,H], cu_seqlens, cached, page_table) → k_pages', v_pages'
//   Writes each row's key and value at its position, rounded to the pages' type. In place where the plan says so.
//   Indices that lead out of the pages are refused; nothing is written then.
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

  const int64_t stride = heads * head, tiles = count_pieces(paging.ragged, shape.tokens()) * kv_heads;
  struct Work {
    Piece piece;
    int64_t kv_head, position, row;
  };
  auto find = [&](int64_t index) {
    const Piece piece = find_piece(paging.ragged, shape.tokens(), index / kv_heads);
    const int64_t kv_head = index % kv_heads;
    return Work{piece, kv_head, paging.cached[piece.sequence] + piece.begin - paging.ragged.begin(piece.sequence),
                piece.begin * stride + kv_head * shape.group * head};
  };
  auto open_tile = [&](const Work& work, int thread) {
    Tile<T> tile(a.workspace + static_cast<size_t>(thread) * Tile<T>::bytes(shape), shape);
    load_queries(tile, shape, q + work.row, stride, work.piece.end - work.piece.begin, work.position, scale);
    return tile;
  };
  auto attend = [&](Tile<T>& tile, const Work& work, int64_t span) {
    auto place = [&](int64_t block) { return (paging.page(work.piece.sequence, block) * kv_heads + work.kv_head) * block_keys * head; };
    attend_span(tile, shape, span, [&](int64_t block) { return k_pages + place(block); }, [&](int64_t block) { return v_pages + place(block); });
  };
  auto last_position = [](const Work& work) { return work.position + (work.piece.end - work.piece.begin) - 1; };

  const int64_t spans = max_spans(a.in[5]);
  if (tokens > split_tokens || spans == 1 || tiles >= 2 * a.pool->threads()) {
    a.pool->run(tiles, [&](int64_t task, int thread) {
      const Work work = find(tiles - 1 - task);
      Tile<T> tile = open_tile(work, thread);
      start_total(tile);
      for (int64_t span = first_span(shape, work.position); span < end_span(last_position(work)); span++) {
        attend(tile, work, span);
        merge(tile, shape, tile.span);
      }
      write_outputs<T>(tile, shape, o + work.row, stride, nullptr, heads);
    });
  } else {
    // Partial results of span i of a token's heads are at [token][kv head][span]; a tile's rows keep together.
    T* partials = reinterpret_cast<T*>(a.workspace + static_cast<size_t>(a.pool->threads()) * Tile<T>::bytes(shape));
    auto partial = [&](const Work& work, int64_t span) {
      const int64_t rows = (work.piece.end - work.piece.begin) * shape.group;
      const size_t first = Partial<T>::elements((work.piece.begin * kv_heads + work.kv_head * (work.piece.end - work.piece.begin)) * shape.group, head);
      return Partial<T>::at(partials + first * static_cast<size_t>(spans) + static_cast<size_t>(span) * Partial<T>::elements(rows, head), rows, head);
    };
    a.pool->run(tiles * spans, [&](int64_t task, int thread) {
      const Work work = find(task / spans);
      const int64_t span = task % spans;
      if (span < first_span(shape, work.position) || span >= end_span(last_position(work))) return;
      Tile<T> tile = open_tile(work, thread);
      attend(tile, work, span);
      const Partial<T> to = partial(work, span);
      std::copy_n(tile.span.o, tile.rows * head, to.o);
      std::copy_n(tile.span.maximum, tile.rows, to.maximum);
      std::copy_n(tile.span.sum, tile.rows, to.sum);
    });
    a.pool->run(tiles, [&](int64_t task, int thread) {
      const Work work = find(task);
      Tile<T> tile = open_tile(work, thread);
      start_total(tile);
      for (int64_t span = first_span(shape, work.position); span < end_span(last_position(work)); span++) merge(tile, shape, partial(work, span));
      write_outputs<T>(tile, shape, o + work.row, stride, nullptr, heads);
    });
  }
  std::fill(o + paging.ragged.rows() * stride, o + tokens * stride, T(0));
  return {};
}

size_t paged_attention_workspace(const Arguments& a) {
  const Tensor& q = a.in[0];
  const TileShape shape{q.shape[1] / a.in[1].shape[1], q.shape[2], 0};
  const bool wide = q.dtype == DType::float64;
  const size_t scratch = static_cast<size_t>(a.pool->threads()) * (wide ? Tile<double>::bytes(shape) : Tile<float>::bytes(shape));
  const size_t rows = static_cast<size_t>(std::min(q.shape[0], split_tokens) * q.shape[1]);
  return scratch + rows * static_cast<size_t>(max_spans(a.in[5])) * Partial<float>::elements(1, q.shape[2]) * size_of(q.dtype);
}

Status paged_attention(const Arguments& a) {
  if (a.in[0].dtype == DType::float64) return paged_attention_of<double, double>(a);
  return a.in[1].dtype == DType::bfloat16 ? paged_attention_of<float, bfloat16>(a) : paged_attention_of<float, float>(a);
}

template <class P, class T> P stored(T value) {
  if constexpr (std::is_same_v<P, bfloat16>)
    return to_bfloat16(static_cast<float>(value));
  else
    return static_cast<P>(value);
}

template <class T, class P> Status kv_append_of(const Arguments& a) {
  const int64_t pages = a.in[0].shape[0], kv_heads = a.in[0].shape[1], head = a.in[0].shape[2], tokens = a.in[2].shape[0];
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
        P* keys = k_pages + (page * kv_heads + i) * head * block_keys + slot;
        P* values = v_pages + ((page * kv_heads + i) * block_keys + slot) * head;
        const T *key = k + (t * kv_heads + i) * head, *value = v + (t * kv_heads + i) * head;
        for (int64_t h = 0; h < head; h++) keys[h * block_keys] = stored<P>(key[h]);
        for (int64_t h = 0; h < head; h++) values[h] = stored<P>(value[h]);
      }
    }
  });
  return {};
}

Status kv_append(const Arguments& a) {
  if (a.in[2].dtype == DType::float64) return kv_append_of<double, double>(a);
  return a.in[0].dtype == DType::bfloat16 ? kv_append_of<float, bfloat16>(a) : kv_append_of<float, float>(a);
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(paged_attention)
ZAYA_OPERATION(kv_append)

}  // namespace zaya::ZAYA_ISA
