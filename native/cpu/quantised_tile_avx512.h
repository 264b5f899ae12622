// The micro-kernels of quantised_tile.h for AVX-512 with VNNI.
#pragma once
#include <immintrin.h>

#include "cpu/quantised_tile.h"

namespace zaya::ZAYA_ISA {

// sum + four products of unsigned by signed bytes in each 32-bit lane. In assembly: GCC 12 copies and spills the sums of the intrinsic.
inline __m512i dot(__m512i sum, __m512i u, __m512i s) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
  return sum;
}

inline void fetch(const uint8_t* at, int64_t bytes) {
  for (int64_t line = 0; line < bytes; line += 64) _mm_prefetch(reinterpret_cast<const char*>(at + line), _MM_HINT_T0);
}

// c (+)= sum · (scale · d). A load that is masked instead costs a twentieth of a tile.
template <bool accumulate, int R> inline __attribute__((always_inline)) void add_to(float* c, const float* scales, const QuantisedRecord* x, const __m512 (&sum)[R][2]) {
  const __m512 low = _mm512_loadu_ps(scales), high = _mm512_loadu_ps(scales + 16);
#pragma GCC unroll 8
  for (int i = 0; i < R; i++, c += quantised_rows) {
    const __m512 d = _mm512_set1_ps(x[i].scale);
    const __m512 c0 = accumulate ? _mm512_loadu_ps(c) : _mm512_setzero_ps(), c1 = accumulate ? _mm512_loadu_ps(c + 16) : _mm512_setzero_ps();
    _mm512_storeu_ps(c, _mm512_fmadd_ps(sum[i][0], _mm512_mul_ps(low, d), c0));
    _mm512_storeu_ps(c + 16, _mm512_fmadd_ps(sum[i][1], _mm512_mul_ps(high, d), c1));
  }
}
template <int R> inline __attribute__((always_inline)) void add_block(const QuantisedTile& t, int row, const __m512 (&sum)[R][2]) {
  float* c = t.c + row * quantised_rows;
  if (t.accumulate) add_to<true>(c, t.scales, t.x + row, sum);
  else add_to<false>(c, t.scales, t.x + row, sum);
}

template <int R> void vnni_tile(const QuantisedTile& t) {
  __m512i sum[R][2];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) sum[i][0] = sum[i][1] = _mm512_set1_epi32(t.x[i].start);
  const uint8_t *b = t.block.values, *ahead = t.ahead;
  const int8_t* x = t.x->values;
  for (int64_t left = t.k / 16; left > 0; left--, x += 16, b += 512) {
#pragma GCC unroll 4
    for (int quad = 0; quad < 4; quad++) {
      fetch(ahead, 64);
      fetch(ahead + t.pace, 64);
      ahead += 2 * t.pace;
      const __m512i b0 = _mm512_loadu_si512(b + 128 * quad), b1 = _mm512_loadu_si512(b + 128 * quad + 64);
#pragma GCC unroll 8
      for (int i = 0; i < R; i++) {
        const __m512i word = _mm512_set1_epi32(word_at(x + i * static_cast<int64_t>(sizeof(QuantisedRecord)) + 4 * quad));
        sum[i][0] = dot(sum[i][0], b0, word);
        sum[i][1] = dot(sum[i][1], b1, word);
      }
    }
  }
  __m512 y[R][2];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) y[i][0] = _mm512_cvtepi32_ps(sum[i][0]), y[i][1] = _mm512_cvtepi32_ps(sum[i][1]);
  add_block(t, 0, y);
}

// q of rows 0–15 and 16–31 of one quad of a group.
template <DType packed> inline void load_quad(const uint8_t* group, int64_t quad, __m512i& low, __m512i& high) {
  const __m512i four = _mm512_loadu_si512(group + 64 * quad), mask = _mm512_set1_epi8(15);
  low = _mm512_and_si512(four, mask);
  high = _mm512_and_si512(_mm512_srli_epi16(four, 4), mask);
  if constexpr (packed == DType::int6) {
    const __m512i two = _mm512_loadu_si512(group + 512 + 64 * (quad / 2)), bits = _mm512_set1_epi8(0x30);
    // ternary logic 0xf8: a | (b & c)
    low = _mm512_ternarylogic_epi32(low, quad % 2 == 0 ? _mm512_slli_epi16(two, 4) : two, bits, 0xf8);
    high = _mm512_ternarylogic_epi32(high, quad % 2 == 0 ? _mm512_slli_epi16(two, 2) : _mm512_srli_epi16(two, 2), bits, 0xf8);
  }
}

// Step and offset of rows 0–15 or 16–31 of a group.
struct GroupParameters {
  GroupParameters(const uint8_t* group, DType packed, int half) {
    const auto* at = reinterpret_cast<const __m128i*>(group + group_bytes(packed) - 64 + 16 * half);
    step = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at)));
    offset = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at + 2)));
  }
  __m512 step, offset;
};

// R rows from `row` on times a block of int4 or int6 as it lies.
template <DType packed, int R> void direct_tile(const QuantisedTile& t, int row) {
  const QuantisedRecord* x = t.x + row;
  __m512 sum[R][2];
#pragma GCC unroll 6
  for (int i = 0; i < R; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  const uint8_t *at = t.block.values, *ahead = t.ahead;
  for (int64_t g = 0; g < t.k / quantised_group; g++, at += group_bytes(packed), ahead += group_bytes(packed)) {
    if (row == 0) fetch(ahead, group_bytes(packed));
    __m512i part[R][2];
#pragma GCC unroll 6
    for (int i = 0; i < R; i++) part[i][0] = part[i][1] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int64_t j = 0; j < quantised_group / 4; j++) {
      __m512i low, high;
      load_quad<packed>(at, j, low, high);
#pragma GCC unroll 6
      for (int i = 0; i < R; i++) {
        const __m512i word = _mm512_set1_epi32(word_at(x[i].values + g * quantised_group + 4 * j));
        part[i][0] = dot(part[i][0], low, word);
        part[i][1] = dot(part[i][1], high, word);
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const GroupParameters group(at, packed, half);
#pragma GCC unroll 6
      for (int i = 0; i < R; i++) {
        sum[i][half] = _mm512_fmadd_ps(group.offset, _mm512_set1_ps(x[i].sums[g]), sum[i][half]);
        sum[i][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[i][half]), group.step, sum[i][half]);
      }
    }
  }
  add_block(t, row, sum);
}

// v + 128 = offset + 128 + step · q in bytes: step · q < 256 whatever q occurs, so two of them are one product of 16 bits.
template <DType packed> void unpack(int64_t columns, const uint8_t* group, uint8_t* out) {
  const __m512i both = _mm512_set4_epi32(0x800c800c, 0x80088008, 0x80048004, 0x80008000);  // the low byte of every 32 bits, in each 16
  const __m512i all = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);            // and in each 8
  for (const uint8_t* end = out + columns * quantised_rows; out < end; out += 1024, group += group_bytes(packed)) {
    __m512i step[2], offset[2];
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const auto* parameters = reinterpret_cast<const __m128i*>(group + group_bytes(packed) - 64 + 16 * half);
      step[half] = _mm512_shuffle_epi8(_mm512_cvtepu8_epi32(_mm_loadu_si128(parameters)), both);
      offset[half] = _mm512_xor_si512(_mm512_shuffle_epi8(_mm512_cvtepu8_epi32(_mm_loadu_si128(parameters + 2)), all), _mm512_set1_epi8(-128));
    }
#pragma GCC unroll 8
    for (int64_t quad = 0; quad < quantised_group / 4; quad++) {
      __m512i q[2];
      load_quad<packed>(group, quad, q[0], q[1]);
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++)
        _mm512_storeu_si512(out + 128 * quad + 64 * half, _mm512_add_epi8(_mm512_mullo_epi16(q[half], step[half]), offset[half]));
    }
  }
}

// A strip by itself is multiplied with int4 and int6 as they lie; for several a block is unpacked first.
inline BlockValues prepare_block(DType packed, int64_t columns, int64_t rows, const uint8_t* block, uint8_t* scratch) {
  if (packed == DType::int8 || rows <= strip_rows) return {block, packed};
  if (packed == DType::int4)
    unpack<DType::int4>(columns, block, scratch);
  else
    unpack<DType::int6>(columns, block, scratch);
  return {scratch, DType::int8};
}

template <DType packed> void multiply_packed(const QuantisedTile& t) {
  constexpr int height = 6;  // rows whose sums fit the registers
  static constexpr auto kernels = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<void (*)(const QuantisedTile&, int), height - 1>{direct_tile<packed, R + 2>...};
  }(std::make_integer_sequence<int, height - 1>());
  const int parts = (t.rows + height - 1) / height;
  for (int i = 0; i < parts; i++) {
    const int begin = t.rows * i / parts, end = t.rows * (i + 1) / parts;
    kernels[static_cast<size_t>(end - begin - 2)](t, begin);
  }
}

// Two rows at least: one is multiplied by quantised_row_avx512.h.
inline void multiply_tile(const QuantisedTile& t) {
  static constexpr auto eight = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<void (*)(const QuantisedTile&), strip_rows - 1>{vnni_tile<R + 2>...};
  }(std::make_integer_sequence<int, strip_rows - 1>());
  if (t.block.dtype == DType::int8)
    eight[static_cast<size_t>(t.rows - 2)](t);
  else if (t.block.dtype == DType::int6)
    multiply_packed<DType::int6>(t);
  else
    multiply_packed<DType::int4>(t);
}

}  // namespace zaya::ZAYA_ISA
