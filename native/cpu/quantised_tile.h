// What a micro-kernel of quantised.cpp is: the rows of a strip of x times one panel's block of 256 columns, added to c in float32. Each instruction set has
//   prepare_block(dtype, columns, rows, block, scratch)   the block as multiply_tile wants it for so many rows of x
//   multiply_tile(tile)
//   multiply_row(x, row, w, panel, end, twin, c, twin_c)  one row of x times panels [panel, end), to c [32 · panels], and if twin > 0 times those
//                                                         `twin` panels on, to twin_c; false: do it by tiles
// in quantised_tile_portable.h (the specification), quantised_tile_avx2.h, quantised_tile_avx512.h and quantised_row_avx512.h.
// The sums over a block are exact in integers (at most 127 · 128 · 256 < 2^24, so in float32 too); each kernel may take them in any order.
#pragma once
#include <array>
#include <utility>

#include "cpu/quantised.h"

namespace zaya::ZAYA_ISA {

// The values of a block, as they lie or unpacked to int8: what suits a kernel.
struct BlockValues {
  const uint8_t* values = nullptr;
  DType dtype = DType::int8;
};

struct QuantisedTile {
  BlockValues block;
  const uint8_t* ahead = nullptr;       // what to fetch meanwhile,
  int64_t pace = 0;                     // so many bytes of it for every 64 that are multiplied
  const float* scales = nullptr;        // [32]
  const QuantisedRecord* x = nullptr;   // [rows]
  int64_t k = 0;                        // columns of the block
  int rows = 0;
  float* c = nullptr;                   // [rows][32]
  bool accumulate = false;
};

typedef const int32_t Word __attribute__((may_alias));  // four columns of a row of x
inline Word& word_at(const int8_t* x) { return *reinterpret_cast<Word*>(x); }

// q of row r and column 4 · quad + s of a group of int4 or int6.
inline int packed_value(DType packed, const uint8_t* group, int64_t r, int64_t quad, int64_t s) {
  int q = group[quad * 64 + r % 16 * 4 + s] >> (r < 16 ? 0 : 4) & 15;
  if (packed == DType::int6) q |= (group[512 + quad / 2 * 64 + r % 16 * 4 + s] >> (quad % 2 * 4 + r / 16 * 2) & 3) << 4;
  return q;
}

}  // namespace zaya::ZAYA_ISA
