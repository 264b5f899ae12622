// The choice of the way to pack for gemm.cpp: portable (the specification, and every combination), AVX2, AVX-512.
#pragma once
#if defined(__AVX512BF16__)
#include "cpu/gemm_pack_avx512.h"
#elif defined(__AVX2__)
#include "cpu/gemm_pack_avx2.h"
#else
#include "cpu/gemm_pack_portable.h"
#endif

namespace zaya::ZAYA_ISA {

template <class S, class D> void pack_one(const PanelPack& p, int64_t k0, int64_t k1) {
#if defined(__AVX512BF16__) || defined(__AVX2__)
  constexpr bool fast = sizeof(S) <= 4 && sizeof(D) <= sizeof(S);
  if constexpr (fast) {
    if (p.source.layout == Layout::rows) return pack_rows<S, D>(p, k0, k1);
    if constexpr (std::is_same_v<S, bfloat16>)
      if (p.source.layout == Layout::transposed_panels && p.height == panel_columns) return pack_transposed_panels(p, k0, k1);
#if !defined(__AVX512BF16__)
    if (p.source.layout == Layout::columns) return pack_columns<S, D>(p, k0, k1);
#endif
  }
#endif
  pack_elements<S, D>(p, k0, k1);
}

template <class S, class D> void pack_from(PanelPack p, int64_t k0, int64_t k1) {
#if defined(__AVX512BF16__)
  if constexpr (sizeof(S) <= 4 && sizeof(D) <= sizeof(S))
    if (p.source.layout == Layout::columns) return pack_columns<S, D>(p, k0, k1);
#endif
  for (int64_t i = 0; i < p.count; i++) {
    pack_one<S, D>(p, k0, k1);
    p.first += p.height;
    p.panel = static_cast<D*>(p.panel) + p.height * even(p.k);
  }
}

template <class D> void pack_to(const PanelPack& p, int64_t k0, int64_t k1) {
  switch (p.source.dtype) {
    case DType::bfloat16: return pack_from<bfloat16, D>(p, k0, k1);
    case DType::float64: return pack_from<double, D>(p, k0, k1);
    default: return pack_from<float, D>(p, k0, k1);
  }
}

// Packs [k0, k1) of some panels into elements of `dtype`. k0 is a multiple of 32, k1 is even.
inline void pack_panel(const PanelPack& p, DType dtype, int64_t k0, int64_t k1) {
  switch (dtype) {
    case DType::bfloat16: return pack_to<bfloat16>(p, k0, k1);
    case DType::float64: return pack_to<double>(p, k0, k1);
    default: return pack_to<float>(p, k0, k1);
  }
}

}  // namespace zaya::ZAYA_ISA
