// Packing of gemm_pack_portable.h for AVX-512: 16 words of 32 bits at a time, a word being a float32 or a pair of bfloat16 along k.
#pragma once
#include <immintrin.h>

#include "cpu/gemm_pack_portable.h"

namespace zaya::ZAYA_ISA {

// Transposes 16 rows of 16 32-bit elements.
inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // r[4g + c] holds, in its 128-bit lane l, rows 4g … 4g+3 of column 4l + c.
  for (int c = 0; c < 4; c++) {
    const __m512i low01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88), high01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);
    const __m512i low23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88), high23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
    t[c] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    t[8 + c] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    t[4 + c] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    t[12 + c] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
  }
  for (int i = 0; i < 16; i++) r[i] = t[i];
}

inline __mmask16 mask16(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }
inline __mmask32 mask32(int64_t n) { return static_cast<__mmask32>(n >= 32 ? 0xffffffffu : n <= 0 ? 0 : (1u << n) - 1); }

// (low[i], high[i]) for 16 i, rounded to bfloat16 pairs.
inline __m512i interleave(__m512 low, __m512 high) {
  const __m512i order = _mm512_or_si512(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                        _mm512_slli_epi32(_mm512_set_epi32(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16), 16));
  return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}
inline __m512i interleave(__m256i low, __m256i high) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}

// Writes the words of group g of one line of a panel; `lines` are left in the run, this one included. A whole vector is written where
// what it spills over is written later – only the first group's is – which is several times as fast as a masked one.
inline void store_words(uint32_t* out, __m512i words, int64_t height, int64_t g, int64_t lines) {
  if (g + 16 <= height || (g == 0 && lines * height >= 16))
    _mm512_storeu_si512(out, words);
  else if (height - g == 8)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(words));
  else
    _mm512_mask_storeu_epi32(out, mask16(height - g), words);
}

// Rows along k: 16 rows by 16 words of 32 bits (a pair of bfloat16, or a float32) at a time are transposed. What is read four turns later is
// prefetched, at the end of a run from the rows that come next.
template <class S, class D> void pack_rows(const PanelPack& p, int64_t k0, int64_t k1) {
  constexpr int64_t per_word = 4 / sizeof(D);
  const S* source = static_cast<const S*>(p.source.data) + p.first * p.source.stride;
  constexpr int64_t turn = 16 * per_word;
  const int64_t next_rows = std::min<int64_t>(16, p.height) * p.source.stride - (k1 - k0);
  for (int64_t g = 0; g < p.height; g += 16) {
    const int64_t valid = std::min<int64_t>(16, p.rows - p.first - g);
    for (int64_t k = k0; k < k1; k += turn) {
      const int64_t left = p.k - k, ahead = 4 * turn + (k + 4 * turn < k1 ? 0 : next_rows);
      __m512i r[16];
      for (int64_t i = 0; i < 16; i++) {
        const S* row = source + (g + i) * p.source.stride + k;
        if (i >= valid)
          r[i] = _mm512_setzero_si512();
        else if constexpr (std::is_same_v<D, float>)
          r[i] = _mm512_castps_si512(_mm512_maskz_loadu_ps(mask16(left), row));
        else if constexpr (std::is_same_v<S, float>)
          r[i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(mask16(left - 16), row + 16), _mm512_maskz_loadu_ps(mask16(left), row));
        else
          r[i] = _mm512_maskz_loadu_epi16(mask32(left), row);
        for (int64_t line = 0; line < turn; line += 64 / static_cast<int64_t>(sizeof(S)))
          _mm_prefetch(reinterpret_cast<const char*>(row + ahead + line), _MM_HINT_T0);
      }
      transpose(r);
      uint32_t* out = static_cast<uint32_t*>(p.panel) + k / per_word * p.height + g;
      const int64_t lines = (k1 - k) / per_word;
      for (int64_t i = 0; i < std::min<int64_t>(16, lines); i++) store_words(out + i * p.height, r[i], p.height, g, lines - i);
    }
  }
}

// Rows side by side: two values of k are interleaved, or one is copied.
template <class S, class D> void pack_columns(const PanelPack& p, int64_t k0, int64_t k1) {
  constexpr int64_t per_word = 4 / sizeof(D);
  const int64_t stride = p.source.stride;
  const S* source = static_cast<const S*>(p.source.data) + p.first;
  uint32_t* panel = static_cast<uint32_t*>(p.panel);
  for (int64_t g = 0; g < p.height; g += 16) {
    const __mmask16 lanes_in = mask16(p.rows - p.first - g);
    for (int64_t k = k0; k < k1; k += per_word) {
      const __mmask16 first = k < p.k ? lanes_in : __mmask16(0), second = k + 1 < p.k ? lanes_in : __mmask16(0);
      const S* row = source + k * stride + g;
      // The same lines of the next panel are wanted when this one is done.
      _mm_prefetch(reinterpret_cast<const char*>(row + p.height), _MM_HINT_T0);
      if constexpr (per_word == 2) _mm_prefetch(reinterpret_cast<const char*>(row + stride + p.height), _MM_HINT_T0);
      __m512i words;
      if constexpr (std::is_same_v<D, float>)
        words = _mm512_castps_si512(_mm512_maskz_loadu_ps(first, row));
      else if constexpr (std::is_same_v<S, float>)
        words = interleave(_mm512_maskz_loadu_ps(first, row), _mm512_maskz_loadu_ps(second, row + stride));
      else
        words = interleave(_mm256_maskz_loadu_epi16(first, row), _mm256_maskz_loadu_epi16(second, row + stride));
      store_words(panel + k / per_word * p.height + g, words, p.height, g, (k1 - k) / per_word);
    }
  }
}

// From bfloat16 panels [i/2][32 k][2] to panels [k/2][32 i][2]: 16 pairs of i by 16 k at a time. height is 32.
inline void pack_transposed_panels(const PanelPack& p, int64_t k0, int64_t k1) {
  const auto* source = static_cast<const uint32_t*>(p.source.data);
  auto* panel = static_cast<uint32_t*>(p.panel);
  const int64_t panel_words = panel_elements(p.source.stride) / 2;
  const int64_t pairs = std::min<int64_t>(16, even(p.source.stride) / 2 - p.first / 2);
  __m512i low_words, high_words;
  {
    alignas(64) uint16_t low[32], high[32];
    for (uint16_t i = 0; i < 16; i++) {
      low[2 * i] = i, low[2 * i + 1] = static_cast<uint16_t>(32 + i);
      high[2 * i] = static_cast<uint16_t>(16 + i), high[2 * i + 1] = static_cast<uint16_t>(48 + i);
    }
    low_words = _mm512_load_si512(low), high_words = _mm512_load_si512(high);
  }
  for (int64_t k = k0; k < k1; k += 16) {
    const uint32_t* from = source + k / panel_columns * panel_words + p.first / 2 * panel_columns + k % panel_columns;
    __m512i r[16];
    for (int64_t i = 0; i < 16; i++) r[i] = i < pairs ? _mm512_loadu_si512(from + i * panel_columns) : _mm512_setzero_si512();
    transpose(r);
    for (int64_t i = 0; i < 16 && k + i < k1; i += 2) {
      uint32_t* out = panel + (k + i) / 2 * panel_columns;
      _mm512_storeu_si512(out, _mm512_permutex2var_epi16(r[i], low_words, r[i + 1]));
      _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi16(r[i], high_words, r[i + 1]));
    }
  }
}

}  // namespace zaya::ZAYA_ISA
