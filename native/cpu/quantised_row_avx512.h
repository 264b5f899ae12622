// One row of x times panels, for AVX-512 with VNNI. Such a product waits for memory alone, and how much a core has on its way depends on how many lines its
// loads name before the oldest must have arrived: so a panel is gone through in one loop, with as few instructions a line as will do. Where vectors have their
// full width several panels are read side by side, far from each other: the prefetchers of the hardware follow as many streams. Elsewhere there is one stream,
// and int8 is fetched to the second cache. On Zen 5, cores without a common cache, of the fastest of loops that only read: int8 in four streams 93 %, of
// panels that are neighbours 87, one stream 76, fetched ahead 71; int4 in two streams 89 %, four 87, one 76, fetched ahead 79.
#pragma once
#include <immintrin.h>

#include "core/processor.h"
#include "cpu/quantised_tile_avx512.h"
#include "cpu/side_by_side.h"

namespace zaya::ZAYA_ISA {

// sum + four products of unsigned bytes by the signed ones of a word, in each 32-bit lane.
inline __m512i dot_word(__m512i sum, __m512i u, Word& word) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(u), "m"(word));
  return sum;
}

// Panels that are read side by side: `near` that are `apart`, and with `twins` 2 as many again, `twin` behind those.
template <int near_, int twins_> struct Places {
  static constexpr int near = near_, panels = near_ * twins_;
  int64_t apart = 0, twin = 0;

  int64_t of(int p) const { return p % near * apart + p / near * twin; }
};

template <int64_t ahead> inline void fetch_line([[maybe_unused]] const uint8_t* line) {
  if constexpr (ahead > 0) _mm_prefetch(reinterpret_cast<const char*>(line + ahead), _MM_HINT_T1);
}

// One block of int8: y = sum of v · xq for each row of the panels.
template <int64_t ahead, int panels, class P>
inline __attribute__((always_inline)) void int8_block(const QuantisedRecord& row, int64_t columns, const uint8_t* at, const P& places, __m512 (&y)[panels][2]) {
  __m512i sum[panels][2];
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++) sum[p][0] = sum[p][1] = _mm512_set1_epi32(row.start);
  const int8_t* x = row.values;
  for (int64_t left = columns / 16; left > 0; left--, x += 16, at += 512) {
#pragma GCC unroll 4
    for (int quad = 0; quad < 4; quad++)
#pragma GCC unroll 4
      for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
          const uint8_t* line = at + places.of(p) + 128 * quad + 64 * half;
          fetch_line<ahead>(line);
          sum[p][half] = dot_word(sum[p][half], _mm512_loadu_si512(line), word_at(x + 4 * quad));
        }
  }
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) y[p][half] = _mm512_cvtepi32_ps(sum[p][half]);
}

// The same of int4 or int6. The sum of whole bytes of int4 is that of their low halves and 16 times that of their high ones.
template <DType packed, int panels, class P>
inline __attribute__((always_inline)) void packed_block(const QuantisedRecord& row, int64_t columns, const uint8_t* at, const P& places, __m512 (&y)[panels][2]) {
  const __m512i low_half = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++) y[p][0] = y[p][1] = _mm512_setzero_ps();
  const int8_t* x = row.values;
  const float* sums = row.sums;
  for (int64_t left = columns / quantised_group; left > 0; left--, x += quantised_group, sums++, at += group_bytes(packed)) {
    const __m512 total = _mm512_set1_ps(*sums);
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
      const uint8_t* group = at + places.of(p);
      __m512i part[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 8
      for (int64_t quad = 0; quad < quantised_group / 4; quad++) {
        Word& word = word_at(x + 4 * quad);
        __m512i q[2];
        if constexpr (packed == DType::int4) {
          q[1] = _mm512_loadu_si512(group + 64 * quad);
          q[0] = _mm512_and_si512(q[1], low_half);
        } else {
          load_quad<packed>(group, quad, q[0], q[1]);
        }
        part[0] = dot_word(part[0], q[0], word);
        part[1] = dot_word(part[1], q[1], word);
      }
      if constexpr (packed == DType::int4) part[1] = _mm512_srai_epi32(_mm512_sub_epi32(part[1], part[0]), 4);
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const GroupParameters parameters(group, packed, half);
        y[p][half] = _mm512_fmadd_ps(parameters.offset, total, y[p][half]);
        y[p][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[half]), parameters.step, y[p][half]);
      }
    }
  }
}

// Row 0 of x times panels side by side, the first at `at`; their 32 results each lie in c as they do.
template <DType dtype, int64_t ahead, class P>
void multiply_row_panels(const QuantisedRows& x, int64_t k, const uint8_t* at, const P& places, float* c, const P& places_c) {
  constexpr int panels = P::panels;
  __m512 sum[panels][2];
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++) sum[p][0] = sum[p][1] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks_of(k); b++) {
    const int64_t columns = block_columns(k, b);
    const QuantisedRecord& row = x.at(0, b);
    __m512 y[panels][2];
    if constexpr (dtype == DType::int8) int8_block<ahead>(row, columns, at, places, y);
    else packed_block<dtype>(row, columns, at, places, y);
    at += block_bytes(dtype, columns);
    const __m512 d = _mm512_set1_ps(row.scale);
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const float* scales = reinterpret_cast<const float*>(at + places.of(p)) - quantised_rows + 16 * half;
        sum[p][half] = _mm512_fmadd_ps(y[p][half], _mm512_mul_ps(_mm512_loadu_ps(scales), d), sum[p][half]);
      }
  }
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) _mm512_storeu_ps(c + places_c.of(p) + 16 * half, sum[p][half]);
}

// Row 0 of x times `panels` panels that lie one after the other, and with `twins` 2 times as many `twin` panels on, with results `twin_c` on; in `streams` streams.
template <DType dtype, int twins, int streams, int64_t ahead>
void multiply_row_streams(const QuantisedRows& x, int64_t k, const uint8_t* at, int64_t panels, int64_t twin, float* c, int64_t twin_c) {
  const int64_t panel_bytes = quantised_panel_bytes(dtype, k);
  side_by_side<streams / twins>(panels, [&]<int near>(std::integral_constant<int, near>, int64_t panel, int64_t apart) {
    const Places<near, twins> bytes{apart * panel_bytes, twin * panel_bytes}, results{apart * quantised_rows, twin_c};
    multiply_row_panels<dtype, ahead>(x, k, at + panel * panel_bytes, bytes, c + panel * quantised_rows, results);
  });
}

template <DType dtype> void multiply_row(const QuantisedRows& x, const QuantisedWeight& w, int64_t panel, int64_t end, int64_t twin, float* c, float* twin_c) {
  constexpr int streams = dtype == DType::int8 ? 4 : 2;
  constexpr int64_t ahead = dtype == DType::int8 ? 2048 : 0;
  const int64_t panels = end - panel;
  const uint8_t* at = w.panel(panel);
  if (has_full_width()) {
    if (twin > 0) multiply_row_streams<dtype, 2, streams, 0>(x, w.k, at, panels, twin, c, twin_c - c);
    else multiply_row_streams<dtype, 1, streams, 0>(x, w.k, at, panels, 0, c, 0);
  } else {
    multiply_row_streams<dtype, 1, 1, ahead>(x, w.k, at, panels, 0, c, 0);
    if (twin > 0) multiply_row_streams<dtype, 1, 1, ahead>(x, w.k, w.panel(panel + twin), panels, 0, twin_c, 0);
  }
}

inline bool multiply_row(const QuantisedRows& x, int64_t row, const QuantisedWeight& w, int64_t panel, int64_t end, int64_t twin, float* c, float* twin_c) {
  const auto kernel = w.dtype == DType::int8 ? multiply_row<DType::int8> : w.dtype == DType::int6 ? multiply_row<DType::int6> : multiply_row<DType::int4>;
  kernel(x.from(row), w, panel, end, twin, c, twin_c);
  return true;
}

}  // namespace zaya::ZAYA_ISA
