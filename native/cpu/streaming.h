// Stores that pass by the caches. They are for results larger than the caches, whose lines would be read from memory only to be overwritten; and, where threads
// share no cache, for results that another thread reads or whose memory it has had: to write a line that another core's cache holds, if only because it read
// it, takes ten times as long as to stream it (on Zen 4 27 ns, 2.3 to stream, 0.7 to write one that this core alone has, 1.7 one that is in no cache).
// The pool waits for what was streamed when a thread has done its tasks.
#pragma once
#include "cpu/lanes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace zaya::ZAYA_ISA {

// p is aligned to 64 bytes.
inline void stream(float* p, Lanes<float> v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, std::bit_cast<__m512>(v));
#elif defined(__AVX2__)
  for (size_t i = 0; i < lanes; i += 8) _mm256_stream_ps(p + i, register_at(v, i * sizeof(float)));
#elif defined(__x86_64__)
  for (size_t i = 0; i < lanes; i += 4) _mm_stream_ps(p + i, register_at(v, i * sizeof(float)));
#else
  store(p, v);
#endif
}

// memcpy, past the caches where that is wanted and whole lines are written.
inline void copy_bytes(void* to, const void* from, size_t bytes, bool past_caches) {
  if (!past_caches || (reinterpret_cast<uintptr_t>(to) | bytes) % 64 != 0) return void(std::memcpy(to, from, bytes));
  for (size_t i = 0; i < bytes; i += 64) {
    Lanes<float> line;
    std::memcpy(&line, static_cast<const uint8_t*>(from) + i, sizeof line);
    stream(reinterpret_cast<float*>(static_cast<uint8_t*>(to) + i), line);
  }
}

// f(row) makes n elements at `place`, or in a buffer from which they are streamed there.
template <class T, class F> inline void make_row(T* place, int64_t n, bool past_caches, F&& f) {
  constexpr auto most = static_cast<int64_t>(32768 / sizeof(T));
  if (!past_caches || n > most) return f(place);
  alignas(64) T row[most];
  f(static_cast<T*>(row));
  copy_bytes(place, row, static_cast<size_t>(n) * sizeof(T), true);
}

// The rows of a result, each made as a whole.
template <class T> class ResultRows {
 public:
  ResultRows(const Pool& pool, const Tensor& out) : data_(out.as<T>()), columns_(out.columns()), past_caches_(pool.apart()) {}
  // f(row) makes row t.
  template <class F> void make(int64_t t, F&& f) const { make_row(data_ + t * columns_, columns_, past_caches_, f); }

 private:
  T* data_;
  int64_t columns_;
  bool past_caches_;
};

}  // namespace zaya::ZAYA_ISA
