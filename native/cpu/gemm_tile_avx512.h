// The micro-kernels of gemm_tile_portable.h for AVX-512 with BF16: 12 rows by 32 columns fill 24 of the 32 registers.
#pragma once
#include <immintrin.h>

#include "core/processor.h"
#include "cpu/gemm_tile_portable.h"
#include "cpu/side_by_side.h"

namespace zaya::ZAYA_ISA {

inline __m512 broadcast(const char* p) { return _mm512_set1_ps(*reinterpret_cast<const float*>(p)); }

// Each step multiplies one pair of k: `a` holds the pair of R rows, `b` that of a panel.
struct Bfloat16Step {
  static constexpr int a_bytes = 4, b_bytes = 128;
  template <int R> static inline __attribute__((always_inline)) void run(__m512 (&c)[R][2], const char* a, const char* b) {
    const __m512bh b0 = (__m512bh)_mm512_loadu_ps(b), b1 = (__m512bh)_mm512_loadu_ps(b + 64);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      const __m512bh pair = (__m512bh)broadcast(a + 4 * i);
      c[i][0] = _mm512_dpbf16_ps(c[i][0], b0, pair);
      c[i][1] = _mm512_dpbf16_ps(c[i][1], b1, pair);
    }
  }
};

template <int R> inline __attribute__((always_inline)) void fused_multiply_add(__m512 (&c)[R][2], __m512 b0, __m512 b1, const char* a) {
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
    const __m512 value = broadcast(a + 4 * i);
    c[i][0] = _mm512_fmadd_ps(b0, value, c[i][0]);
    c[i][1] = _mm512_fmadd_ps(b1, value, c[i][1]);
  }
}

struct Float32Step {
  static constexpr int a_bytes = 8, b_bytes = 256;
  template <int R> static inline __attribute__((always_inline)) void run(__m512 (&c)[R][2], const char* a, const char* b) {
    fused_multiply_add<R>(c, _mm512_loadu_ps(b), _mm512_loadu_ps(b + 64), a);
    fused_multiply_add<R>(c, _mm512_loadu_ps(b + 128), _mm512_loadu_ps(b + 192), a + 4 * R);
  }
};

struct Float32ByBfloat16Step {
  static constexpr int a_bytes = 8, b_bytes = 128;
  template <int R> static inline __attribute__((always_inline)) void run(__m512 (&c)[R][2], const char* a, const char* b) {
    const __m512i odd = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
    fused_multiply_add<R>(c, _mm512_castsi512_ps(_mm512_slli_epi32(b0, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b1, 16)), a);
    fused_multiply_add<R>(c, _mm512_castsi512_ps(_mm512_and_si512(b0, odd)), _mm512_castsi512_ps(_mm512_and_si512(b1, odd)), a + 4 * R);
  }
};

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }

// What is read of the call is read before anything is written: a compiler must take it that C may lie there, and would read it again, and branch again, for
// each row.
template <class Step, int R> void avx512_tile(const TileCall& t) {
  __m512 c[R][2];
  float* out = static_cast<float*>(t.c);
  const int64_t stride = t.c_stride;
  const bool stream_c = t.stream;
  const __mmask16 left = first_lanes(t.columns), right = first_lanes(t.columns - 16);
  if (t.accumulate)
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      c[i][0] = _mm512_maskz_loadu_ps(left, out + i * stride);
      c[i][1] = _mm512_maskz_loadu_ps(right, out + i * stride + 16);
    }
  else
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) c[i][0] = c[i][1] = _mm512_setzero_ps();
  if (t.next_c != nullptr)
#pragma GCC unroll 12
    for (int i = 0; i < R; i++)
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) __builtin_prefetch(static_cast<const float*>(t.next_c) + i * stride + 16 * half, 1);
  const char* a = static_cast<const char*>(t.a);
  const char* b = static_cast<const char*>(t.b);
  const char* fetched = static_cast<const char*>(t.fetched);
  const int64_t between = t.fetched != nullptr ? t.every - 1 : -1;
  for (int64_t pair = t.pairs; pair > 0; pair--) {
    if ((pair & between) == 0) {
      _mm_prefetch(fetched, _MM_HINT_T1);
      _mm_prefetch(fetched + 64, _MM_HINT_T1);
      fetched += t.apart;
    }
#pragma GCC unroll 4
    for (int line = 0; line < Step::b_bytes; line += 64) _mm_prefetch(b + t.ahead + line, _MM_HINT_T0);
    Step::template run<R>(c, a, b);
    a += R * Step::a_bytes;
    b += Step::b_bytes;
  }
  if (stream_c) {
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      _mm512_stream_ps(out + i * stride, c[i][0]);
      _mm512_stream_ps(out + i * stride + 16, c[i][1]);
    }
    return;
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) {
    _mm512_mask_storeu_ps(out + i * stride, left, c[i][0]);
    _mm512_mask_storeu_ps(out + i * stride + 16, right, c[i][1]);
  }
}

template <class Step> TileKernel avx512_kernel(int rows) {
  static constexpr auto kernels = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<TileKernel, tile_height>{avx512_tile<Step, R + 1>...};
  }(std::make_integer_sequence<int, tile_height>());
  return kernels[static_cast<size_t>(rows - 1)];
}

// One row times `panels` panels that are so many bytes apart, each with the 32 columns of C that are `apart_c` behind those of the one before; t.columns are
// what is left of the row of C from the first on.
template <class Step, int panels, int64_t ahead> void avx512_row_panels(const TileCall& t, int64_t apart, int64_t apart_c) {
  __m512 c[panels][1][2];
  float* out = static_cast<float*>(t.c);
  auto columns = [&](int p, int half) { return first_lanes(t.columns - p * apart_c - 16 * half); };
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++)
      c[p][0][half] = t.accumulate ? _mm512_maskz_loadu_ps(columns(p, half), out + p * apart_c + 16 * half) : _mm512_setzero_ps();
  const char* a = static_cast<const char*>(t.a);
  const char* b = static_cast<const char*>(t.b);
  auto step = [&] {
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
      const char* at = b + p * apart;
#pragma GCC unroll 4
      for (int line = 0; line < Step::b_bytes && ahead > 0; line += 64) _mm_prefetch(at + ahead + line, _MM_HINT_T1);
      Step::template run<1>(c[p], a, at);
    }
    a += Step::a_bytes, b += Step::b_bytes;
  };
  int64_t pair = 0;
  for (; pair + 4 <= t.pairs; pair += 4) step(), step(), step(), step();
  for (; pair < t.pairs; pair++) step();
#pragma GCC unroll 4
  for (int p = 0; p < panels; p++)
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) _mm512_mask_storeu_ps(out + p * apart_c + 16 * half, columns(p, half), c[p][0][half]);
}

// One row times panels that lie one after the other. It waits for memory alone: where vectors have their full width four panels are read side by side, far
// from each other, elsewhere one is fetched to the second cache (see quantised_row_avx512.h; on Zen 5 four streams of bfloat16 read at 93 % of the fastest
// loop that only reads, one stream at 80 %, one that is fetched ahead at 69 %; on Zen 4 one that is fetched ahead at 94 to 97 %).
template <class Step> void avx512_row(const TileCall& t, int64_t panels) {
  const int64_t panel_bytes = t.pairs * Step::b_bytes;
  auto multiply_streams = [&]<int64_t ahead, int streams>(std::integral_constant<int64_t, ahead>, std::integral_constant<int, streams>) {
    side_by_side<streams>(panels, [&]<int count>(std::integral_constant<int, count>, int64_t panel, int64_t apart) {
      TileCall call = t;
      call.b = static_cast<const char*>(t.b) + panel * panel_bytes;
      call.c = static_cast<float*>(t.c) + panel * panel_columns;
      call.columns -= panel * panel_columns;
      avx512_row_panels<Step, count, ahead>(call, apart * panel_bytes, apart * panel_columns);
    });
  };
  if (has_full_width()) multiply_streams(std::integral_constant<int64_t, 0>(), std::integral_constant<int, 4>());
  else multiply_streams(std::integral_constant<int64_t, 1536>(), std::integral_constant<int, 1>());
}

}  // namespace zaya::ZAYA_ISA
