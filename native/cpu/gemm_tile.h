// The micro-kernels of gemm.cpp: a tile of C, up to 12 rows by 32 columns (or a few rows by several panels), over a run of k.
// A comes as [k/2][rows] pairs (bfloat16) or [k][rows] (float32, float64), B as panels; k counts in pairs, padding included.
#pragma once
#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "cpu/gemm.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace zaya::ZAYA_ISA {

constexpr int tile_height = 12;

// How the packed operands are stored and hence which micro-kernel multiplies them.
enum class Format : int32_t { bfloat16, float32, float32_by_bfloat16, float64 };

struct TileCall {
  const void* a = nullptr;
  const void* b = nullptr;
  int64_t b_panel = 0;  // bytes from one panel of B to the next, for kernels that take several
  void* c = nullptr;
  int64_t c_stride = 0;
  int64_t pairs = 0;
  int64_t columns = 0;  // of C, at most 32 a panel
  int rows = 0;
  bool accumulate = false;
  int64_t ahead = 0;  // bytes of B to prefetch ahead
};
using TileKernel = void (*)(const TileCall&);

// Sixteen bytes of T: what every processor has.
template <class T> struct ShortVector;
template <> struct ShortVector<float> {
  typedef float type __attribute__((vector_size(16), may_alias, aligned(4)));
};
template <> struct ShortVector<double> {
  typedef double type __attribute__((vector_size(16), may_alias, aligned(8)));
};
typedef uint32_t ShortBits __attribute__((vector_size(16), may_alias, aligned(4)));

// The specification of the tile, and what runs without AVX-512. A and B are T or bfloat16; products of bfloat16 are exact in float.
template <class T, class A, class B, int R> void portable_rows(const TileCall& t, int row0, int64_t column0) {
  using Vector = typename ShortVector<T>::type;
  constexpr int width = 16 / sizeof(T);
  constexpr int vectors = 4;
  constexpr bool paired = std::is_same_v<A, bfloat16>;
  const int64_t valid = std::min<int64_t>(width * vectors, t.columns - column0);
  Vector c[R][vectors] = {};
  T* out = static_cast<T*>(t.c) + row0 * t.c_stride + column0;
  if (t.accumulate)
    for (int i = 0; i < R; i++)
      for (int64_t j = 0; j < valid; j++) reinterpret_cast<T*>(c[i])[j] = out[i * t.c_stride + j];

  for (int64_t pair = 0; pair < t.pairs; pair++) {
    Vector b_even[vectors], b_odd[vectors];
    for (int v = 0; v < vectors; v++) {
      const int64_t column = column0 + v * width;
      if constexpr (std::is_same_v<B, bfloat16>) {
        const ShortBits bits = *reinterpret_cast<const ShortBits*>(static_cast<const B*>(t.b) + pair * 64 + 2 * column);
        b_even[v] = std::bit_cast<Vector>(bits << 16);
        b_odd[v] = std::bit_cast<Vector>(bits & 0xffff0000u);
      } else {
        b_even[v] = *reinterpret_cast<const Vector*>(static_cast<const B*>(t.b) + pair * 64 + column);
        b_odd[v] = *reinterpret_cast<const Vector*>(static_cast<const B*>(t.b) + pair * 64 + 32 + column);
      }
    }
    for (int i = 0; i < R; i++) {
      const A* a = static_cast<const A*>(t.a) + pair * 2 * t.rows;
      T a_even, a_odd;
      if constexpr (paired) {
        a_even = to_float(a[2 * (row0 + i)]);
        a_odd = to_float(a[2 * (row0 + i) + 1]);
      } else {
        a_even = a[row0 + i];
        a_odd = a[t.rows + row0 + i];
      }
      for (int v = 0; v < vectors; v++) {
        if constexpr (paired) {
          c[i][v] = c[i][v] + b_odd[v] * a_odd;
          c[i][v] = c[i][v] + b_even[v] * a_even;
        } else {
          c[i][v] = c[i][v] + b_even[v] * a_even;
          c[i][v] = c[i][v] + b_odd[v] * a_odd;
        }
      }
    }
  }
  for (int i = 0; i < R; i++)
    for (int64_t j = 0; j < valid; j++) out[i * t.c_stride + j] = reinterpret_cast<T*>(c[i])[j];
}

template <class T, class A, class B> void portable_tile(const TileCall& t) {
  for (int64_t column = 0; column < t.columns; column += 64 / static_cast<int64_t>(sizeof(T))) {
    int row = 0;
    for (; row + 2 <= t.rows; row += 2) portable_rows<T, A, B, 2>(t, row, column);
    if (row < t.rows) portable_rows<T, A, B, 1>(t, row, column);
  }
}

#if defined(__AVX512BF16__)

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
  const int64_t ahead = t.ahead;
  for (int64_t pair = t.pairs; pair > 0; pair--) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
      for (int line = 0; line < Step::b_bytes; line += 64) _mm_prefetch(b + p * b_panel + ahead + line, _MM_HINT_T0);
    Step::template run<R, P>(c, a, b, b_panel);
    a += R * Step::a_bytes;
    b += Step::b_bytes;
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
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
#endif

// Panels that one call can take: enough independent chains to hide the latency when the rows are few.
inline int tile_panels([[maybe_unused]] Format format, [[maybe_unused]] int rows) {
#if defined(__AVX512BF16__)
  if (format != Format::float64) return panels_together(rows);
#endif
  return 1;
}

// The kernel for this many rows; `panels` is 1 or tile_panels(format, rows).
inline TileKernel tile_kernel(Format format, [[maybe_unused]] int rows, [[maybe_unused]] int panels) {
  if (format == Format::float64) return portable_tile<double, double, double>;
#if defined(__AVX512BF16__)
  if (format == Format::bfloat16) return avx512_kernel<Bfloat16Step>(rows, panels);
  if (format == Format::float32) return avx512_kernel<Float32Step>(rows, panels);
  return avx512_kernel<Float32ByBfloat16Step>(rows, panels);
#else
  if (format == Format::bfloat16) return portable_tile<float, bfloat16, bfloat16>;
  if (format == Format::float32) return portable_tile<float, float, float>;
  return portable_tile<float, float, bfloat16>;
#endif
}

}  // namespace zaya::ZAYA_ISA
