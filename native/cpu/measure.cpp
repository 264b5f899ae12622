#include "cpu/measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "core/memory.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace zaya {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr size_t read_bytes = size_t(256) << 20;  // several times the last-level cache a few cores can reach
constexpr int chains = 16;                        // independent accumulators: latency times throughput, with room to spare
constexpr int64_t steps = 4096;                   // multiply-adds of each chain between two looks at the clock

// Each body does `steps` multiply-adds on every chain and returns a number that depends on them all.
#if defined(__x86_64__)
#define ZAYA_CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define ZAYA_DECLARE(i) __m512 c##i = _mm512_set1_ps(float(i));
#define ZAYA_FMA(i) c##i = _mm512_fmadd_ps(c##i, a, b); asm volatile("" : "+v"(c##i));
#define ZAYA_DOT(i) c##i = _mm512_dpbf16_ps(c##i, pair_a, pair_b); asm volatile("" : "+v"(c##i));
#define ZAYA_ADD(i) total = _mm512_add_ps(total, c##i);

__attribute__((target("avx512f"), noinline)) float float32_avx512() {
  const __m512 a = _mm512_set1_ps(1.0000001f), b = _mm512_set1_ps(1e-9f);
  ZAYA_CHAINS(ZAYA_DECLARE)
  for (int64_t k = 0; k < steps; k++) { ZAYA_CHAINS(ZAYA_FMA) }
  __m512 total = _mm512_setzero_ps();
  ZAYA_CHAINS(ZAYA_ADD)
  return _mm512_reduce_add_ps(total);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"), noinline)) float bfloat16_avx512() {
  const __m512bh pair_a = (__m512bh)_mm512_set1_epi16(0x3f80), pair_b = (__m512bh)_mm512_set1_epi16(0x3080);
  ZAYA_CHAINS(ZAYA_DECLARE)
  for (int64_t k = 0; k < steps; k++) { ZAYA_CHAINS(ZAYA_DOT) }
  __m512 total = _mm512_setzero_ps();
  ZAYA_CHAINS(ZAYA_ADD)
  return _mm512_reduce_add_ps(total);
}
#undef ZAYA_CHAINS
#undef ZAYA_DECLARE
#undef ZAYA_FMA
#undef ZAYA_DOT
#undef ZAYA_ADD
#endif

typedef float Four __attribute__((vector_size(16)));

__attribute__((noinline)) float float32_portable() {
  Four c[chains];
  for (int i = 0; i < chains; i++) c[i] = Four{} + static_cast<float>(i);
  const Four a = Four{} + 1.0000001f, b = Four{} + 1e-9f;
  for (int64_t k = 0; k < steps; k++)
    for (int i = 0; i < chains; i++) c[i] = c[i] * a + b;
  Four total{};
  for (int i = 0; i < chains; i++) total += c[i];
  return total[0];
}

struct Burst {
  float (*body)();
  double flops;
};

Burst burst_of(bool bfloat16) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (bfloat16 && __builtin_cpu_supports("avx512bf16")) return {bfloat16_avx512, 64.0 * chains * steps};
  if (__builtin_cpu_supports("avx512f")) return {float32_avx512, 32.0 * chains * steps};
#else
  (void)bfloat16;
#endif
  return {float32_portable, 8.0 * chains * steps};
}

// Runs body(thread) once on every thread of the pool, all at the same time: a task that has begun waits for the others.
template <class F> void on_every_thread(Pool& pool, F&& body) {
  std::atomic<int> arrived{0};
  const int threads = pool.threads();
  pool.run(threads, [&](int64_t task, int) {
    arrived.fetch_add(1);
    while (arrived.load(std::memory_order_relaxed) < threads) {
    }
    body(static_cast<int>(task));
  });
}

double multiply_adds(bool bfloat16, double seconds, Pool& pool) {
  const Burst burst = burst_of(bfloat16);
  std::atomic<double> rate{0};
  on_every_thread(pool, [&](int) {
    volatile float sink = burst.body();
    const auto start = Clock::now();
    double flops = 0;
    double elapsed = 0;
    do {
      sink = burst.body();
      flops += burst.flops;
      elapsed = seconds_since(start);
    } while (elapsed < seconds);
    (void)sink;
    double seen = rate.load();
    while (!rate.compare_exchange_weak(seen, seen + flops / elapsed / 1e9)) {
    }
  });
  return rate.load();
}

typedef int64_t Line __attribute__((vector_size(64)));

__attribute__((noinline)) int64_t read_portable(const uint8_t* p, size_t bytes) {
  Line a{}, b{}, c{}, d{};
  for (size_t i = 0; i + 256 <= bytes; i += 256) {
    const Line* line = reinterpret_cast<const Line*>(p + i);
    a ^= line[0], b ^= line[1], c ^= line[2], d ^= line[3];
  }
  a ^= b ^ c ^ d;
  return a[0] ^ a[7];
}
#if defined(__x86_64__)
// Four streams with prefetch reach more than one: the most this processor was seen to read.
__attribute__((target("avx512f"), noinline)) int64_t read_avx512(const uint8_t* p, size_t bytes) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  const size_t quarter = bytes / 4 & ~size_t(63);
  for (size_t i = 0; i < quarter; i += 64) {
    for (size_t s = 0; s < 4; s++) _mm_prefetch(reinterpret_cast<const char*>(p + s * quarter + i + 2048), _MM_HINT_T0);
    a = _mm512_xor_si512(a, _mm512_load_si512(p + i));
    b = _mm512_xor_si512(b, _mm512_load_si512(p + quarter + i));
    c = _mm512_xor_si512(c, _mm512_load_si512(p + 2 * quarter + i));
    d = _mm512_xor_si512(d, _mm512_load_si512(p + 3 * quarter + i));
  }
  return _mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
}
__attribute__((target("avx512f"), noinline)) int64_t read_avx512_in_order(const uint8_t* p, size_t bytes) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (size_t i = 0; i + 256 <= bytes; i += 256) {
    a = _mm512_xor_si512(a, _mm512_load_si512(p + i));
    b = _mm512_xor_si512(b, _mm512_load_si512(p + i + 64));
    c = _mm512_xor_si512(c, _mm512_load_si512(p + i + 128));
    d = _mm512_xor_si512(d, _mm512_load_si512(p + i + 192));
  }
  return _mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
}
#endif

using Read = int64_t (*)(const uint8_t*, size_t);

// Every thread reads its share of the buffer; the rate is all bytes over the time of the slowest. The better of the two ways counts.
double read_rate(double seconds, Pool& pool, const uint8_t* buffer) {
  Read ways[2] = {read_portable, read_portable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) ways[0] = read_avx512, ways[1] = read_avx512_in_order;
#endif
  const size_t share = read_bytes / static_cast<size_t>(pool.threads()) & ~size_t(255);
  double best = 0;
  const auto start = Clock::now();
  do {
    for (Read way : ways) {
      const auto begin = Clock::now();
      on_every_thread(pool, [&](int thread) {
        volatile int64_t sink = way(buffer + static_cast<size_t>(thread) * share, share);
        (void)sink;
      });
      best = std::max(best, static_cast<double>(share) * pool.threads() / seconds_since(begin) / 1e9);
    }
  } while (seconds_since(start) < seconds);
  return best;
}

}  // namespace

Status measure(const char* what, double milliseconds, Pool& pool, double* value) {
  const double seconds = std::max(0.1, milliseconds) * 1e-3;
  if (std::strcmp(what, "float32") == 0 || std::strcmp(what, "bfloat16") == 0) {
    *value = multiply_adds(what[0] == 'b', seconds, pool);
    return {};
  }
  if (std::strcmp(what, "read") != 0) return error("[measure] expected float32, bfloat16 or read, received %s", what);
  auto* buffer = static_cast<uint8_t*>(allocate(read_bytes));
  if (buffer == nullptr) return error("[measure] no memory for a buffer of %zu MiB", read_bytes >> 20);
  *value = read_rate(seconds, pool, buffer);
  release(buffer, read_bytes);
  return {};
}

}  // namespace zaya
