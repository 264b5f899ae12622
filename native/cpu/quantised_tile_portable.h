// The specification of quantised_tile.h, and what runs without AVX2.
#pragma once
#include "cpu/quantised_tile.h"

namespace zaya::ZAYA_ISA {

// The specification: a block of int4 or int6 becomes int8, v + 128.
inline void unpack_block(DType packed, int64_t columns, const uint8_t* block, uint8_t* out) {
  for (int64_t quad = 0; quad < columns / 4; quad++) {
    const uint8_t* group = block + quad / 8 * group_bytes(packed);
    const uint8_t* parameters = group + group_bytes(packed) - 64;
    for (int64_t row = 0; row < quantised_rows; row++)
      for (int64_t s = 0; s < 4; s++)
        out[128 * quad + 4 * row + s] =
            static_cast<uint8_t>(128 + static_cast<int8_t>(parameters[quantised_rows + row]) + parameters[row] * packed_value(packed, group, row, quad % 8, s));
  }
}

inline BlockValues prepare_block(DType packed, int64_t columns, int64_t, const uint8_t* block, uint8_t* scratch) {
  if (packed == DType::int8) return {block, packed};
  unpack_block(packed, columns, block, scratch);
  return {scratch, DType::int8};
}

inline void multiply_tile(const QuantisedTile& t) {
  for (int row = 0; row < t.rows; row++) {
    int32_t sum[quantised_rows];
    for (int32_t& one : sum) one = t.x[row].start;
    for (int64_t quad = 0; quad < t.k / 4; quad++) {
      const int8_t* x = t.x[row].values + 4 * quad;
      const uint8_t* b = t.block.values + 128 * quad;
      for (int64_t j = 0; j < quantised_rows; j++)
        sum[j] += x[0] * b[4 * j] + x[1] * b[4 * j + 1] + x[2] * b[4 * j + 2] + x[3] * b[4 * j + 3];
    }
    float* c = t.c + row * quantised_rows;
    for (int64_t j = 0; j < quantised_rows; j++)
      c[j] = static_cast<float>(sum[j]) * (t.scales[j] * t.x[row].scale) + (t.accumulate ? c[j] : 0.0f);
  }
}

inline bool multiply_row(const QuantisedRows&, int64_t, const QuantisedWeight&, int64_t, int64_t, int64_t, float*, float*) { return false; }

}  // namespace zaya::ZAYA_ISA
