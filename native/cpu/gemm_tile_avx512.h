// The micro-kernels of gemm_tile_portable.h for AVX-512 with BF16: 12 rows by 32 columns fill 24 of the 32 registers; few rows take several
// panels, so that there are chains enough to hide the latency.
#pragma once
#include <immintrin.h>

#include "cpu/gemm_tile_portable.h"

namespace zaya::ZAYA_ISA {

inline __m512 broadcast(const char* p) { return _mm512_set1_ps(*reinterpret_cast<const float*>(p)); }

// Each step multiplies one pair of k: `a` holds the pair of R rows, `b` that of the P panels.
struct Bfloat16Step {
  static constexpr int a_bytes = 4, b_bytes = 128;
  template <int R, int P> static inline __attribute__((always_inline)) void run(__m512 (&c)[R][P][2], const char* a, const char* b, int64_t b_panel) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      const __m512bh b0 = (__m512bh)_mm512_loadu_ps(b + p * b_panel);
      const __m512bh b1 = (__m512bh)_mm512_loadu_ps(b + p * b_panel + 64);
#pragma GCC unroll 12
      for (int i = 0; i < R; i++) {
        const __m512bh pair = (__m512bh)broadcast(a + 4 * i);
        c[i][p][0] = _mm512_dpbf16_ps(c[i][p][0], b0, pair);
        c[i][p][1] = _mm512_dpbf16_ps(c[i][p][1], b1, pair);
      }
    }
  }
};

template <int R, int P> inline __attribute__((always_inline)) void fused_multiply_add(__m512 (&c)[R][P][2], int p, __m512 b0, __m512 b1, const char* a) {
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
    const __m512 value = broadcast(a + 4 * i);
    c[i][p][0] = _mm512_fmadd_ps(b0, value, c[i][p][0]);
    c[i][p][1] = _mm512_fmadd_ps(b1, value, c[i][p][1]);
  }
}

struct Float32Step {
  static constexpr int a_bytes = 8, b_bytes = 256;
  template <int R, int P> static inline __attribute__((always_inline)) void run(__m512 (&c)[R][P][2], const char* a, const char* b, int64_t b_panel) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      const char* q = b + p * b_panel;
      fused_multiply_add<R, P>(c, p, _mm512_loadu_ps(q), _mm512_loadu_ps(q + 64), a);
      fused_multiply_add<R, P>(c, p, _mm512_loadu_ps(q + 128), _mm512_loadu_ps(q + 192), a + 4 * R);
    }
  }
};

struct Float32ByBfloat16Step {
  static constexpr int a_bytes = 8, b_bytes = 128;
  template <int R, int P> static inline __attribute__((always_inline)) void run(__m512 (&c)[R][P][2], const char* a, const char* b, int64_t b_panel) {
    const __m512i odd = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      const __m512i b0 = _mm512_loadu_si512(b + p * b_panel);
      const __m512i b1 = _mm512_loadu_si512(b + p * b_panel + 64);
      fused_multiply_add<R, P>(c, p, _mm512_castsi512_ps(_mm512_slli_epi32(b0, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b1, 16)), a);
      fused_multiply_add<R, P>(c, p, _mm512_castsi512_ps(_mm512_and_si512(b0, odd)), _mm512_castsi512_ps(_mm512_and_si512(b1, odd)), a + 4 * R);
    }
  }
};

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }

template <class Step, int R, int P> void avx512_tile(const TileCall& t) {
  __m512 c[R][P][2];
  float* out = static_cast<float*>(t.c);
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
    const __mmask16 left = first_lanes(t.columns - 32 * p), right = first_lanes(t.columns - 32 * p - 16);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      c[i][p][0] = t.accumulate ? _mm512_maskz_loadu_ps(left, out + i * t.c_stride + 32 * p) : _mm512_setzero_ps();
      c[i][p][1] = t.accumulate ? _mm512_maskz_loadu_ps(right, out + i * t.c_stride + 32 * p + 16) : _mm512_setzero_ps();
    }
  }
  const char* a = static_cast<const char*>(t.a);
  const char* b = static_cast<const char*>(t.b);
  const int64_t b_panel = t.b_panel;
  // One row waits for memory alone: what it reads is fetched to the second cache, and less far ahead. That streams a tenth to a fifth faster.
  constexpr _mm_hint cache = R == 1 ? _MM_HINT_T1 : _MM_HINT_T0;
  const int64_t ahead = R == 1 ? std::min<int64_t>(t.ahead, 1536) : t.ahead;
  for (int64_t pair = t.pairs; pair > 0; pair--) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
      for (int line = 0; line < Step::b_bytes; line += 64) _mm_prefetch(b + p * b_panel + ahead + line, cache);
    Step::template run<R, P>(c, a, b, b_panel);
    a += R * Step::a_bytes;
    b += Step::b_bytes;
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
    if (P == 1 && t.stream) {
#pragma GCC unroll 12
      for (int i = 0; i < R; i++) {
        _mm512_stream_ps(out + i * t.c_stride, c[i][p][0]);
        _mm512_stream_ps(out + i * t.c_stride + 16, c[i][p][1]);
      }
      continue;
    }
    const __mmask16 left = first_lanes(t.columns - 32 * p), right = first_lanes(t.columns - 32 * p - 16);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      _mm512_mask_storeu_ps(out + i * t.c_stride + 32 * p, left, c[i][p][0]);
      _mm512_mask_storeu_ps(out + i * t.c_stride + 32 * p + 16, right, c[i][p][1]);
    }
  }
}

constexpr int panels_together(int rows) { return rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }

template <class Step> TileKernel avx512_kernel(int rows, int panels) {
  constexpr auto one = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<TileKernel, tile_height>{avx512_tile<Step, R + 1, 1>...};
  }(std::make_integer_sequence<int, tile_height>());
  constexpr auto several = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<TileKernel, 4>{avx512_tile<Step, R + 1, panels_together(R + 1)>...};
  }(std::make_integer_sequence<int, 4>());
  return panels > 1 ? several[static_cast<size_t>(rows - 1)] : one[static_cast<size_t>(rows - 1)];
}

}  // namespace zaya::ZAYA_ISA
