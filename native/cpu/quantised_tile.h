// The micro-kernels of quantised.cpp: up to 12 rows of x times one panel's block of 256 columns, added to c in float32.
// The sums over a block are exact in integers (at most 127 · 128 · 256 < 2^24, so in float32 too); each kernel may take them in any order.
#pragma once
#include <array>
#include <utility>

#include "cpu/quantised.h"
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace zaya::ZAYA_ISA {

constexpr int64_t prefetch_ahead = 4096;  // bytes
constexpr int64_t direct_rows = 4;  // up to so many rows are multiplied with int4 and int6 as they lie; for more a block is unpacked first

struct QuantisedTile {
  DType packed = DType::int8;           // of values in multiply_direct; multiply_tile takes int8
  const uint8_t* values = nullptr;
  const float* scales = nullptr;        // [32]
  const int32_t* words = nullptr;       // of x, and what follows: see QuantisedRows
  const float* x_scales = nullptr;
  const int32_t* starts = nullptr;
  const float* sums = nullptr;
  int64_t k = 0;       // columns of the block
  int rows = 0;
  float* c = nullptr;  // [rows][32]
  bool accumulate = false;
};

// q of row r and column 4 · quad + s of a group of int4 or int6.
inline int packed_value(DType packed, const uint8_t* group, int64_t r, int64_t quad, int64_t s) {
  int q = group[quad * 64 + r % 16 * 4 + s] >> (r < 16 ? 0 : 4) & 15;
  if (packed == DType::int6) q |= (group[512 + quad / 2 * 64 + r % 16 * 4 + s] >> (quad % 2 * 4 + r / 16 * 2) & 3) << 4;
  return q;
}

#if defined(__AVX512VNNI__)

// sum + four products of unsigned by signed bytes in each 32-bit lane. In assembly: GCC 12 copies and spills the sums of the intrinsic.
inline __m512i dot(__m512i sum, __m512i u, __m512i s) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
  return sum;
}

// c += sum · (scale · d) for one row.
inline void add_block(const QuantisedTile& t, int row, __m512 low, __m512 high) {
  const __m512 d = _mm512_set1_ps(t.x_scales[row]);
  float* c = t.c + row * quantised_rows;
  const __m512 c0 = t.accumulate ? _mm512_loadu_ps(c) : _mm512_setzero_ps(), c1 = t.accumulate ? _mm512_loadu_ps(c + 16) : _mm512_setzero_ps();
  _mm512_storeu_ps(c, _mm512_fmadd_ps(low, _mm512_mul_ps(_mm512_loadu_ps(t.scales), d), c0));
  _mm512_storeu_ps(c + 16, _mm512_fmadd_ps(high, _mm512_mul_ps(_mm512_loadu_ps(t.scales + 16), d), c1));
}

template <int R> void vnni_tile(const QuantisedTile& t) {
  __m512i sum[R][2];
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) sum[i][0] = sum[i][1] = _mm512_set1_epi32(t.starts[i]);
  const uint8_t* b = t.values;
  const int32_t* a = t.words;
  for (int64_t quad = t.k / 4; quad > 0; quad--) {
    _mm_prefetch(reinterpret_cast<const char*>(b + prefetch_ahead), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(b + prefetch_ahead + 64), _MM_HINT_T0);
    const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      const __m512i x = _mm512_set1_epi32(a[i]);
      sum[i][0] = dot(sum[i][0], b0, x);
      sum[i][1] = dot(sum[i][1], b1, x);
    }
    a += R;
    b += 128;
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; i++) add_block(t, i, _mm512_cvtepi32_ps(sum[i][0]), _mm512_cvtepi32_ps(sum[i][1]));
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

template <DType packed, int R> void direct_tile(const QuantisedTile& t) {
  __m512 sum[R][2];
#pragma GCC unroll 4
  for (int i = 0; i < R; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  const uint8_t* at = t.values;
  for (int64_t group = 0; group < t.k / quantised_group; group++, at += group_bytes(packed)) {
    for (int64_t line = 0; line < group_bytes(packed); line += 64) _mm_prefetch(reinterpret_cast<const char*>(at + line + prefetch_ahead), _MM_HINT_T0);
    __m512i part[R][2];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) part[i][0] = part[i][1] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int64_t j = 0; j < quantised_group / 4; j++) {
      __m512i low, high;
      load_quad<packed>(at, j, low, high);
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const __m512i x = _mm512_set1_epi32(t.words[(group * (quantised_group / 4) + j) * R + i]);
        part[i][0] = dot(part[i][0], low, x);
        part[i][1] = dot(part[i][1], high, x);
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const auto* parameters = reinterpret_cast<const __m128i*>(at + group_bytes(packed) - 64 + 16 * half);
      const __m512 step = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(parameters)));
      const __m512 offset = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(parameters + 2)));
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        sum[i][half] = _mm512_fmadd_ps(offset, _mm512_set1_ps(t.sums[group * R + i]), sum[i][half]);
        sum[i][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[i][half]), step, sum[i][half]);
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; i++) add_block(t, i, sum[i][0], sum[i][1]);
}

template <DType packed> void unpack(int64_t columns, const uint8_t* group, uint8_t* out) {
  const __m512i bytes = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);  // the first of every four, four times
  for (const uint8_t* end = out + columns * quantised_rows; out < end; out += 1024, group += group_bytes(packed)) {
    for (int64_t line = 0; line < group_bytes(packed); line += 64) _mm_prefetch(reinterpret_cast<const char*>(group + line + prefetch_ahead), _MM_HINT_T0);
    __m512i even[2], odd[2], offset[2];
    for (int half = 0; half < 2; half++) {
      const auto* parameters = reinterpret_cast<const __m128i*>(group + group_bytes(packed) - 64 + 16 * half);
      const __m512i step = _mm512_shuffle_epi8(_mm512_cvtepu8_epi32(_mm_loadu_si128(parameters)), bytes);
      even[half] = _mm512_and_si512(step, _mm512_set1_epi16(0x00ff));
      odd[half] = _mm512_andnot_si512(_mm512_set1_epi16(0x00ff), step);
      offset[half] = _mm512_xor_si512(_mm512_shuffle_epi8(_mm512_cvtepu8_epi32(_mm_loadu_si128(parameters + 2)), bytes), _mm512_set1_epi8(-128));
    }
#pragma GCC unroll 8
    for (int64_t quad = 0; quad < quantised_group / 4; quad++) {
      __m512i q[2];
      load_quad<packed>(group, quad, q[0], q[1]);
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const __m512i first = _mm512_maddubs_epi16(q[half], even[half]), second = _mm512_slli_epi16(_mm512_maddubs_epi16(q[half], odd[half]), 8);
        _mm512_storeu_si512(out + 128 * quad + 64 * half, _mm512_add_epi8(_mm512_or_si512(first, second), offset[half]));
      }
    }
  }
}

inline void multiply_tile(const QuantisedTile& t) {
  constexpr auto kernels = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<void (*)(const QuantisedTile&), QuantisedRows::strip>{vnni_tile<R + 1>...};
  }(std::make_integer_sequence<int, QuantisedRows::strip>());
  kernels[static_cast<size_t>(t.rows - 1)](t);
}

inline void multiply_direct(const QuantisedTile& t) {
  constexpr auto four = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<void (*)(const QuantisedTile&), direct_rows>{direct_tile<DType::int4, R + 1>...};
  }(std::make_integer_sequence<int, direct_rows>());
  constexpr auto six = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<void (*)(const QuantisedTile&), direct_rows>{direct_tile<DType::int6, R + 1>...};
  }(std::make_integer_sequence<int, direct_rows>());
  (t.packed == DType::int4 ? four : six)[static_cast<size_t>(t.rows - 1)](t);
}

inline void unpack_block(DType packed, int64_t columns, const uint8_t* block, uint8_t* out) {
  if (packed == DType::int4)
    unpack<DType::int4>(columns, block, out);
  else
    unpack<DType::int6>(columns, block, out);
}

#else

// The specification: a block of int4 or int6 becomes int8, v + 128.
inline void unpack_block(DType packed, int64_t columns, const uint8_t* block, uint8_t* out) {
  for (int64_t quad = 0; quad < columns / 4; quad++) {
    const uint8_t* group = block + quad / 8 * group_bytes(packed);
    const uint8_t* parameters = group + group_bytes(packed) - 64;
    for (int64_t row = 0; row < quantised_rows; row++)
      for (int64_t s = 0; s < 4; s++)
        out[128 * quad + 4 * row + s] =
            static_cast<uint8_t>(128 + static_cast<int8_t>(parameters[quantised_rows + row]) + parameters[row] * packed_value(packed, group, row, quad % 8, s));
  }
}

inline void multiply_tile(const QuantisedTile& t) {
  for (int row = 0; row < t.rows; row++) {
    int32_t sum[quantised_rows];
    for (int32_t& one : sum) one = t.starts[row];
    for (int64_t quad = 0; quad < t.k / 4; quad++) {
      int8_t x[4];
      std::memcpy(x, t.words + quad * t.rows + row, sizeof x);
      const uint8_t* b = t.values + 128 * quad;
      for (int64_t j = 0; j < quantised_rows; j++)
        sum[j] += x[0] * b[4 * j] + x[1] * b[4 * j + 1] + x[2] * b[4 * j + 2] + x[3] * b[4 * j + 3];
    }
    float* c = t.c + row * quantised_rows;
    for (int64_t j = 0; j < quantised_rows; j++)
      c[j] = static_cast<float>(sum[j]) * (t.scales[j] * t.x_scales[row]) + (t.accumulate ? c[j] : 0.0f);
  }
}

inline void multiply_direct(const QuantisedTile& packed) {
  alignas(64) uint8_t values[panel_scratch];
  unpack_block(packed.packed, packed.k, packed.values, values);
  QuantisedTile t = packed;
  t.values = values;
  multiply_tile(t);
}

#endif

}  // namespace zaya::ZAYA_ISA
