// Matrix products: C[m, n] (+)= sum over k of A[m, k] · B[n, k], for a list of products at once.
//
// Both operands are packed so that the micro-kernel reads them front to back: A into panels of up to 12 rows, B into panels of 32
// columns of C. Weights can be kept packed ("panels" encoding, made by the operation `encode`), then they are read in place.
//
// Panels of a weight w [N, K] (a matrix of the leading dimensions after the other): ceil(N/32) panels; panel p holds rows 32p … 32p+31:
//   float32, float64   [K'][32]       element (n, k) at p·32·K' + 32·k + n%32
//   bfloat16           [K'/2][32][2]  element (n, k) at p·32·K' + 64·(k/2) + 2·(n%32) + k%2
// with K' = K rounded up to an even number; missing rows and the missing last k are zeros.
//
// Accumulation: one chain for each element of C, k ascending, in float32 (float64 for float64): fused multiply-adds on AVX2 and AVX-512, a
// multiplication and an addition in the portable version. In bfloat16 two products at a time as vdpbf16ps does it: first that of the
// odd k, then that of the even one. Neither the number of rows, nor the cut into tasks, nor threads appear in the chain.
#pragma once
#include <algorithm>

#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

constexpr int64_t panel_columns = 32;

inline int64_t even(int64_t k) { return (k + 1) & ~int64_t(1); }
inline int64_t panels_of(int64_t n) { return (n + panel_columns - 1) / panel_columns; }
// Elements of one panel of a weight with k columns, and of the whole weight.
inline int64_t panel_elements(int64_t k) { return panel_columns * even(k); }
inline int64_t packed_elements(int64_t n, int64_t k) { return panels_of(n) * panel_elements(k); }

// What is multiplied and added: operands rounded to bfloat16, float32, or float64.
enum class Math : int32_t { float32 = 0, bfloat16 = 1, float64 = 2 };
inline Math math_of(DType activation, bool bfloat16) {
  return activation == DType::float64 ? Math::float64 : bfloat16 ? Math::bfloat16 : Math::float32;
}

// Where element (i, k) of an operand is; i is a row of A, or a column of C for B.
//   rows               data[i * stride + k]
//   columns            data[k * stride + i]
//   panels             in packed panels whose rows are i and whose columns are k
//   transposed_panels  in packed panels whose rows are k and whose columns are i; stride is the number of columns
enum class Layout : int32_t { rows, columns, panels, transposed_panels };

struct Operand {
  const void* data = nullptr;
  DType dtype = DType::float32;
  Layout layout = Layout::rows;
  int64_t stride = 0;
};

// One product of a list. m and k may differ from product to product; n (unless rows are few), types, layouts and swiglu are the same in all.
struct MatrixProduct {
  Operand a;
  Operand b;
  void* c = nullptr;  // float, or double in float64
  int64_t c_stride = 0;
  int64_t m = 0, n = 0, k = 0;
  bool stream = false;         // C is not read again soon: it need not pass through the caches
  bool accumulate = false;     // add to what is in C; else C is overwritten (with zeros when k is 0)
  const void* bias = nullptr;  // [n] in the type of C, added last
  bool swiglu = false;         // the rows of B are n/2 of gate, a multiple of 32, then those of up, and C [m, n/2] is silu(A · gateᵀ) · (A · upᵀ), nothing added
  // Set by multiply().
  void* a_packed = nullptr;
  int64_t first_pack = 0;
  int64_t first_block = 0;
};

// Element type of packed B for weights of type `b`: bfloat16 weights stay bfloat16 and are widened by the micro-kernel.
DType packed_dtype(Math math, DType b);

// Rows (of A, or of k) that are packed at a time when one takes `elements`: about 16 MiB, at least 240, an even number.
int64_t packed_rows(Math math, int64_t elements);

// Bytes that multiply() wants for A: of one product, to be added up over the list, and for B: of one matrix (0: it is read in place).
size_t packed_a_bytes(Math math, int64_t m, int64_t k);
size_t packed_b_bytes(Math math, const Operand& b, int64_t n, int64_t k);
// What of packed_b_bytes, added up over the list, is worth having: B is packed piece by piece when the workspace is smaller, and a piece is one panel at least,
// or two (parts) where gate and up are made together.
size_t enough_b_bytes(size_t packed, Math math, int64_t k, int64_t parts = 1);

// Whether every product has 1 to 12 rows, few in all, and a B that is read in place, of one type; those of a list may then differ in n.
bool are_few_rows(Math math, const MatrixProduct* products, int64_t count);

// Runs a list of products. The workspace is 64-byte aligned.
void multiply(Pool& pool, Math math, MatrixProduct* products, int64_t count, uint8_t* workspace, size_t workspace_bytes);

// Packs B once into `panels`, of element type float32, bfloat16 or float64, for use as an Operand of layout panels.
void pack_panels(Pool& pool, const Operand& b, int64_t n, int64_t k, DType dtype, void* panels);

// The weight w [.., N, K] of an operation as B of y = x · wᵀ and of dx = dy · w; `matrix` counts the leading dimensions.
Operand weight_operand(const Tensor& w, int64_t matrix);
Operand weight_operand_transposed(const Tensor& w, int64_t matrix);
inline Operand row_operand(const Tensor& x, int64_t first_row = 0) {
  return {x.as<uint8_t>() + static_cast<size_t>(first_row * x.columns()) * size_of(x.dtype), x.dtype, Layout::rows, x.columns()};
}
inline Operand column_operand(const Tensor& x, int64_t first_row = 0) {
  return {x.as<uint8_t>() + static_cast<size_t>(first_row * x.columns()) * size_of(x.dtype), x.dtype, Layout::columns, x.columns()};
}

}  // namespace zaya::ZAYA_ISA
