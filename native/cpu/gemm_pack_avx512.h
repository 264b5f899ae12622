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

inline bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; }

// Writes the same lines of a panel whose height is no multiple of 16, all at once: `lines` of them fill whole lines of the cache and begin with one.
template <int lines> inline void stream_words(uint32_t* out, const __m512i* words, int64_t height) {
  alignas(64) uint32_t together[lines * 16 + 16];
  for (int64_t line = 0; line < lines; line++) _mm512_storeu_si512(together + line * height, words[line]);
  for (int64_t i = 0; i < lines * height; i += 16) _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i), _mm512_load_si512(together + i));
}

template <class S> inline void fetch_ahead(const S* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / static_cast<int64_t>(sizeof(S))) _mm_prefetch(reinterpret_cast<const char*>(x + i), _MM_HINT_T1);
}

// 16 words of a row, of which n elements are left, zeros behind.
template <class D, class S> inline __m512i read_words(const S* x, int64_t n) {
  if constexpr (std::is_same_v<D, float>) return _mm512_castps_si512(_mm512_maskz_loadu_ps(mask16(n), x));
  else if constexpr (std::is_same_v<S, float>)
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(mask16(n - 16), x + 16), _mm512_maskz_loadu_ps(mask16(n), x));
  else return _mm512_maskz_loadu_epi16(mask32(n), x);
}

// A panel of one or two rows along k: its words are those of the row, or of the two in turn.
template <class S, class D> void pack_one_or_two(const PanelPack& p, int64_t k0, int64_t k1) {
  constexpr int64_t per_word = 4 / sizeof(D);
  const __m512i order = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0), behind = _mm512_set1_epi32(8);
  const S* first = static_cast<const S*>(p.source.data) + p.first * p.source.stride;
  const int64_t valid = p.rows - p.first;
  for (int64_t k = k0; k < k1; k += 16 * per_word) {
    const int64_t words = (k1 - k) / per_word;
    uint32_t* out = static_cast<uint32_t*>(p.panel) + k / per_word * p.height;
    const __m512i a = valid > 0 ? read_words<D>(first + k, p.k - k) : _mm512_setzero_si512();
    if (p.height == 1) {
      _mm512_mask_storeu_epi32(out, mask16(words), a);
      continue;
    }
    const __m512i b = valid > 1 ? read_words<D>(first + p.source.stride + k, p.k - k) : _mm512_setzero_si512();
    _mm512_mask_storeu_epi32(out, mask16(2 * words), _mm512_permutex2var_epi32(a, order, b));
    _mm512_mask_storeu_epi32(out + 16, mask16(2 * words - 16), _mm512_permutex2var_epi32(a, _mm512_add_epi32(order, behind), b));
  }
}

// Words of a row, or of a line of panels, that packing keeps in the first-level cache at a time.
constexpr int64_t block_words = 256, block_columns = 512, block_lines = 8;

// Rows along k, 16 at a time: each is read from front to back and converted into a block; then 16 rows by 16 words of the block at a time are
// transposed, and meanwhile the rows that come next are fetched.
template <class S, class D> void pack_rows(const PanelPack& p, int64_t k0, int64_t k1) {
  if (p.height <= 2) return pack_one_or_two<S, D>(p, k0, k1);
  constexpr int64_t per_word = 4 / sizeof(D), turn = 16 * per_word, run = block_words * per_word;
  alignas(64) uint32_t block[16][block_words + 16];  // rows apart by an odd number of cache lines
  const S* source = static_cast<const S*>(p.source.data) + p.first * p.source.stride;
  for (int64_t g = 0; g < p.height; g += 16) {
    const int64_t valid = std::clamp<int64_t>(p.rows - p.first - g, 0, std::min<int64_t>(16, p.height - g));
    for (int64_t begin = k0; begin < k1; begin += run) {
      const int64_t end = std::min(k1, begin + run);
      for (int64_t i = 0; i < valid; i++) {
        const S* row = source + (g + i) * p.source.stride;
        for (int64_t k = begin; k < end; k += turn) _mm512_store_si512(&block[i][(k - begin) / per_word], read_words<D>(row + k, p.k - k));
      }
      // Half a row each turn: of the rest of these rows, or of the next ones.
      const int64_t half = (end - begin) / 2, next_k = end < k1 ? end : k0;
      int64_t next = end < k1 ? g : std::min(p.height, g + 16);
      for (int64_t k = begin, odd = 0; k < end; k += turn, odd = 1 - odd) {
        if (p.first + next < p.rows) fetch_ahead(source + next * p.source.stride + next_k + odd * half, half);
        next += odd;
        __m512i r[16];
        for (int64_t i = 0; i < 16; i++) r[i] = i < valid ? _mm512_load_si512(&block[i][(k - begin) / per_word]) : _mm512_setzero_si512();
        transpose(r);
        uint32_t* out = static_cast<uint32_t*>(p.panel) + k / per_word * p.height + g;
        const int64_t lines = (k1 - k) / per_word;
        if (p.stream && lines >= 16 && p.height % 16 == 0 && is_aligned(out))
          for (int64_t i = 0; i < 16; i++) _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i * p.height), r[i]);
        else if (p.stream && lines >= 16 && p.height < 16 && is_aligned(out))
          stream_words<16>(out, r, p.height);
        else
          for (int64_t i = 0; i < std::min<int64_t>(16, lines); i++) store_words(out + i * p.height, r[i], p.height, g, lines - i);
      }
    }
  }
}

// Rows side by side, those of all panels at once, so that memory is read in long runs: two values of k are interleaved, or one is copied, into
// a block, whose columns then go to their panels, while the lines that come next are fetched.
template <class S, class D> void pack_columns(const PanelPack& p, int64_t k0, int64_t k1) {
  constexpr int64_t per_word = 4 / sizeof(D), run = block_lines * per_word;
  alignas(64) uint32_t block[block_lines][block_columns + 16];
  const int64_t stride = p.source.stride, panel_words = p.height * even(p.k) / per_word, together = block_columns / p.height;
  for (int64_t panel0 = 0; panel0 < p.count; panel0 += together) {
    const int64_t panels = std::min(together, p.count - panel0), columns = panels * p.height;
    const S* source = static_cast<const S*>(p.source.data) + p.first + panel0 * p.height;
    const int64_t valid = p.rows - p.first - panel0 * p.height;
    for (int64_t begin = k0; begin < k1; begin += run) {
      const int64_t lines = std::min(run, k1 - begin) / per_word;
      for (int64_t line = 0; line < lines; line++) {
        const int64_t k = begin + line * per_word;
        const S* row = source + k * stride;
        for (int64_t i = 0; i < columns; i += 16) {
          const __mmask16 lanes_in = mask16(valid - i), first = k < p.k ? lanes_in : __mmask16(0), second = k + 1 < p.k ? lanes_in : __mmask16(0);
          __m512i words;
          if constexpr (std::is_same_v<D, float>)
            words = _mm512_castps_si512(_mm512_maskz_loadu_ps(first, row + i));
          else if constexpr (std::is_same_v<S, float>)
            words = interleave(_mm512_maskz_loadu_ps(first, row + i), _mm512_maskz_loadu_ps(second, row + stride + i));
          else
            words = interleave(_mm256_maskz_loadu_epi16(first, row + i), _mm256_maskz_loadu_epi16(second, row + stride + i));
          _mm512_store_si512(&block[line][i], words);
        }
      }
      for (int64_t panel = 0; panel < panels; panel++) {
        for (int64_t k = begin + run; k < std::min(p.k, begin + 2 * run); k++) fetch_ahead(source + k * stride + panel * p.height, p.height);
        uint32_t* out = static_cast<uint32_t*>(p.panel) + (panel0 + panel) * panel_words + begin / per_word * p.height;
        if (p.stream && p.height % 16 == 0 && is_aligned(out)) {
          for (int64_t line = 0; line < lines; line++)
            for (int64_t g = 0; g < p.height; g += 16)
              _mm512_stream_si512(reinterpret_cast<__m512i*>(out + line * p.height + g), _mm512_loadu_si512(&block[line][panel * p.height + g]));
          continue;
        }
        if (p.stream && lines == block_lines && p.height % 2 == 0 && p.height < 16 && is_aligned(out)) {
          __m512i words[block_lines];
          for (int64_t line = 0; line < lines; line++) words[line] = _mm512_loadu_si512(&block[line][panel * p.height]);
          stream_words<block_lines>(out, words, p.height);
          continue;
        }
        for (int64_t line = 0; line < lines; line++)
          for (int64_t g = 0; g < p.height; g += 16)
            store_words(out + line * p.height + g, _mm512_loadu_si512(&block[line][panel * p.height + g]), p.height, g, (k1 - begin) / per_word - line);
      }
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
