// A product with the tile kernels of cpu/gemm_tile.h for kernels that fuse it with what comes before and after: some rows, packed by the
// caller, times panels of a weight. The accumulation is that of cpu/gemm.h.
#pragma once
#include "cpu/gemm_pack.h"
#include "cpu/gemm_tile.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {

// A weight [n, k] (k counted with padding) in panels, as stored or packed by the caller.
template <class T> struct PanelWeight {
  DType dtype = DType::float32;
  const uint8_t* panels = nullptr;
  int64_t n = 0, k = 0;

  // The element type in which a weight of this type is multiplied with rows of T.
  static DType packed(DType stored) { return packed_dtype(sizeof(T) == 8 ? Math::float64 : Math::float32, stored); }
  static bool in_place(const Tensor& w) { return w.encoding == Encoding::panels && w.dtype == packed(w.dtype); }

  Format format() const { return sizeof(T) == 8 ? Format::float64 : dtype == DType::bfloat16 ? Format::float32_by_bfloat16 : Format::float32; }
  int64_t panel_bytes() const { return panel_columns * k * static_cast<int64_t>(size_of(dtype)); }
};

// Rows of x [rows, k] in strips of 12, one after the other at even(k) · 12 elements: in `packed`, or x itself where it is such a strip.
template <class T> const T* pack_strips(const T* x, int64_t rows, int64_t k, T* packed) {
  if (rows == 1 && k == even(k)) return x;
  for (int64_t row = 0; row < rows; row += tile_height) {
    const int64_t height = std::min<int64_t>(tile_height, rows - row);
    pack_panel({{x, dtype_of<T>(), Layout::rows, k}, rows, k, row, height, packed + row * even(k)}, dtype_of<T>(), 0, even(k));
  }
  return packed;
}

// c [rows, 32 · panel0 …] = (c +) strips times panels panel0 … panel1 − 1. Strip i is at strips + i · strip elements.
template <class T>
void multiply_strips(const T* strips, int64_t strip, int64_t rows, const PanelWeight<T>& w, int64_t panel0, int64_t panel1, T* c, int64_t stride,
                     bool accumulate) {
  const int64_t count = (rows + tile_height - 1) / tile_height;
  if (count == 0) return;
  const int last = static_cast<int>(rows - (count - 1) * tile_height);
  if (rows == 1) {
    TileCall call;
    call.a = strips;
    call.b = w.panels + panel0 * w.panel_bytes();
    call.c = c + panel0 * panel_columns;
    call.pairs = w.k / 2;
    call.columns = std::min(panel1 * panel_columns, w.n) - panel0 * panel_columns;
    call.accumulate = accumulate;
    return multiply_row(w.format(), call, panel1 - panel0);
  }
  for (int64_t panel = panel0; panel < panel1; panel++) {
    TileCall call;
    call.b = w.panels + panel * w.panel_bytes();
    call.c_stride = stride;
    call.pairs = w.k / 2;
    call.columns = std::min<int64_t>(panel_columns, w.n - panel * panel_columns);
    call.accumulate = accumulate;
    for (int64_t i = 0; i < count; i++) {
      call.rows = i + 1 == count ? last : tile_height;
      call.a = strips + i * strip;
      call.c = c + i * tile_height * stride + panel * panel_columns;
      call.ahead = i == 0 ? 2048 : 0;
      tile_kernel(w.format(), call.rows)(call);
    }
  }
}

}  // namespace zaya::ZAYA_ISA
