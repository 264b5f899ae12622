// The choice of the micro-kernel of gemm.cpp: portable (the specification), AVX2 with FMA, AVX-512 with BF16.
#pragma once
#include "cpu/streaming.h"

#if defined(__AVX512BF16__)
#include "cpu/gemm_tile_avx512.h"
#elif defined(__AVX2__)
#include "cpu/gemm_tile_avx2.h"
#else
#include "cpu/gemm_tile_portable.h"
#endif

namespace zaya::ZAYA_ISA {

// How A is packed for products in bfloat16, as it is or rounded to it and widened; and how much of a panel of B, over a part of k, is kept while
// the rows pass by: AVX2 reads a panel once for every six rows and wants it in the first-level cache.
#if defined(__AVX2__) && !defined(__AVX512BF16__)
constexpr DType bfloat16_rows = DType::float32;
constexpr size_t kept_panel_bytes = size_t(32) << 10;
#else
constexpr DType bfloat16_rows = DType::bfloat16;
constexpr size_t kept_panel_bytes = size_t(128) << 10;
#endif

// The kernel for this many rows.
inline TileKernel tile_kernel(Format format, [[maybe_unused]] int rows) {
  if (format == Format::float64) return portable_tile<double, double, double>;
#if defined(__AVX512BF16__)
  if (format == Format::bfloat16) return avx512_kernel<Bfloat16Step>(rows);
  if (format == Format::float32) return avx512_kernel<Float32Step>(rows);
  return avx512_kernel<Float32ByBfloat16Step>(rows);
#elif defined(__AVX2__)
  if (format == Format::bfloat16) return avx2_tile<Bfloat16Step>;
  if (format == Format::float32) return avx2_tile<Float32Step>;
  return avx2_tile<Float32ByBfloat16Step>;
#else
  if (format == Format::bfloat16) return portable_tile<float, bfloat16, bfloat16>;
  if (format == Format::float32) return portable_tile<float, float, float>;
  return portable_tile<float, float, bfloat16>;
#endif
}

// One row times panels that lie one after the other: t.c and t.columns are those of all of them.
inline void multiply_row(Format format, TileCall t, int64_t panels) {
#if defined(__AVX512BF16__)
  if (format == Format::bfloat16) return avx512_row<Bfloat16Step>(t, panels);
  if (format == Format::float32) return avx512_row<Float32Step>(t, panels);
  if (format == Format::float32_by_bfloat16) return avx512_row<Float32ByBfloat16Step>(t, panels);
#endif
  const int64_t b_size = format == Format::float64 ? 8 : format == Format::float32 ? 4 : 2, c_size = format == Format::float64 ? 8 : 4;
  const int64_t columns = t.columns;
  t.rows = 1, t.ahead = 2048;
  for (int64_t panel = 0; panel < panels; panel++) {
    t.columns = std::min(panel_columns, columns - panel * panel_columns);
    tile_kernel(format, 1)(t);
    t.b = static_cast<const uint8_t*>(t.b) + panel_columns * 2 * t.pairs * b_size;
    t.c = static_cast<uint8_t*>(t.c) + panel_columns * c_size;
  }
}

}  // namespace zaya::ZAYA_ISA
