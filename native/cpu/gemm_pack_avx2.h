// Packing of gemm_pack_portable.h for AVX2: 8 words of 32 bits at a time, a word being a float32 or a pair of bfloat16 along k.
#pragma once
#include <immintrin.h>

#include "cpu/gemm_pack_portable.h"

namespace zaya::ZAYA_ISA {

// Transposes 8 rows of 8 words.
inline void transpose(__m256i (&r)[8]) {
  __m256i t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // u[4g + c] holds, in its 128-bit lane l, rows 4g … 4g+3 of column 4l + c.
  for (int c = 0; c < 4; c++) {
    r[c] = _mm256_permute2x128_si256(u[c], u[4 + c], 0x20);
    r[4 + c] = _mm256_permute2x128_si256(u[c], u[4 + c], 0x31);
  }
}

// The mask of the first n of 8 words.
inline __m256i first_words(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(std::max<int64_t>(0, n))), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}

// The first n of 8 float32 or 16 bfloat16, zeros behind.
inline __m256i load_words(const float* p, int64_t n) {
  if (n >= 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), first_words(n));
}
inline __m256i load_words(const bfloat16* p, int64_t n) {
  if (n >= 16) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  alignas(32) bfloat16 some[16] = {};
  std::copy_n(p, std::max<int64_t>(0, n), some);
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(some));
}

// The first n of 8 bfloat16.
inline __m128i load_halves(const bfloat16* p, int64_t n) {
  if (n >= 8) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_si128(load_words(p, n));
}

// float32 rounded to bfloat16 in the upper half of each word, as to_bfloat16 does; the lower half is left over.
inline __m256i rounded(__m256i x) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
  const __m256i nearest = _mm256_add_epi32(x, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(x, _mm256_set1_epi32(0x400000));
  const __m256 number = _mm256_castsi256_ps(x);
  return _mm256_blendv_epi8(nearest, quiet, _mm256_castps_si256(_mm256_cmp_ps(number, number, _CMP_UNORD_Q)));
}

inline __m256i rounded_alone(__m256i x) { return _mm256_and_si256(rounded(x), _mm256_set1_epi32(static_cast<int>(0xffff0000u))); }

// 16 float32 as 8 pairs of bfloat16.
inline __m256i round_pairs(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_srli_epi32(rounded(low), 16), _mm256_srli_epi32(rounded(high), 16)), 0xd8);
}

// (first[i], second[i]) for 8 i, as bfloat16 pairs.
inline __m256i interleave(__m256i first, __m256i second) {
  return _mm256_blend_epi16(_mm256_srli_epi32(rounded(first), 16), rounded(second), 0xaa);
}
inline __m256i interleave(__m128i first, __m128i second) {
  return _mm256_or_si256(_mm256_cvtepu16_epi32(first), _mm256_slli_epi32(_mm256_cvtepu16_epi32(second), 16));
}

// Writes the words of group g of one line of a panel; `lines` are left in the run, this one included. A whole vector is written where
// it fits, or where what it spills over is written later: in a panel of one group.
inline void store_words(uint32_t* out, __m256i words, int64_t height, int64_t g, int64_t lines) {
  const int64_t wanted = height - g;
  if (wanted >= 8 || (g == 0 && lines * height >= 8)) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), words);
  } else if (wanted == 4) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(words));
  } else {
    alignas(32) uint32_t some[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(some), words);
    for (int64_t i = 0; i < wanted; i++) out[i] = some[i];
  }
}

// 8 words of a row, of which n elements are left, zeros behind.
template <class D, class S> inline __m256i read_words(const PanelPack& p, const S* x, int64_t n) {
  if constexpr (std::is_same_v<D, float>) return p.round ? rounded_alone(load_words(x, n)) : load_words(x, n);
  else if constexpr (std::is_same_v<S, D>) return load_words(x, n);
  else return round_pairs(load_words(x, n), load_words(x + 8, n - 8));
}

// Writes the first n words.
inline void store_first(uint32_t* out, __m256i words, int64_t n) {
  if (n >= 8) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), words);
  _mm256_maskstore_epi32(reinterpret_cast<int*>(out), first_words(n), words);
}

// A panel of one or two rows along k: its words are those of the row, or of the two in turn.
template <class S, class D> void pack_one_or_two(const PanelPack& p, int64_t k0, int64_t k1) {
  constexpr int64_t per_word = 4 / sizeof(D);
  const S* first = static_cast<const S*>(p.source.data) + p.first * p.source.stride;
  const int64_t valid = p.rows - p.first;
  for (int64_t k = k0; k < k1; k += 8 * per_word) {
    const int64_t words = (k1 - k) / per_word;
    uint32_t* out = static_cast<uint32_t*>(p.panel) + k / per_word * p.height;
    const __m256i a = valid > 0 ? read_words<D>(p, first + k, p.k - k) : _mm256_setzero_si256();
    if (p.height == 1) {
      store_first(out, a, words);
      continue;
    }
    const __m256i b = valid > 1 ? read_words<D>(p, first + p.source.stride + k, p.k - k) : _mm256_setzero_si256();
    const __m256i low = _mm256_unpacklo_epi32(a, b), high = _mm256_unpackhi_epi32(a, b);
    store_first(out, _mm256_permute2x128_si256(low, high, 0x20), 2 * words);
    store_first(out + 8, _mm256_permute2x128_si256(low, high, 0x31), 2 * words - 8);
  }
}

// Rows along k: 8 rows by 8 words at a time are transposed.
template <class S, class D> void pack_rows(const PanelPack& p, int64_t k0, int64_t k1) {
  if (p.height <= 2) return pack_one_or_two<S, D>(p, k0, k1);
  constexpr int64_t per_word = 4 / sizeof(D);
  const S* source = static_cast<const S*>(p.source.data) + p.first * p.source.stride;
  for (int64_t g = 0; g < p.height; g += 8) {
    const int64_t valid = std::min<int64_t>(8, p.rows - p.first - g);
    for (int64_t k = k0; k < k1; k += 8 * per_word) {
      const int64_t left = p.k - k;
      __m256i r[8];
      for (int64_t i = 0; i < 8; i++)
        r[i] = i < valid ? read_words<D>(p, source + (g + i) * p.source.stride + k, left) : _mm256_setzero_si256();
      transpose(r);
      uint32_t* out = static_cast<uint32_t*>(p.panel) + k / per_word * p.height + g;
      const int64_t lines = (k1 - k) / per_word;
      for (int64_t i = 0; i < std::min<int64_t>(8, lines); i++) store_words(out + i * p.height, r[i], p.height, g, lines - i);
    }
  }
}

// Rows side by side: two values of k are interleaved, or one is copied.
template <class S, class D> void pack_columns(const PanelPack& p, int64_t k0, int64_t k1) {
  constexpr int64_t per_word = 4 / sizeof(D);
  const int64_t stride = p.source.stride;
  const S* source = static_cast<const S*>(p.source.data) + p.first;
  uint32_t* panel = static_cast<uint32_t*>(p.panel);
  for (int64_t g = 0; g < p.height; g += 8) {
    const int64_t valid = p.rows - p.first - g;
    for (int64_t k = k0; k < k1; k += per_word) {
      const int64_t first = k < p.k ? valid : 0, second = k + 1 < p.k ? valid : 0;
      const S* row = source + k * stride + g;
      // The same lines of the next panel are wanted when this one is done.
      _mm_prefetch(reinterpret_cast<const char*>(row + p.height), _MM_HINT_T0);
      if constexpr (per_word == 2) _mm_prefetch(reinterpret_cast<const char*>(row + stride + p.height), _MM_HINT_T0);
      __m256i words;
      if constexpr (std::is_same_v<D, float>)
        words = p.round ? rounded_alone(load_words(row, first)) : load_words(row, first);
      else if constexpr (std::is_same_v<S, float>)
        words = interleave(load_words(row, first), load_words(row + stride, second));
      else
        words = interleave(load_halves(row, first), load_halves(row + stride, second));
      store_words(panel + k / per_word * p.height + g, words, p.height, g, (k1 - k) / per_word);
    }
  }
}

// From bfloat16 panels [i/2][32 k][2] to panels [k/2][32 i][2]: 8 pairs of i by 8 k at a time. height is 32.
inline void pack_transposed_panels(const PanelPack& p, int64_t k0, int64_t k1) {
  const auto* source = static_cast<const uint32_t*>(p.source.data);
  auto* panel = static_cast<uint32_t*>(p.panel);
  const int64_t panel_words = panel_elements(p.source.stride) / 2;
  for (int64_t k = k0; k < k1; k += 8) {
    for (int64_t g = 0; g < 2; g++) {
      const int64_t first = p.first / 2 + 8 * g;
      const int64_t pairs = even(p.source.stride) / 2 - first;
      const uint32_t* from = source + k / panel_columns * panel_words + first * panel_columns + k % panel_columns;
      __m256i r[8];
      for (int64_t i = 0; i < 8; i++)
        r[i] = i < pairs ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i * panel_columns)) : _mm256_setzero_si256();
      transpose(r);
      // r[i] holds 16 values of i for one k; two k are interleaved.
      for (int64_t i = 0; i < 8 && k + i < k1; i += 2) {
        auto* out = reinterpret_cast<__m256i*>(panel + (k + i) / 2 * panel_columns + 16 * g);
        const __m256i low = _mm256_unpacklo_epi16(r[i], r[i + 1]), high = _mm256_unpackhi_epi16(r[i], r[i + 1]);
        _mm256_storeu_si256(out, _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(low, high, 0x31));
      }
    }
  }
}

}  // namespace zaya::ZAYA_ISA
