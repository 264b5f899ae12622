// What a micro-kernel of gemm.cpp is, and its specification: a tile of C, up to 12 rows by 32 columns, over a run of k. A comes as
// [k/2][rows] pairs (bfloat16) or [k][rows] (float32, float64), B as panels; k counts in pairs, padding included.
#pragma once
#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "cpu/gemm.h"

namespace zaya::ZAYA_ISA {

constexpr int tile_height = 12;

// How the packed operands are stored and hence which micro-kernel multiplies them.
enum class Format : int32_t { bfloat16, float32, float32_by_bfloat16, float64 };

struct TileCall {
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
  int64_t c_stride = 0;
  int64_t pairs = 0;
  int64_t columns = 0;  // of C, at most 32
  int rows = 0;
  bool accumulate = false;
  bool stream = false;  // past the caches, where the kernel can; C is aligned and all 32 columns are there
  int64_t ahead = 0;    // bytes of B to prefetch ahead
  const void* fetched = nullptr;  // what is wanted later, to fetch meanwhile, where the kernel can, or null: pieces of two cache lines
  int64_t apart = 0;              // so many bytes apart,
  int64_t every = 1;              // one after so many pairs, a power of two
  const void* next_c = nullptr;  // the tile of C that comes next, to fetch meanwhile, or null
};
using TileKernel = void (*)(const TileCall&);

// Sixteen bytes of T: what every processor has.
template <class T> struct ShortVector;
template <> struct ShortVector<float> {
  typedef float type __attribute__((vector_size(16), may_alias, aligned(4)));
};
template <> struct ShortVector<double> {
  typedef double type __attribute__((vector_size(16), may_alias, aligned(8)));
};
typedef uint32_t ShortBits __attribute__((vector_size(16), may_alias, aligned(4)));

// The specification of the tile, and what runs without AVX2. A and B are T or bfloat16; products of bfloat16 are exact in float.
template <class T, class A, class B, int R> void portable_rows(const TileCall& t, int row0, int64_t column0) {
  using Vector = typename ShortVector<T>::type;
  constexpr int width = 16 / sizeof(T);
  constexpr int vectors = 4;
  constexpr bool paired = std::is_same_v<A, bfloat16>;
  const int64_t valid = std::min<int64_t>(width * vectors, t.columns - column0);
  Vector c[R][vectors] = {};
  T* out = static_cast<T*>(t.c) + row0 * t.c_stride + column0;
  if (t.accumulate)
    for (int i = 0; i < R; i++)
      for (int64_t j = 0; j < valid; j++) reinterpret_cast<T*>(c[i])[j] = out[i * t.c_stride + j];

  for (int64_t pair = 0; pair < t.pairs; pair++) {
    Vector b_even[vectors], b_odd[vectors];
    for (int v = 0; v < vectors; v++) {
      const int64_t column = column0 + v * width;
      if constexpr (std::is_same_v<B, bfloat16>) {
        const ShortBits bits = *reinterpret_cast<const ShortBits*>(static_cast<const B*>(t.b) + pair * 64 + 2 * column);
        b_even[v] = std::bit_cast<Vector>(bits << 16);
        b_odd[v] = std::bit_cast<Vector>(bits & 0xffff0000u);
      } else {
        b_even[v] = *reinterpret_cast<const Vector*>(static_cast<const B*>(t.b) + pair * 64 + column);
        b_odd[v] = *reinterpret_cast<const Vector*>(static_cast<const B*>(t.b) + pair * 64 + 32 + column);
      }
    }
    for (int i = 0; i < R; i++) {
      const A* a = static_cast<const A*>(t.a) + pair * 2 * t.rows;
      T a_even, a_odd;
      if constexpr (paired) {
        a_even = to_float(a[2 * (row0 + i)]);
        a_odd = to_float(a[2 * (row0 + i) + 1]);
      } else {
        a_even = a[row0 + i];
        a_odd = a[t.rows + row0 + i];
      }
      for (int v = 0; v < vectors; v++) {
        if constexpr (paired) {
          c[i][v] = c[i][v] + b_odd[v] * a_odd;
          c[i][v] = c[i][v] + b_even[v] * a_even;
        } else {
          c[i][v] = c[i][v] + b_even[v] * a_even;
          c[i][v] = c[i][v] + b_odd[v] * a_odd;
        }
      }
    }
  }
  for (int i = 0; i < R; i++)
    for (int64_t j = 0; j < valid; j++) out[i * t.c_stride + j] = reinterpret_cast<T*>(c[i])[j];
}

template <class T, class A, class B> void portable_tile(const TileCall& t) {
  for (int64_t column = 0; column < t.columns; column += 64 / static_cast<int64_t>(sizeof(T))) {
    int row = 0;
    for (; row + 2 <= t.rows; row += 2) portable_rows<T, A, B, 2>(t, row, column);
    if (row < t.rows) portable_rows<T, A, B, 1>(t, row, column);
  }
}

}  // namespace zaya::ZAYA_ISA
