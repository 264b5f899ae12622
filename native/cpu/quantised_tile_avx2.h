// The micro-kernels of quantised_tile.h for AVX2, which has no product of unsigned by signed bytes that does not saturate:
//   int8         v · x as |v| · (sign of v) x, v = u − 128: two products are at most 2 · 128 · 127 < 2^15
//   int4, int6   q · x, multiplied as they lie whatever the number of rows: 16 products of q ≤ 15 or 4 of q ≤ 63 fit 16 bits, so most sums
//                are of 16 bits; then per group of 32 columns  step · Σ q·x + offset · Σ x
#pragma once
#include <immintrin.h>

#include "cpu/quantised_tile.h"

namespace zaya::ZAYA_ISA {

inline __m256i load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m256i ones() { return _mm256_set1_epi16(1); }

// The sums below are in assembly, as GCC 12 moves the broadcasts up and spills the sums of the intrinsics: half the speed.

// sum += v · x over each four bytes; value is v, magnitude |v|.
inline __attribute__((always_inline)) void add_int8(__m256i& sum, Word& x, __m256i value, __m256i magnitude) {
  __m256i t;
  asm("vpbroadcastd %[x], %[t]\n\t"
      "vpsignb %[value], %[t], %[t]\n\t"
      "vpmaddubsw %[t], %[magnitude], %[t]\n\t"
      "vpmaddwd %[ones], %[t], %[t]\n\t"
      "vpaddd %[t], %[sum], %[sum]"
      : [sum] "+x"(sum), [t] "=&x"(t)
      : [x] "m"(x), [value] "x"(value), [magnitude] "x"(magnitude), [ones] "x"(ones()));
}

// low += q0 · x, high += q1 · x over each two bytes.
inline __attribute__((always_inline)) void add_int4(__m256i& low, __m256i& high, Word& x, __m256i q0, __m256i q1) {
  __m256i t, u;
  asm("vpbroadcastd %[x], %[t]\n\t"
      "vpmaddubsw %[t], %[q0], %[u]\n\t"
      "vpmaddubsw %[t], %[q1], %[t]\n\t"
      "vpaddw %[u], %[low], %[low]\n\t"
      "vpaddw %[t], %[high], %[high]"
      : [low] "+x"(low), [high] "+x"(high), [t] "=&x"(t), [u] "=&x"(u)
      : [x] "m"(x), [q0] "x"(q0), [q1] "x"(q1));
}

// sum += q0 · x0 + q1 · x1 over each four bytes.
inline __attribute__((always_inline)) void add_int6(__m256i& sum, Word& x0, Word& x1, __m256i q0, __m256i q1) {
  __m256i t, u;
  asm("vpbroadcastd %[x0], %[t]\n\t"
      "vpbroadcastd %[x1], %[u]\n\t"
      "vpmaddubsw %[t], %[q0], %[t]\n\t"
      "vpmaddubsw %[u], %[q1], %[u]\n\t"
      "vpaddw %[u], %[t], %[t]\n\t"
      "vpmaddwd %[ones], %[t], %[t]\n\t"
      "vpaddd %[t], %[sum], %[sum]"
      : [sum] "+x"(sum), [t] "=&x"(t), [u] "=&x"(u)
      : [x0] "m"(x0), [x1] "m"(x1), [q0] "x"(q0), [q1] "x"(q1), [ones] "x"(ones()));
}

// c += sum · (scale · d) for eight columns of one row.
inline void add_block(const QuantisedTile& t, int row, int64_t column, __m256 sum) {
  const __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(t.scales + column), _mm256_set1_ps(t.x[row].scale));
  float* c = t.c + row * quantised_rows + column;
  _mm256_storeu_ps(c, _mm256_fmadd_ps(sum, scale, t.accumulate ? _mm256_loadu_ps(c) : _mm256_setzero_ps()));
}

// R rows by 32 columns of int8, eight columns at a time (more where the rows leave registers).
template <int R> void int8_tile(const QuantisedTile& t) {
  constexpr int vectors = R == 1 ? 4 : R == 2 ? 2 : 1;
  const uint8_t* ahead = t.ahead;
  for (int64_t column = 0; column < quantised_rows; column += 8 * vectors) {
    __m256i sum[R][vectors];
#pragma GCC unroll 12
    for (int i = 0; i < R; i++)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sum[i][v] = _mm256_setzero_si256();
    const uint8_t* b = t.block.values + 4 * column;
    for (int64_t quad = 0; quad < t.k / 4; quad++) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) {
        if (v % 2 == 0) {
          _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
          ahead += vectors == 1 ? t.pace / 2 : t.pace;
        }
        const __m256i value = _mm256_xor_si256(load_bytes(b + 32 * v), _mm256_set1_epi8(-128));
        const __m256i magnitude = _mm256_abs_epi8(value);
#pragma GCC unroll 12
        for (int i = 0; i < R; i++) add_int8(sum[i][v], word_at(t.x[i].values + 4 * quad), value, magnitude);
      }
      b += 128;
    }
#pragma GCC unroll 12
    for (int i = 0; i < R; i++)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) add_block(t, i, column + 8 * v, _mm256_cvtepi32_ps(sum[i][v]));
  }
}

// q of eight of rows 0–15 (from `row`) and of the rows 16 above them, of one quad of a group.
template <DType packed> inline void load_quad(const uint8_t* group, int64_t quad, int64_t row, __m256i& low, __m256i& high) {
  const __m256i four = load_bytes(group + 64 * quad + 4 * row), mask = _mm256_set1_epi8(15);
  low = _mm256_and_si256(four, mask);
  high = _mm256_and_si256(_mm256_srli_epi16(four, 4), mask);
  if constexpr (packed == DType::int6) {
    const __m256i two = load_bytes(group + 512 + 64 * (quad / 2) + 4 * row), bits = _mm256_set1_epi8(0x30);
    low = _mm256_or_si256(low, _mm256_and_si256(quad % 2 == 0 ? _mm256_slli_epi16(two, 4) : two, bits));
    high = _mm256_or_si256(high, _mm256_and_si256(quad % 2 == 0 ? _mm256_slli_epi16(two, 2) : _mm256_srli_epi16(two, 2), bits));
  }
}

// R rows from `row` by 32 columns of int4 or int6: columns c … c+7 and 16+c … 16+c+7 come from one load, c = 0, then 8.
template <DType packed, int R> void direct_tile(const QuantisedTile& t, int row) {
  for (int64_t column = 0; column < 16; column += 8) {
    __m256 sum[R][2];
    for (int i = 0; i < R; i++) sum[i][0] = sum[i][1] = _mm256_setzero_ps();
    const uint8_t* at = t.block.values;
    const QuantisedRecord* x = t.x + row;
    auto word = [&](int i, int64_t group, int64_t quad) -> Word& { return word_at(x[i].values + group * quantised_group + 4 * quad); };
    for (int64_t group = 0; group < t.k / quantised_group; group++) {
      if (row == 0 && column == 0)
        for (int64_t line = 0; line < group_bytes(packed); line += 64)
          _mm_prefetch(reinterpret_cast<const char*>(t.ahead + (at - t.block.values + line) / 64 * t.pace), _MM_HINT_T0);
      __m256i part[R][2];
#pragma GCC unroll 6
      for (int i = 0; i < R; i++) part[i][0] = part[i][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int64_t quad = 0; quad < quantised_group / 4; quad += packed == DType::int4 ? 1 : 2) {
        __m256i low, high;
        load_quad<packed>(at, quad, column, low, high);
        if constexpr (packed == DType::int4) {
#pragma GCC unroll 6
          for (int i = 0; i < R; i++) add_int4(part[i][0], part[i][1], word(i, group, quad), low, high);
        } else {
          __m256i next_low, next_high;
          load_quad<packed>(at, quad + 1, column, next_low, next_high);
#pragma GCC unroll 6
          for (int i = 0; i < R; i++) {
            add_int6(part[i][0], word(i, group, quad), word(i, group, quad + 1), low, next_low);
            add_int6(part[i][1], word(i, group, quad), word(i, group, quad + 1), high, next_high);
          }
        }
      }
      at += group_bytes(packed);
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const uint8_t* parameters = at - 2 * quantised_rows + column + 16 * half;
        const __m256 step = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(parameters))));
        const __m256 offset = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(parameters + quantised_rows))));
#pragma GCC unroll 6
        for (int i = 0; i < R; i++) {
          const __m256i whole = packed == DType::int4 ? _mm256_madd_epi16(part[i][half], ones()) : part[i][half];
          sum[i][half] = _mm256_fmadd_ps(offset, _mm256_set1_ps(x[i].sums[group]), sum[i][half]);
          sum[i][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), step, sum[i][half]);
        }
      }
    }
    for (int i = 0; i < R; i++)
      for (int half = 0; half < 2; half++) add_block(t, row + i, column + 16 * half, sum[i][half]);
  }
}

template <DType packed> void multiply_packed(const QuantisedTile& t) {
  constexpr int height = packed == DType::int4 ? 6 : 4;  // rows whose sums fit the registers
  static constexpr auto kernels = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<void (*)(const QuantisedTile&, int), height>{direct_tile<packed, R + 1>...};
  }(std::make_integer_sequence<int, height>());
  const int strips = (t.rows + height - 1) / height;
  for (int i = 0; i < strips; i++) {
    const int begin = t.rows * i / strips, end = t.rows * (i + 1) / strips;
    kernels[static_cast<size_t>(end - begin - 1)](t, begin);
  }
}

inline BlockValues prepare_block(DType packed, int64_t, int64_t, const uint8_t* block, uint8_t*) { return {block, packed}; }

inline void multiply_tile(const QuantisedTile& t) {
  static constexpr auto eight = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<void (*)(const QuantisedTile&), strip_rows>{int8_tile<R + 1>...};
  }(std::make_integer_sequence<int, strip_rows>());
  if (t.block.dtype == DType::int8)
    eight[static_cast<size_t>(t.rows - 1)](t);
  else if (t.block.dtype == DType::int6)
    multiply_packed<DType::int6>(t);
  else
    multiply_packed<DType::int4>(t);
}

inline bool multiply_row(const QuantisedRows&, int64_t, const QuantisedWeight&, int64_t, int64_t, int64_t, float*, float*) { return false; }

}  // namespace zaya::ZAYA_ISA
