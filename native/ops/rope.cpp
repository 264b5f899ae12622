// rope(x [T, heads, H], positions int32 [T]){rotary, theta, inverse} → y [T, heads, H]
//   Rotary embedding of the first P = rotary dimensions; the rest passes. For j < P/2:
//     angle = position · theta^(−2j/P),  y[j] = x[j] cos − x[j+P/2] sin,  y[j+P/2] = x[j+P/2] cos + x[j] sin
//   inverse turns the other way, which is the gradient. Frequencies and angles are float32, as in the reference; sine and cosine are
//   reduced in float64 and rounded to float32 (error below 2 ulp), whatever the type of x.
#include "cpu/streaming.h"
#include "ops/rope.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t grain = 16;  // tokens a task

template <class T> Status rope_of(const Arguments& a) {
  const int64_t tokens = a.in[0].shape[0], heads = a.in[0].shape[1], head = a.in[0].shape[2], half = a.integer(0) / 2;
  const T* x = a.in[0].as<T>();
  const int32_t* positions = a.in[1].as<int32_t>();
  const ResultRows<T> y(*a.pool, a.out[0]);
  const float theta = static_cast<float>(a.attribute[1]), sign = a.flag(2) ? -1.0f : 1.0f;
  float* frequency = reinterpret_cast<float*>(a.workspace);
  rope_frequencies(theta, half, frequency);

  a.pool->run_ranges(tokens, grain, [&](int64_t begin, int64_t end, int thread) {
    float* angle = frequency + half * (1 + 3 * thread);
    float *sine = angle + half, *cosine = sine + half;
    for (int64_t t = begin; t < end; t++) {
      rope_angles(positions[t], frequency, half, angle, sine, cosine);
      for (int64_t j = 0; j < half; j++) sine[j] *= sign;
      for (int64_t i = t * heads; i < (t + 1) * heads; i++) y.make(i, [&](T* row) { rotate(x + i * head, row, head, half, sine, cosine); });
    }
  });
  return {};
}

size_t rope_workspace(const Arguments& a) {
  return sizeof(float) * static_cast<size_t>(a.integer(0) / 2) * (1 + 3 * static_cast<size_t>(a.pool->threads()));
}

Status rope(const Arguments& a) { return a.in[0].dtype == DType::float64 ? rope_of<double>(a) : rope_of<float>(a); }

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(rope)

}  // namespace zaya::ZAYA_ISA
