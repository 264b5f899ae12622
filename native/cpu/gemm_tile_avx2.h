// The micro-kernels of gemm_tile_portable.h for AVX2 with FMA: a tile of 12 rows by 32 columns is made of strips that fill the sixteen registers,
// 6 rows by 16 columns, or 2 by 32 when the rows are few. k is taken in chunks of which A and B stay in the first-level cache while the
// strips pass over them; C is the accumulator between the chunks, so the chain of an element is as gemm.h has it. bfloat16 is float32 whose
// lower half is zero: A is packed so (widening it here would cost a third of the speed), B is widened by a shift or a mask. Products are
// exact then, so the bits are those of the portable version.
#pragma once
#include <immintrin.h>

#include "cpu/gemm_tile_portable.h"

namespace zaya::ZAYA_ISA {

constexpr int64_t chunk_pairs = 128;  // 12 KiB of A and 16 or 32 KiB of B
constexpr int strip_height = 6;

struct Strip {
  const char* a;
  int64_t a_row_bytes;  // of one k
  const char* b;
  float* c;
  int64_t c_stride;
  int64_t pairs;
  bool accumulate;
  int64_t ahead;
};
using StripKernel = void (*)(const Strip&);

inline __m256 broadcast(const char* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
inline __m256 columns(const char* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
// The first and the second of each pair of bfloat16 as float32.
inline __m256 first_of(__m256 pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16)); }
inline __m256 second_of(__m256 pairs) { return _mm256_and_ps(pairs, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u)))); }

// c[i][v] += b(v) · a(i) for one k.
template <int R, int V, class A, class B> inline __attribute__((always_inline)) void multiply_add(__m256 (&c)[R][V], A&& a, B&& b) {
  __m256 column[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) column[v] = b(v);
#pragma GCC unroll 6
  for (int i = 0; i < R; i++) {
    const __m256 value = a(i);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) c[i][v] = _mm256_fmadd_ps(column[v], value, c[i][v]);
  }
}

// Each step multiplies one pair of k: `a` and `next` hold the rows of the first and of the second.
struct Bfloat16Step {
  static constexpr int b_bytes = 128;
  template <int R, int V> static inline __attribute__((always_inline)) void run(__m256 (&c)[R][V], const char* a, const char* next, const char* b) {
    multiply_add(c, [&](int i) { return broadcast(next + 4 * i); }, [&](int v) { return second_of(columns(b + 32 * v)); });
    multiply_add(c, [&](int i) { return broadcast(a + 4 * i); }, [&](int v) { return first_of(columns(b + 32 * v)); });
  }
};

struct Float32Step {
  static constexpr int b_bytes = 256;
  template <int R, int V> static inline __attribute__((always_inline)) void run(__m256 (&c)[R][V], const char* a, const char* next, const char* b) {
    multiply_add(c, [&](int i) { return broadcast(a + 4 * i); }, [&](int v) { return columns(b + 32 * v); });
    multiply_add(c, [&](int i) { return broadcast(next + 4 * i); }, [&](int v) { return columns(b + 128 + 32 * v); });
  }
};

struct Float32ByBfloat16Step {
  static constexpr int b_bytes = 128;
  template <int R, int V> static inline __attribute__((always_inline)) void run(__m256 (&c)[R][V], const char* a, const char* next, const char* b) {
    multiply_add(c, [&](int i) { return broadcast(a + 4 * i); }, [&](int v) { return first_of(columns(b + 32 * v)); });
    multiply_add(c, [&](int i) { return broadcast(next + 4 * i); }, [&](int v) { return second_of(columns(b + 32 * v)); });
  }
};

// R rows by 32 columns over one chunk of k.
template <class Step, int R> void strip(const Strip& s) {
  constexpr int vectors = R <= 2 ? 4 : 2;
  for (int column = 0; column < panel_columns; column += 8 * vectors) {
    __m256 c[R][vectors];
#pragma GCC unroll 6
    for (int i = 0; i < R; i++)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) c[i][v] = s.accumulate ? _mm256_loadu_ps(s.c + i * s.c_stride + column + 8 * v) : _mm256_setzero_ps();
    const char* a = s.a;
    const char* b = s.b + 4 * column;
    const int64_t a_row_bytes = s.a_row_bytes, ahead = s.ahead;
    for (int64_t pair = s.pairs; pair > 0; pair--) {
#pragma GCC unroll 4
      for (int line = 0; line < Step::b_bytes; line += vectors == 4 ? 64 : 128) _mm_prefetch(b + ahead + line, _MM_HINT_T0);
      Step::template run<R, vectors>(c, a, a + a_row_bytes, b);
      a += 2 * a_row_bytes;
      b += Step::b_bytes;
    }
#pragma GCC unroll 6
    for (int i = 0; i < R; i++)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) _mm256_storeu_ps(s.c + i * s.c_stride + column + 8 * v, c[i][v]);
  }
}

template <class Step> void avx2_tile(const TileCall& t) {
  static constexpr auto kernels = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<StripKernel, strip_height>{strip<Step, R + 1>...};
  }(std::make_integer_sequence<int, strip_height>());

  // A panel with fewer than 32 columns of C, or one that is streamed, is made beside C.
  alignas(32) float edge[tile_height * panel_columns];
  float* out = static_cast<float*>(t.c);
  const bool whole = t.columns == panel_columns && !t.stream;
  if (!whole && t.accumulate)
    for (int i = 0; i < t.rows; i++) std::copy_n(out + i * t.c_stride, t.columns, edge + i * panel_columns);

  const int rows = t.rows <= strip_height ? t.rows : (t.rows + 1) / 2;
  int64_t pair = 0;
  do {
    Strip s;
    s.a_row_bytes = 4 * t.rows;
    s.b = static_cast<const char*>(t.b) + pair * Step::b_bytes;
    s.c_stride = whole ? t.c_stride : panel_columns;
    s.pairs = std::min(chunk_pairs, t.pairs - pair);
    s.accumulate = t.accumulate || pair > 0;
    s.ahead = t.ahead;
    for (int row = 0; row < t.rows; row += rows) {
      s.a = static_cast<const char*>(t.a) + 2 * pair * s.a_row_bytes + 4 * row;
      s.c = (whole ? out : edge) + row * s.c_stride;
      kernels[static_cast<size_t>(std::min(rows, t.rows - row) - 1)](s);
      s.ahead = 0;
    }
    pair += chunk_pairs;
  } while (pair < t.pairs);

  if (t.stream)
    for (int i = 0; i < t.rows; i++)
      for (int j = 0; j < panel_columns; j += lanes) stream(out + i * t.c_stride + j, load(edge + i * panel_columns + j));
  else if (!whole)
    for (int i = 0; i < t.rows; i++) std::copy_n(edge + i * panel_columns, t.columns, out + i * t.c_stride);
}

}  // namespace zaya::ZAYA_ISA
