// Stores that pass by the caches: for results larger than these, whose lines would be read from memory only to be overwritten.
#pragma once
#include "cpu/lanes.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace zaya::ZAYA_ISA {

// p is aligned to 64 bytes. An ordinary store where the instruction set has no such store of a register.
inline void stream(float* p, Lanes<float> v) {
#ifdef __AVX512F__
  _mm512_stream_ps(p, std::bit_cast<__m512>(v));
#else
  store(p, v);
#endif
}

// Before another thread may read what was streamed.
inline void finish_streaming() {
#ifdef __AVX512F__
  _mm_sfence();
#endif
}

}  // namespace zaya::ZAYA_ISA
