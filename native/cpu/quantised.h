// Weights in quantised panels, and products with them: y[m, n] = sum over k of x[m, k] · w[n, k], the operands as 8-bit integers.
//
// A weight w [N, K] (a matrix of the leading dimensions after the other): ceil(N/32) panels of 32 rows. A panel is cut along k into
// blocks of 256 columns; the last one holds what is left, rounded up to a multiple of 32. Of w in a block
//   w = scale · v,  v an integer from −128 to 127, scale a float32 for each row.
// int8 stores v; int4 and int6 store q, and for each row and 32 columns (a group) a step and an offset, v = offset + step · q: they are int8
// in less space, and everything after unpacking is the same. A block is its groups one after the other, then the 32 scales (0 for missing
// rows). A group of 32 rows and 8 quads of columns lies as
//   int8   [8][32][4]   v + 128
//   int4   [8][16][4]   q (0…15) of row r in the low half of a byte, of row 16 + r in the high half
//          [32], [32]   step (unsigned) and offset (signed) of each row
//   int6   [8][16][4]   the low four bits of q (0…63), like int4
//          [4][16][4]   the high two bits: quads 2i and 2i + 1 of row r in bits 0–1 and 4–5, of row 16 + r in bits 2–3 and 6–7
//          [32], [32]   step and offset
// Missing columns are 0 on the side of x.
//
// x is quantised row by row, a block of 256 columns at a time: x ≈ d · xq, d = max |x| / 127, xq rounded to nearest even.
// Accumulation: within a block integer, hence exact in any order; blocks ascending, y = fma(sum of v·xq, scale · d, y) on vector units,
// a product and an addition in the portable version. Neither the number of rows nor the cut into tasks appears in it.
#pragma once
#include <algorithm>

#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

constexpr int64_t quantised_rows = 32;    // of a panel
constexpr int64_t quantised_block = 256;  // columns that share a scale
constexpr int64_t quantised_group = 32;   // columns that share a step and an offset

inline int64_t quantised_columns(int64_t k) { return (k + quantised_group - 1) / quantised_group * quantised_group; }
inline int64_t blocks_of(int64_t k) { return (k + quantised_block - 1) / quantised_block; }
inline int64_t block_columns(int64_t k, int64_t block) { return std::min(quantised_block, quantised_columns(k) - block * quantised_block); }

// Bytes of a group of 32 rows and 32 columns, and of a block.
inline int64_t group_bytes(DType dtype) { return dtype == DType::int8 ? 1024 : dtype == DType::int6 ? 832 : 576; }
inline int64_t block_bytes(DType dtype, int64_t columns) { return columns / quantised_group * group_bytes(dtype) + quantised_rows * 4; }
inline int64_t quantised_panels(int64_t n) { return (n + quantised_rows - 1) / quantised_rows; }
inline int64_t quantised_panel_bytes(DType dtype, int64_t k) {
  return blocks_of(k) == 0 ? 0 : (blocks_of(k) - 1) * block_bytes(dtype, quantised_block) + block_bytes(dtype, block_columns(k, blocks_of(k) - 1));
}

// A matrix in quantised panels.
struct QuantisedWeight {
  const uint8_t* panels = nullptr;
  DType dtype = DType::int8;
  int64_t n = 0, k = 0;

  const uint8_t* panel(int64_t i) const { return panels + i * quantised_panel_bytes(dtype, k); }
};
// The weight w [.., N, K] of an operation; `matrix` counts the leading dimensions.
QuantisedWeight quantised_weight(const Tensor& w, int64_t matrix);
inline bool is_quantised(const Tensor& w) {
  return w.encoding == Encoding::panels && (w.dtype == DType::int8 || w.dtype == DType::int6 || w.dtype == DType::int4);
}

// Packs w (row-major, float32, bfloat16 or float64) into `panels`. importance [k] or null: the weight of each column's squared error in
// the choice of step and offset.
void quantise_weight(Pool& pool, const Tensor& w, int64_t first_row, int64_t n, int64_t k, const float* importance, DType dtype, uint8_t* panels);

// Elements [0, K) of row `row`, in T.
template <class T> void dequantise_row(const QuantisedWeight& w, int64_t row, T* out);

// Kernels take at most so many rows of x at a time, a strip. The rows of a product are cut into as few strips as will do, as equal as can be: few rows leave
// multipliers idle. On Zen 5 a tile of 8 int8 rows reaches 89 % of the peak, of 12 rows 86 %.
constexpr int64_t strip_rows = 8;
inline int64_t strips_of(int64_t rows) { return (rows + strip_rows - 1) / strip_rows; }
inline int64_t strip_begin(int64_t rows, int64_t strip) { return rows * strip / strips_of(rows); }

// One row and block of x as integers.
struct alignas(64) QuantisedRecord {
  int8_t values[quantised_block];
  float scale;                                    // d
  int32_t start;                                  // −128 · sum of the values
  float sums[quantised_block / quantised_group];  // of the values of a group
};
static_assert(sizeof(QuantisedRecord) == row_record_bytes);

// Rows of x as integers; a tensor of the encoding `rows` is such. Block after block, in a block the records of all rows: those of a strip lie one after the other.
class QuantisedRows {
 public:
  static size_t bytes(int64_t rows, int64_t k) { return static_cast<size_t>(rows * blocks_of(k)) * sizeof(QuantisedRecord); }  // of the workspace
  QuantisedRows(void* records, int64_t rows, int64_t k) : k(k), rows(rows), records_(static_cast<QuantisedRecord*>(records)) {}

  // Quantises one row.
  void fill(int64_t row, const float* x, bool past_caches) const;
  void copy(int64_t row, const QuantisedRows& source, int64_t from) const {
    for (int64_t b = 0; b < blocks_of(k); b++) at(row, b) = source.at(from, b);
  }
  // The rows from one on, of the same records.
  QuantisedRows from(int64_t row) const { return {records_ + row, rows, k}; }
  QuantisedRecord& at(int64_t row, int64_t block) const { return records_[block * rows + row]; }

  int64_t k, rows;

 private:
  QuantisedRecord* records_;
};

// A product of a list: rows first … first + m of x (quantised beforehand) times w, to c [m, n].
struct QuantisedProduct {
  QuantisedWeight w;
  int64_t panels = 0;  // of the result: those of w, or fewer where a task takes several
  int64_t first = 0, m = 0;
  float* c = nullptr;
  int64_t c_stride = 0;
  const int32_t* index = nullptr;  // [m]: row i goes to row index[i] of c,
  const float* factor = nullptr;   // times factor[index[i]]
  const float* bias = nullptr;     // [n], added last, where there is no index
};

// Makes the list of the products of experts that have any rows, expert e's being offsets[e] … offsets[e + 1]; returns how many there are.
inline int64_t list_experts(const Tensor& w, const int32_t* offsets, QuantisedProduct* products) {
  int64_t count = 0;
  for (int64_t e = 0; e < w.shape[0]; e++) {
    if (offsets[e] == offsets[e + 1]) continue;
    QuantisedProduct p;
    p.w = quantised_weight(w, e);
    p.panels = quantised_panels(p.w.n);
    p.first = offsets[e], p.m = offsets[e + 1] - offsets[e];
    products[count++] = p;
  }
  return count;
}

// The strips of a product that are multiplied together with a panel, while it is in the cache.
struct QuantisedPiece {
  const QuantisedProduct* product = nullptr;
  int64_t strip0 = 0, strip1 = 0;

  // Rows of the product.
  int64_t begin() const { return strip_begin(product->m, strip0); }
  int64_t end() const { return strip_begin(product->m, strip1); }
  int64_t rows() const { return end() - begin(); }
};

constexpr int64_t piece_strips = 36;  // at most
constexpr int64_t tile_elements = piece_strips * strip_rows * quantised_rows;

// What a thread works in, in memory of its own: the sums of a piece and a panel, those of its twin, and an unpacked block.
struct alignas(64) QuantisedScratch {
  float tile[tile_elements];
  float twin[tile_elements];
  uint8_t block[quantised_rows * quantised_block];

  static QuantisedScratch& of(const Pool& pool, int thread) { return *reinterpret_cast<QuantisedScratch*>(pool.own(thread)); }
};
static_assert(sizeof(QuantisedScratch) <= Pool::own_bytes);

// tiles [end - panel][rows][32] = the rows of a piece times panels [panel, end) of w.
// With twin > 0 then also twin_tiles = the rows times panels [panel + twin, end + twin).
// While a block is multiplied the one after it is fetched, at the end of the last panel that of `next`: the panel the caller takes next, or null.
void multiply_panels(const QuantisedRows& x, const QuantisedPiece& piece, const QuantisedWeight& w, int64_t panel, int64_t end, const uint8_t* next,
                     float* tiles, uint8_t* scratch, int64_t twin = 0, float* twin_tiles = nullptr);
// Fetches the first block of a panel that is multiplied with so many rows. One row reads it as fast without.
void fetch_panel(const QuantisedWeight& w, int64_t panel, int64_t rows);

// Runs fn(piece, first panel, panel end, thread) over a list of products, each thread going through panels that lie one after the other.
template <class F> void for_runs(Pool& pool, const QuantisedProduct* products, int64_t count, F&& fn) {
  constexpr int64_t panel_cost = 8;  // of bringing a panel, in rows multiplied with it
  // A product that is the only one is cut by threads too, in pieces of so many strips at least: a thread then keeps to rows it made itself, as others may take
  // long to come from another core.
  constexpr int64_t least_own_strips = 12;
  // Calls body(piece, cost of all before it, cost of one of its panels) for every piece; returns the cost of all.
  auto each_piece = [&](auto&& body) {
    int64_t before = 0;
    for (const QuantisedProduct* p = products; p < products + count; p++) {
      const int64_t strips = strips_of(p->m), own = count > 1 ? 1 : std::clamp<int64_t>(strips / least_own_strips, 1, pool.threads());
      const int64_t pieces = own * ((strips + own * piece_strips - 1) / (own * piece_strips));
      for (int64_t i = 0; i < pieces; i++) {
        const QuantisedPiece piece{p, strips * i / pieces, strips * (i + 1) / pieces};
        const int64_t cost = piece.rows() + panel_cost;
        body(piece, before, cost);
        before += cost * p->panels;
      }
    }
    return before;
  };
  auto whole_panel = [&](int64_t end) {
    each_piece([&](const QuantisedPiece& piece, int64_t before, int64_t cost) {
      if (before < end && end < before + cost * piece.product->panels) end = before + (end - before + cost - 1) / cost * cost;
    });
    return end;
  };
  const int64_t all = each_piece([](const QuantisedPiece&, int64_t, int64_t) {});
  pool.run_streams(all, Pool::few_panels * (1 + panel_cost), whole_panel, [&](int64_t begin, int64_t end, int thread) {
    each_piece([&](const QuantisedPiece& piece, int64_t before, int64_t cost) {
      const int64_t panel0 = std::max<int64_t>(0, begin - before) / cost, panel1 = std::min(piece.product->panels, (end - before) / cost);
      if (panel0 < panel1) fn(piece, panel0, panel1, thread);
    });
  });
}

// Rows first … first + rows of x [.., K] as integers, or x[index[0 … rows]] where an index is given: as they lie where that is what they are, else made in
// `workspace`, of QuantisedRows::bytes.
QuantisedRows quantise_rows(Pool& pool, const Tensor& x, int64_t first, int64_t rows, void* workspace, const int32_t* index = nullptr);

// Runs a list of products of equal k.
void multiply(Pool& pool, const QuantisedRows& x, const QuantisedProduct* products, int64_t count);

}  // namespace zaya::ZAYA_ISA
