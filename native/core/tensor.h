// A tensor as kernels see it: a borrowed pointer, a type and a shape. Nothing here owns memory.
#pragma once
#include <cstddef>
#include <cstdint>

namespace zaya {

// int6 and int4 exist in panels only.
enum class DType : int32_t { float32 = 0, bfloat16 = 1, float64 = 2, int32 = 3, int8 = 4, int6 = 5, int4 = 6 };

// plain: row-major. panels: the GEMM's packed weight layout, described in cpu/gemm.h, and for integers in cpu/quantised.h. rows: an activation as int8
// rows with their scales, described there too.
enum class Encoding : int32_t { plain = 0, panels = 1, rows = 2 };

// Bytes of the record of 256 columns of a row of the encoding `rows`.
constexpr int64_t row_record_bytes = 320;

constexpr int max_rank = 6;

inline size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::bfloat16: return 2;
    case DType::float64: return 8;
    case DType::int8: return 1;
    case DType::int6:
    case DType::int4: return 0;  // in panels only, see bytes_of
    default: return 4;
  }
}

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::float32;
  Encoding encoding = Encoding::plain;
  int32_t rank = -1;  // -1: an optional input that was not given
  int64_t shape[max_rank] = {};

  bool present() const { return rank >= 0; }
  template <class T> T* as() const { return static_cast<T*>(data); }
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
  }
  int64_t columns() const { return rank > 0 ? shape[rank - 1] : 1; }
  // Product of all dimensions but the last; also right when the last one is 0.
  int64_t rows() const {
    int64_t n = 1;
    for (int i = 0; i + 1 < rank; i++) n *= shape[i];
    return n;
  }
};

}  // namespace zaya
