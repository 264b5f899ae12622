// Weight vectors (norm weights, biases, scales, convolution taps) may be stored as float32, bfloat16 or float64 whatever the
// type T of the computation. A kernel reads one through read_vector: the stored numbers themselves when they are T already,
// else a copy converted into the workspace.
#pragma once
#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

template <class T> constexpr DType dtype_of() { return sizeof(T) == 8 ? DType::float64 : DType::float32; }

// Element i of a plain tensor.
template <class T> inline T element(const Tensor& tensor, int64_t i) {
  switch (tensor.dtype) {
    case DType::bfloat16: return static_cast<T>(to_float(tensor.as<bfloat16>()[i]));
    case DType::float64: return static_cast<T>(tensor.as<double>()[i]);
    case DType::int32: return static_cast<T>(tensor.as<int32_t>()[i]);
    default: return static_cast<T>(tensor.as<float>()[i]);
  }
}

// out[i] = element begin + i of the tensor, for i in [0, n).
template <class T> inline void read_elements(const Tensor& tensor, int64_t begin, int64_t n, T* __restrict out) {
  switch (tensor.dtype) {
    case DType::bfloat16: {
      const bfloat16* x = tensor.as<bfloat16>() + begin;
      for (int64_t i = 0; i < n; i++) out[i] = static_cast<T>(to_float(x[i]));
      return;
    }
    case DType::float64: {
      const double* x = tensor.as<double>() + begin;
      for (int64_t i = 0; i < n; i++) out[i] = static_cast<T>(x[i]);
      return;
    }
    default: {
      const float* x = tensor.as<float>() + begin;
      for (int64_t i = 0; i < n; i++) out[i] = static_cast<T>(x[i]);
    }
  }
}

// Workspace that read_vector takes; 0 when the vector is absent or stored as T.
template <class T> inline size_t vector_bytes(const Tensor& v) {
  return !v.present() || v.dtype == dtype_of<T>() ? 0 : align64(static_cast<size_t>(v.size()) * sizeof(T));
}

// The vector as T, null when absent. Moves `workspace` past what it took.
template <class T> inline const T* read_vector(const Tensor& v, uint8_t*& workspace) {
  if (!v.present()) return nullptr;
  if (v.dtype == dtype_of<T>()) return v.as<T>();
  T* copy = reinterpret_cast<T*>(workspace);
  workspace += vector_bytes<T>(v);
  read_elements<T>(v, 0, v.size(), copy);
  return copy;
}

}  // namespace zaya::ZAYA_ISA
