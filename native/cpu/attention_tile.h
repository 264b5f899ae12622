// The small product both attentions are made of: C [rows][columns] = start + A · B.
//   A(r, k) = a[r * a_row + k * a_step], B(k, c) = b[k * b_row + c] (float, double, or bfloat16 widened), C(r, c) = c[r * c_row + c].
// Every element of C has one chain: its start value, then one multiply-add for each k in order. The chain does not depend on
// how many rows or columns are asked for, so a row alone and the same row in a tile have the same bits.
#pragma once
#include <type_traits>

#include "cpu/lanes.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace zaya::ZAYA_ISA {

// What an element of C starts from: 0, itself, or itself times factor[row].
enum class Start { zero, keep, scaled };

template <class T, class B> struct Product {
  const T* a;
  int64_t a_row, a_step;
  const B* b;
  int64_t b_row;
  T* c;
  int64_t c_row;
  int64_t depth;
  const T* factor = nullptr;
};

// exp for what softmax asks: arguments that are at most about 0, or −inf, or NaN. Error below 2 ulp; 0 below −87.3, as in lanes.h.
template <class T> inline Lanes<T> softmax_exponential(Lanes<T> x) { return exponential(x); }

#ifdef __AVX512F__

// The polynomial of lanes.h with fused multiply-adds, and the scaling in one instruction.
template <> inline Lanes<float> softmax_exponential<float>(Lanes<float> lanes_x) {
  const __m512 x = std::bit_cast<__m512>(lanes_x);
  const __m512 n = _mm512_maskz_roundscale_ps(0xffff, _mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x));
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  const __mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33654f), _CMP_NLT_UQ);
  return std::bit_cast<Lanes<float>>(_mm512_maskz_scalef_ps(kept, p, n));
}

inline __m512 load_columns(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 load_columns(const float* p, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, p); }
// The masks are full; GCC 12 warns about its own unmasked forms.
inline __m512 widen(__m256i v) { return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, v), 16)); }
inline __m512 load_columns(const bfloat16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline __m512 load_columns(const bfloat16* p, __mmask16 mask) { return widen(_mm256_maskz_loadu_epi16(mask, p)); }

// rows × 32 columns in registers (vectors = 2), or rows × up to 16 under a mask (vectors = 1).
template <int rows, int vectors, Start start, class B>
__attribute__((always_inline)) inline void register_tile(const Product<float, B>& p, int64_t row, int64_t column, __mmask16 mask) {
  __m512 sum[rows][vectors];
  float* c = p.c + row * p.c_row + column;
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) {
      if constexpr (start == Start::zero) {
        sum[i][j] = _mm512_setzero_ps();
      } else {
        sum[i][j] = vectors == 1 ? load_columns(c + i * p.c_row, mask) : load_columns(c + i * p.c_row + 16 * j);
        if constexpr (start == Start::scaled) sum[i][j] = _mm512_mul_ps(sum[i][j], _mm512_set1_ps(p.factor[row + i]));
      }
    }
  // One pointer for three rows: the others are one and two strides away, which addressing does for free.
  constexpr int bases = (rows + 2) / 3;
  const int64_t stride = p.a_row, step = p.a_step, b_row = p.b_row;
  const float* a[bases];
#pragma GCC unroll 4
  for (int i = 0; i < bases; i++) a[i] = p.a + (row + 3 * i) * stride;
  const B* b = p.b + column;
  for (int64_t k = 0; k < p.depth; k++) {
    __m512 b0 = vectors == 1 ? load_columns(b, mask) : load_columns(b);
    __m512 b1 = vectors == 1 ? b0 : load_columns(b + 16);
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
      __m512 value = _mm512_set1_ps(a[i / 3][(i % 3) * stride]);
      sum[i][0] = _mm512_fmadd_ps(value, b0, sum[i][0]);
      if constexpr (vectors == 2) sum[i][1] = _mm512_fmadd_ps(value, b1, sum[i][1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < bases; i++) a[i] += step;
    b += b_row;
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) {
      if constexpr (vectors == 1)
        _mm512_mask_storeu_ps(c + i * p.c_row, mask, sum[i][j]);
      else
        _mm512_storeu_ps(c + i * p.c_row + 16 * j, sum[i][j]);
    }
}

template <int rows, Start start, class B> inline void strip(const Product<float, B>& p, int64_t row, int64_t columns) {
  int64_t column = 0;
  for (; column + 32 <= columns; column += 32) register_tile<rows, 2, start>(p, row, column, 0xffff);
  for (; column < columns; column += 16) {
    int64_t left = columns - column;
    register_tile<rows, 1, start>(p, row, column, left >= 16 ? 0xffff : static_cast<__mmask16>((1 << left) - 1));
  }
}

template <Start start, class B> inline void multiply(int64_t rows, int64_t columns, const Product<float, B>& p) {
  int64_t row = 0;
  for (; row + 12 <= rows; row += 12) strip<12, start>(p, row, columns);
  for (; row + 8 <= rows; row += 8) strip<8, start>(p, row, columns);
  for (; row + 4 <= rows; row += 4) strip<4, start>(p, row, columns);
  for (; row + 2 <= rows; row += 2) strip<2, start>(p, row, columns);
  for (; row < rows; row++) strip<1, start>(p, row, columns);
}

#endif

template <class T, class B> inline T widened(B value) {
  if constexpr (std::is_same_v<B, bfloat16>)
    return to_float(value);
  else
    return value;
}

// The specification of the above, in pieces of 2 × 64 bytes that fit SSE2's sixteen registers; float64 always comes here.
template <int rows, Start start, class T, class B> inline void plain_tile(const Product<T, B>& p, int64_t row, int64_t column) {
  typedef T Part __attribute__((vector_size(16)));
  constexpr int width = 16 / sizeof(T), parts = 4;
  Part sum[rows][parts] = {};
  T* c = p.c + row * p.c_row + column;
#pragma GCC unroll 2
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < parts; j++) {
      if constexpr (start != Start::zero) std::memcpy(&sum[i][j], c + i * p.c_row + j * width, sizeof(Part));
      if constexpr (start == Start::scaled) sum[i][j] *= p.factor[row + i];
    }
  const T* a = p.a + row * p.a_row;
  const B* b = p.b + column;
  for (int64_t k = 0; k < p.depth; k++, a += p.a_step, b += p.b_row) {
    Part value[parts] = {};
#pragma GCC unroll 4
    for (int j = 0; j < parts; j++) {
      if constexpr (std::is_same_v<B, T>)
        std::memcpy(&value[j], b + j * width, sizeof(Part));
      else
        value[j] = Part{to_float(b[4 * j]), to_float(b[4 * j + 1]), to_float(b[4 * j + 2]), to_float(b[4 * j + 3])};
    }
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++) {
      const T factor = a[i * p.a_row];
#pragma GCC unroll 4
      for (int j = 0; j < parts; j++) sum[i][j] += factor * value[j];
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < parts; j++) std::memcpy(c + i * p.c_row + j * width, &sum[i][j], sizeof(Part));
}

template <Start start, class T, class B> __attribute__((noinline)) void plain_element(const Product<T, B>& p, int64_t row, int64_t column) {
  T& c = p.c[row * p.c_row + column];
  T sum = start == Start::zero ? T(0) : c;
  if constexpr (start == Start::scaled) sum *= p.factor[row];
  for (int64_t k = 0; k < p.depth; k++) {
    const B value = p.b[k * p.b_row + column];
    if constexpr (std::is_same_v<B, T>)
      sum += p.a[row * p.a_row + k * p.a_step] * value;
    else
      sum += p.a[row * p.a_row + k * p.a_step] * to_float(value);
  }
  c = sum;
}

template <Start start, class T, class B> inline void multiply(int64_t rows, int64_t columns, const Product<T, B>& p) {
  constexpr int width = 64 / sizeof(T);
  int64_t column = 0;
  for (; column + width <= columns; column += width) {
    int64_t row = 0;
    for (; row + 2 <= rows; row += 2) plain_tile<2, start>(p, row, column);
    if (row < rows) plain_tile<1, start>(p, row, column);
  }
  for (; column < columns; column++)
    for (int64_t row = 0; row < rows; row++) plain_element<start>(p, row, column);
}

}  // namespace zaya::ZAYA_ISA
