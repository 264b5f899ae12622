// The small product both attentions are made of: C [rows][columns] = start + A · B. Operands are stored in units of one or more steps of
// the sum, which lie side by side so that one instruction takes them:
//   float, double   one number; C in the same type
//   Pair            two bfloat16; their products are added to a float32 as vdpbf16ps does it, first the odd one, then the even one
//   KeyQuad         four int8 of A by four uint8 of B; C is int32, and exact
//   ValueQuad       four uint8 of A by four int8 of B; C is float32, to which step[row] times the exact sum of the products is added
// A(r, k) = a[r * a_row + k * a_step], B(k, c) = b[k * b_row + c], C(r, c) = c[r * c_row + c]; k counts units.
// Every element of C has one chain: its start value, then the units in order. The chain does not depend on how many rows or columns
// are asked for, so a row alone and the same row in a tile have the same bits.
#pragma once
#include <algorithm>
#include <type_traits>

#include "cpu/lanes.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace zaya::ZAYA_ISA {

// What an element of C starts from: 0, itself, or itself times factor[row].
enum class Start { zero, keep, scaled };

struct __attribute__((may_alias)) Pair {
  bfloat16 of[2];
};
struct __attribute__((may_alias)) KeyQuad {
  uint8_t of[4];
};
struct __attribute__((may_alias)) ValueQuad {
  uint8_t of[4];
};

// What is read after what is being worked on: two pieces of memory of as many bytes. Their lines are fetched bit by bit beside the work; of many at once the
// processor drops some.
class LinesAhead {
 public:
  LinesAhead(const void* first, const void* second, int64_t bytes)
      : piece_(static_cast<const uint8_t*>(first)), second_(static_cast<const uint8_t*>(second)), bytes_(bytes) {}

  int64_t lines() const { return 2 * bytes_ / 64; }
  // The next `count` lines, one behind the other; the last ones of a piece again where fewer are left.
  const uint8_t* take(int64_t count) {
    const uint8_t* begin = piece_ + std::min(at_, bytes_ - 64 * count);
    at_ += 64 * count;
    if (at_ >= bytes_ && piece_ != second_) piece_ = second_, at_ = 0;
    return begin;
  }
  void fetch(int64_t count) {
    const uint8_t* line = take(count);
    for (int64_t i = 0; i < count; i++) __builtin_prefetch(line + 64 * i, 0, 2);
  }

 private:
  const uint8_t *piece_, *second_;
  int64_t bytes_, at_ = 0;
};

template <class C, class Unit> struct Product {
  const Unit* a;
  int64_t a_row, a_step;
  const Unit* b;
  int64_t b_row;
  C* c;
  int64_t c_row;
  int64_t depth;
  const C* factor = nullptr;  // [row], for Start::scaled
  const C* step = nullptr;    // [row], for ValueQuad
  LinesAhead* ahead = nullptr;
};

// Sums of ValueQuads are integers until they are added to C.
template <class C, class Unit> using SumOf = std::conditional_t<std::is_same_v<Unit, ValueQuad>, int32_t, C>;

// to[i] = x[i] as bfloat16, for 16 i.
inline void round_lanes(Lanes<float> x, bfloat16* to) {
#ifdef __AVX512BF16__
  const __m256bh rounded = _mm512_cvtneps_pbh(std::bit_cast<__m512>(x));
  std::memcpy(to, &rounded, sizeof rounded);
#else
  for (int i = 0; i < lanes; i++) to[i] = to_bfloat16(x[i]);
#endif
}

// The same for n i.
inline void round_row(const float* x, int64_t n, bfloat16* to) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) round_lanes(load(x + i), to + i);
  for (; i < n; i++) to[i] = to_bfloat16(x[i]);
}

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

// sum + a · b for 16 columns. Sums of integers pass through as bits; in assembly, as GCC 12 copies the sums of the intrinsics.
inline __m512 add_product(__m512 sum, const float* a, __m512 b) { return _mm512_fmadd_ps(_mm512_set1_ps(*a), b, sum); }
inline __m512i broadcast(const void* unit) {
  int32_t bits;
  std::memcpy(&bits, unit, sizeof bits);
  return _mm512_set1_epi32(bits);
}
inline __m512 add_product(__m512 sum, const Pair* a, __m512 b) {
  asm volatile("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(b), "m"(*a));
  return sum;
}
inline __m512 add_product(__m512 sum, const KeyQuad* a, __m512 b) {
  asm volatile("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(b), "m"(*a));
  return sum;
}
inline __m512 add_product(__m512 sum, const ValueQuad* a, __m512 b) {
  asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(broadcast(a)), "v"(b));
  return sum;
}

// The same with B in memory.
inline __m512 add_product(__m512 sum, const ValueQuad* a, const ValueQuad* b) {
  asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(broadcast(a)), "m"(*reinterpret_cast<const __m512*>(b)));
  return sum;
}

// rows × 16 · vectors columns in registers, or rows × up to 16 under a mask (vectors = 1). With every unit `lines` of those ahead are fetched.
template <int rows, int vectors, Start start, int lines, class C, class Unit>
__attribute__((always_inline)) inline void register_tile(const Product<C, Unit>& p, int64_t row, int64_t column, __mmask16 mask) {
  constexpr bool exact = std::is_same_v<Unit, ValueQuad>, from_memory = exact && vectors == 8;
  static_assert(!exact || start == Start::scaled);
  __m512 sum[rows][vectors];
  C* c = p.c + row * p.c_row + column;
  const auto load_c = [&](int i, int j) { return vectors == 1 ? _mm512_maskz_loadu_ps(mask, c + i * p.c_row) : _mm512_loadu_ps(c + i * p.c_row + 16 * j); };
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      if constexpr (start == Start::zero || exact) {
        sum[i][j] = _mm512_setzero_ps();
      } else {
        sum[i][j] = load_c(i, j);
        if constexpr (start == Start::scaled) sum[i][j] = _mm512_mul_ps(sum[i][j], _mm512_set1_ps(p.factor[row + i]));
      }
    }
  // One pointer for three rows: the others are one and two strides away, which addressing does for free.
  constexpr int bases = (rows + 2) / 3;
  const int64_t stride = p.a_row, step = p.a_step, b_row = p.b_row;
  [[maybe_unused]] const uint8_t* fetched = nullptr;
  if constexpr (lines > 0) fetched = p.ahead->take(lines * p.depth);
  const Unit* a[bases];
#pragma GCC unroll 4
  for (int i = 0; i < bases; i++) a[i] = p.a + (row + 3 * i) * stride;
  const Unit* b = p.b + column;
#pragma GCC unroll 1  // depths are constants where keys are summed: unrolled whole, the pointers no longer fit the registers
  for (int64_t k = 0; k < p.depth; k++) {
    [[maybe_unused]] __m512 part[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors && !from_memory; j++) part[j] = vectors == 1 ? _mm512_maskz_loadu_ps(mask, b) : _mm512_loadu_ps(b + 16 * j);
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) {
        const Unit* at = a[i / 3] + (i % 3) * stride;
        // Read again for the second row, values leave the processor more time for what it fetches.
        if constexpr (from_memory) sum[i][j] = add_product(sum[i][j], at, b + 16 * j);
        else sum[i][j] = add_product(sum[i][j], at, part[j]);
        if constexpr (lines > 0)  // evenly among the products, which in assembly keep their order
          if (const int done = i * vectors + j + 1; done * lines / (rows * vectors) > (done - 1) * lines / (rows * vectors)) {
            asm volatile("prefetcht1 %0" : : "m"(*fetched));
            fetched += 64;
          }
      }
#pragma GCC unroll 4
    for (int i = 0; i < bases; i++) a[i] += step;
    b += b_row;
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      if constexpr (exact)
        sum[i][j] = _mm512_add_ps(_mm512_mul_ps(load_c(i, j), _mm512_set1_ps(p.factor[row + i])),
                                  _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(sum[i][j])), _mm512_set1_ps(p.step[row + i])));
      if constexpr (vectors == 1)
        _mm512_mask_storeu_ps(c + i * p.c_row, mask, sum[i][j]);
      else
        _mm512_storeu_ps(c + i * p.c_row + 16 * j, sum[i][j]);
    }
}

// Columns that one or two rows take at once: B of a few rows comes from memory, and is read in the order in which it lies.
constexpr int64_t long_row = 128;

template <int rows, Start start, int lines, class C, class Unit> inline void strip(const Product<C, Unit>& p, int64_t row, int64_t columns) {
  int64_t column = 0;
  if constexpr (rows <= 2)
    for (; column + long_row <= columns; column += long_row) register_tile<rows, long_row / 16, start, lines>(p, row, column, 0xffff);
  for (; column + 32 <= columns; column += 32) register_tile<rows, 2, start, lines>(p, row, column, 0xffff);
  for (; column < columns; column += 16) {
    int64_t left = columns - column;
    register_tile<rows, 1, start, lines>(p, row, column, left >= 16 ? 0xffff : static_cast<__mmask16>((1 << left) - 1));
  }
}

template <Start start, int lines = 0, class C, class Unit>
  requires(!std::is_same_v<C, double>)
inline void multiply(int64_t rows, int64_t columns, const Product<C, Unit>& p) {
  int64_t row = 0;
  for (; row + 12 <= rows; row += 12) strip<12, start, lines>(p, row, columns);
  if (columns < long_row) {
    for (; row + 8 <= rows; row += 8) strip<8, start, lines>(p, row, columns);
    for (; row + 4 <= rows; row += 4) strip<4, start, lines>(p, row, columns);
  }
  for (; row + 2 <= rows; row += 2) strip<2, start, lines>(p, row, columns);
  for (; row < rows; row++) strip<1, start, lines>(p, row, columns);
}

#endif

// The specification of the above, which AVX2 runs too; float64 always comes here. A tile is rows × 64 bytes, which fits sixteen registers.
constexpr int plain_rows = register_bytes == 16 ? 2 : 4, plain_parts = 64 / register_bytes;

template <class T> inline Register<T> multiply_add(Register<T> a, Register<T> b, Register<T> sum) { return a * b + sum; }
#if defined(__AVX2__) && !defined(__AVX512F__)
template <> inline Register<float> multiply_add<float>(Register<float> a, Register<float> b, Register<float> sum) { return _mm256_fmadd_ps(a, b, sum); }
#endif
// Of each two numbers of a with their two of b: the sum of the products.
inline Register<int32_t> multiply_pairs(Register<int16_t> a, Register<int16_t> b) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  return std::bit_cast<Register<int32_t>>(_mm256_madd_epi16(std::bit_cast<__m256i>(a), std::bit_cast<__m256i>(b)));
#else
  const auto x = std::bit_cast<Register<int32_t>>(a), y = std::bit_cast<Register<int32_t>>(b);
  return (x << 16 >> 16) * (y << 16 >> 16) + (x >> 16) * (y >> 16);
#endif
}
// The first and the second byte of every two.
template <class Byte> struct Widened {
  using Half = std::conditional_t<std::is_signed_v<Byte>, int16_t, uint16_t>;
  Register<Half> halves;
  Register<int16_t> first() const { return std::bit_cast<Register<int16_t>>(halves << 8 >> 8); }
  Register<int16_t> second() const { return std::bit_cast<Register<int16_t>>(halves >> 8); }
};

// The products of a unit of A with as many columns of B as a register has.
template <class T>
  requires std::is_floating_point_v<T>
inline void add_units(Register<T>& sum, T a, const T* b) {
  Register<T> value;
  std::memcpy(&value, b, sizeof value);
  sum = multiply_add<T>(Register<T>{} + a, value, sum);
}
inline void add_units(Register<float>& sum, Pair a, const Pair* b) {
  Register<uint32_t> bits;
  std::memcpy(&bits, b, sizeof bits);
  sum = multiply_add<float>(Register<float>{} + to_float(a.of[1]), std::bit_cast<Register<float>>(bits & 0xffff0000u), sum);
  sum = multiply_add<float>(Register<float>{} + to_float(a.of[0]), std::bit_cast<Register<float>>(bits << 16), sum);
}
template <class A, class B, class Quad> inline void add_quads(Register<int32_t>& sum, Quad a, const Quad* b) {
  const auto every = std::bit_cast<decltype(Widened<A>::halves)>(Register<uint32_t>{} + std::bit_cast<uint32_t>(a));
  Widened<A> x{every};
  Widened<B> y;
  std::memcpy(&y, b, sizeof y);
  sum += multiply_pairs(x.first(), y.first()) + multiply_pairs(x.second(), y.second());
}
inline void add_units(Register<int32_t>& sum, KeyQuad a, const KeyQuad* b) { add_quads<int8_t, uint8_t>(sum, a, b); }
inline void add_units(Register<int32_t>& sum, ValueQuad a, const ValueQuad* b) { add_quads<uint8_t, int8_t>(sum, a, b); }

// What the sum of `bytes` of C begins with, and what becomes of them.
template <Start start, class C, class Unit> inline Register<SumOf<C, Unit>> begin_sum(const Product<C, Unit>& p, int64_t row, const C* c, size_t bytes) {
  Register<SumOf<C, Unit>> sum = {};
  if constexpr (std::is_same_v<SumOf<C, Unit>, C>) {
    if constexpr (start != Start::zero) std::memcpy(&sum, c, bytes);
    if constexpr (start == Start::scaled) sum *= p.factor[row];
  }
  return sum;
}
template <class C, class Unit> inline void end_sum(const Product<C, Unit>& p, int64_t row, const Register<SumOf<C, Unit>>& sum, C* c, size_t bytes) {
  Register<C> result = {};
  if constexpr (std::is_same_v<SumOf<C, Unit>, C>) {
    result = sum;
  } else {
    std::memcpy(&result, c, bytes);
    result = result * p.factor[row] + __builtin_convertvector(sum, Register<C>) * p.step[row];
  }
  std::memcpy(c, &result, bytes);
}

template <int rows, Start start, class C, class Unit> inline void plain_tile(const Product<C, Unit>& p, int64_t row, int64_t column) {
  constexpr int width = register_bytes / sizeof(C), parts = plain_parts;
  Register<SumOf<C, Unit>> sum[rows][parts];
  C* c = p.c + row * p.c_row + column;
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < parts; j++) sum[i][j] = begin_sum<start>(p, row + i, c + i * p.c_row + j * width, register_bytes);
  const Unit* a = p.a + row * p.a_row;
  const Unit* b = p.b + column;
  for (int64_t k = 0; k < p.depth; k++, a += p.a_step, b += p.b_row)
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < parts; j++) add_units(sum[i][j], a[i * p.a_row], b + j * width);
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < parts; j++) end_sum(p, row + i, sum[i][j], c + i * p.c_row + j * width, register_bytes);
}

// Up to one vector of columns, for those that are left.
template <Start start, class C, class Unit> __attribute__((noinline)) void plain_rest(const Product<C, Unit>& p, int64_t row, int64_t column, int64_t columns) {
  const size_t bytes = static_cast<size_t>(columns) * sizeof(C);
  C* c = p.c + row * p.c_row + column;
  auto sum = begin_sum<start>(p, row, c, bytes);
  for (int64_t k = 0; k < p.depth; k++) {
    Unit b[sizeof(sum) / sizeof(C)] = {};
    std::memcpy(b, p.b + k * p.b_row + column, bytes);
    add_units(sum, p.a[row * p.a_row + k * p.a_step], b);
  }
  end_sum(p, row, sum, c, bytes);
}

template <Start start, int lines = 0, class C, class Unit> inline void multiply(int64_t rows, int64_t columns, const Product<C, Unit>& p) {
  constexpr int64_t width = 64 / sizeof(C), part = register_bytes / sizeof(C);
  int64_t column = 0;
  for (; column + width <= columns; column += width) {
    int64_t row = 0;
    for (; row + plain_rows <= rows; row += plain_rows) plain_tile<plain_rows, start>(p, row, column);
    for (; row < rows; row++) plain_tile<1, start>(p, row, column);
  }
  for (; column < columns; column += part)
    for (int64_t row = 0; row < rows; row++) plain_rest<start>(p, row, column, std::min(part, columns - column));
}

}  // namespace zaya::ZAYA_ISA
