#include "cpu/measure_products.h"

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace zaya {
namespace {

constexpr int64_t steps = 4096;  // multiply-adds of each chain between two looks at the clock

// Chains are independent accumulators: more than latency times throughput (8 on the processors of today), and few enough for the registers.
#if defined(__x86_64__)
constexpr int avx512_chains = 16;  // of 32 registers
constexpr int avx2_chains = 12;    // of 16

__attribute__((target("avx512f"), noinline)) void float32_avx512() {
  __m512 c[avx512_chains];
  for (int i = 0; i < avx512_chains; i++) c[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(1.0000001f), b = _mm512_set1_ps(1e-9f);
  for (int64_t k = 0; k < steps; k++)
    for (int i = 0; i < avx512_chains; i++) c[i] = _mm512_fmadd_ps(c[i], a, b);
  for (int i = 0; i < avx512_chains; i++) asm volatile("" : : "v"(c[i]));
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"), noinline)) void bfloat16_avx512() {
  __m512 c[avx512_chains];
  for (int i = 0; i < avx512_chains; i++) c[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = (__m512bh)_mm512_set1_epi16(0x3080);
  for (int64_t k = 0; k < steps; k++)
    for (int i = 0; i < avx512_chains; i++) c[i] = _mm512_dpbf16_ps(c[i], a, b);
  for (int i = 0; i < avx512_chains; i++) asm volatile("" : : "v"(c[i]));
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"), noinline)) void int8_avx512() {
  __m512i c[avx512_chains];
  for (int i = 0; i < avx512_chains; i++) c[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(1);
  for (int64_t k = 0; k < steps; k++)
    for (int i = 0; i < avx512_chains; i++) c[i] = _mm512_dpbusd_epi32(c[i], a, b);
  for (int i = 0; i < avx512_chains; i++) asm volatile("" : : "v"(c[i]));
}

__attribute__((target("avx2,fma"), noinline)) void float32_avx2() {
  __m256 c[avx2_chains];
  for (int i = 0; i < avx2_chains; i++) c[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(1.0000001f), b = _mm256_set1_ps(1e-9f);
  for (int64_t k = 0; k < steps; k++)
    for (int i = 0; i < avx2_chains; i++) c[i] = _mm256_fmadd_ps(c[i], a, b);
  for (int i = 0; i < avx2_chains; i++) asm volatile("" : : "x"(c[i]));
}

// Bytes to pairs of 16 bits, pairs to fours of 32 bits, sum: three instructions for 32 multiply-adds.
__attribute__((target("avx2"), noinline)) void int8_avx2() {
  __m256i c[avx2_chains];
  for (int i = 0; i < avx2_chains; i++) c[i] = _mm256_set1_epi32(i);
  __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  for (int64_t k = 0; k < steps; k++)
    for (int i = 0; i < avx2_chains; i++) {
      asm volatile("" : "+x"(a));  // as if it were another one each time, or the products would leave the loop
      c[i] = _mm256_add_epi32(c[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  for (int i = 0; i < avx2_chains; i++) asm volatile("" : : "x"(c[i]));
}
#endif

constexpr int portable_chains = 14;
typedef float Four __attribute__((vector_size(16)));
typedef uint16_t Eight __attribute__((vector_size(16)));

__attribute__((noinline)) void float32_portable() {
  Four c[portable_chains];
  for (int i = 0; i < portable_chains; i++) c[i] = Four{} + static_cast<float>(i);
  const Four a = Four{} + 1.0000001f, b = Four{} + 1e-9f;
  for (int64_t k = 0; k < steps; k++)
    for (int i = 0; i < portable_chains; i++) c[i] = c[i] * a + b;
  for (int i = 0; i < portable_chains; i++) asm volatile("" : : "m"(c[i]));
}

// 16 bits are the narrowest that hold the product of two bytes.
__attribute__((noinline)) void int8_portable() {
  Eight c[portable_chains];
  for (int i = 0; i < portable_chains; i++) c[i] = Eight{} + static_cast<uint16_t>(i);
  Eight a = Eight{} + uint16_t(3);
  const Eight b = Eight{} + uint16_t(1);
  asm volatile("" : "+m"(a));  // a number that the compiler does not know, or it would shift instead
  for (int64_t k = 0; k < steps; k++)
    for (int i = 0; i < portable_chains; i++) c[i] = c[i] * a + b;
  for (int i = 0; i < portable_chains; i++) asm volatile("" : : "m"(c[i]));
}

// lanes: products of one instruction, or of one group of them.
constexpr ProductBody body(const char* instruction, void (*run)(), int chains, int lanes) {
  return {instruction, run, 2.0 * lanes * chains * static_cast<double>(steps)};
}

}  // namespace

ProductBody product_body(Isa isa, Product product) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx512:
      if (product == Product::int8) return body("vpdpbusd", int8_avx512, avx512_chains, 64);
      if (product == Product::bfloat16) return body("vdpbf16ps", bfloat16_avx512, avx512_chains, 32);
      return body("vfmadd", float32_avx512, avx512_chains, 16);
    case Isa::avx2:
      return product == Product::int8 ? body("vpmaddubsw", int8_avx2, avx2_chains, 32) : body("vfmadd", float32_avx2, avx2_chains, 8);
#endif
    default:
      return product == Product::int8 ? body("plain C++", int8_portable, portable_chains, 8)
                                      : body("plain C++", float32_portable, portable_chains, 4);
  }
}

}  // namespace zaya
