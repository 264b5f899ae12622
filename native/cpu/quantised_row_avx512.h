// One row of x times panels, for AVX-512 with VNNI. Such a product waits for memory alone, and how much a core has on its way depends on how many lines its
// loads name before the oldest must have arrived: so a panel is gone through in one loop, with as few instructions a line as will do. Where vectors have their
// full width four panels of int8 are read side by side, which the prefetchers of the hardware follow; elsewhere lines are fetched to the second cache. In one
// run on Zen 5 against the fastest of three loops that only read: four panels of int8 86 to 92 %, one 79 to 91, one that is fetched ahead 76 to 89; one panel
// of int4 that is fetched ahead 84 to 95, that is not 80 to 86, four panels 74 to 78.
#pragma once
#include <immintrin.h>

#include "core/processor.h"
#include "cpu/quantised_tile_avx512.h"

namespace zaya::ZAYA_ISA {

// sum + four products of unsigned bytes by the signed ones of a word, in each 32-bit lane.
inline __m512i dot_word(__m512i sum, __m512i u, Word& word) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(u), "m"(word));
  return sum;
}
inline Word& word_at(const int8_t* x) { return *reinterpret_cast<Word*>(x); }

// Where one row of x is, from a block on.
struct QuantisedRow {
  const int8_t* x;
  const float *scales, *sums;
  const int32_t* starts;
};

template <int64_t ahead> inline void fetch_line([[maybe_unused]] const uint8_t* line) {
  if constexpr (ahead > 0) _mm_prefetch(reinterpret_cast<const char*>(line + ahead), _MM_HINT_T1);
}

// One block of int8: y = sum of v · xq for each row of the panels.
template <int panels, int64_t ahead>
inline __attribute__((always_inline)) void int8_block(QuantisedRow& row, int64_t columns, const uint8_t* at, int64_t panel_bytes, __m512 (&y)[panels][2]) {
  __m512i sum[panels][2];
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++) sum[p][0] = sum[p][1] = _mm512_set1_epi32(*row.starts);
  for (int64_t left = columns / 16; left > 0; left--, row.x += 16, at += 512) {
#pragma GCC unroll 4
    for (int quad = 0; quad < 4; quad++)
#pragma GCC unroll 4
      for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
          const uint8_t* line = at + p * panel_bytes + 128 * quad + 64 * half;
          fetch_line<ahead>(line);
          sum[p][half] = dot_word(sum[p][half], _mm512_loadu_si512(line), word_at(row.x + 4 * quad));
        }
  }
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) y[p][half] = _mm512_cvtepi32_ps(sum[p][half]);
}

// The same of one panel of int4 or int6. The sum of whole bytes of int4 is that of their low halves and 16 times that of their high ones.
template <DType packed, int64_t ahead>
inline __attribute__((always_inline)) void packed_block(QuantisedRow& row, int64_t columns, const uint8_t* at, __m512 (&y)[1][2]) {
  const __m512i low_half = _mm512_set1_epi8(15);
  y[0][0] = y[0][1] = _mm512_setzero_ps();
  for (int64_t left = columns / quantised_group; left > 0; left--, row.x += quantised_group, row.sums++, at += group_bytes(packed)) {
    for (int64_t line = 0; line < group_bytes(packed); line += 64) fetch_line<ahead>(at + line);
    __m512i part[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 8
    for (int64_t quad = 0; quad < quantised_group / 4; quad++) {
      Word& word = word_at(row.x + 4 * quad);
      if constexpr (packed == DType::int4) {
        const __m512i both = _mm512_loadu_si512(at + 64 * quad);
        part[0] = dot_word(part[0], _mm512_and_si512(both, low_half), word);
        part[1] = dot_word(part[1], both, word);
      } else {
        __m512i q[2];
        load_quad<packed>(at, quad, q[0], q[1]);
        part[0] = dot_word(part[0], q[0], word);
        part[1] = dot_word(part[1], q[1], word);
      }
    }
    if constexpr (packed == DType::int4) part[1] = _mm512_srai_epi32(_mm512_sub_epi32(part[1], part[0]), 4);
    const __m512 total = _mm512_set1_ps(*row.sums);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const GroupParameters group(at, packed, half);
      y[0][half] = _mm512_fmadd_ps(group.offset, total, y[0][half]);
      y[0][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[half]), group.step, y[0][half]);
    }
  }
}

// c [32 · panels] = the row times panels that lie one after the other.
template <DType dtype, int panels, int64_t ahead> void multiply_row_panels(QuantisedRow row, int64_t k, const uint8_t* at, float* c) {
  const int64_t panel_bytes = quantised_panel_bytes(dtype, k);
  __m512 sum[panels][2];
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++) sum[p][0] = sum[p][1] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks_of(k); b++) {
    const int64_t columns = block_columns(k, b);
    __m512 y[panels][2];
    if constexpr (dtype == DType::int8) int8_block<panels, ahead>(row, columns, at, panel_bytes, y);
    else packed_block<dtype, ahead>(row, columns, at, y);
    at += block_bytes(dtype, columns);
    const __m512 d = _mm512_set1_ps(*row.scales);
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const float* scales = reinterpret_cast<const float*>(at + p * panel_bytes) - quantised_rows + 16 * half;
        sum[p][half] = _mm512_fmadd_ps(y[p][half], _mm512_mul_ps(_mm512_loadu_ps(scales), d), sum[p][half]);
      }
    row.scales++, row.starts++;
  }
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) _mm512_storeu_ps(c + quantised_rows * p + 16 * half, sum[p][half]);
}

inline bool multiply_row(const QuantisedRows& x, int64_t row, const QuantisedWeight& w, int64_t panel, int64_t end, float* c) {
  using Kernel = void (*)(QuantisedRow, int64_t, const uint8_t*, float*);
  const QuantisedRow one{x.values(row, 0), x.scales(row, 0), x.sums(row, 0), x.starts(row, 0)};
  const bool full = has_full_width(), wide = full && w.dtype == DType::int8;
  const Kernel single = w.dtype == DType::int8   ? (full ? multiply_row_panels<DType::int8, 1, 0> : multiply_row_panels<DType::int8, 1, 2048>)
                        : w.dtype == DType::int6 ? (full ? multiply_row_panels<DType::int6, 1, 2048> : multiply_row_panels<DType::int6, 1, 0>)
                                                 : (full ? multiply_row_panels<DType::int4, 1, 2048> : multiply_row_panels<DType::int4, 1, 0>);
  for (int64_t panels; panel < end; panel += panels, c += quantised_rows * panels) {
    panels = wide && end - panel >= 4 ? 4 : wide && end - panel >= 2 ? 2 : 1;
    (panels == 4 ? multiply_row_panels<DType::int8, 4, 0> : panels == 2 ? multiply_row_panels<DType::int8, 2, 0> : single)(one, w.k, w.panel(panel), c);
  }
  return true;
}

}  // namespace zaya::ZAYA_ISA
