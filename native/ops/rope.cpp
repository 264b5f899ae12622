// rope(x [T, heads, H], positions int32 [T]){rotary, theta, inverse} → y [T, heads, H]
//   Rotary embedding of the first P = rotary dimensions; the rest passes. For j < P/2:
//     angle = position · theta^(−2j/P),  y[j] = x[j] cos − x[j+P/2] sin,  y[j+P/2] = x[j+P/2] cos + x[j] sin
//   inverse turns the other way, which is the gradient. Frequencies and angles are float32, as in the reference; sine and cosine are
//   reduced in float64 and rounded to float32 (error below 2 ulp), whatever the type of x.
#include <algorithm>

#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t grain = 16;  // tokens a task

// Cody-Waite by π/2, then the Cephes polynomials on [−π/4, π/4].
void sine_cosine(const float* angle, int64_t n, float* sine, float* cosine) {
  for (int64_t i = 0; i < n; i++) {
    const double x = angle[i];
    const double turns = (x * 0.63661977236758134 + 6755399441055744.0) - 6755399441055744.0;
    const float r = static_cast<float>(x - turns * 1.5707963267948966);
    const int32_t quadrant = static_cast<int32_t>(turns);
    const float r2 = r * r;
    const float s = ((-1.9515295891e-4f * r2 + 8.3321608736e-3f) * r2 - 1.6666654611e-1f) * r2 * r + r;
    const float c = ((2.443315711809948e-5f * r2 - 1.388731625493765e-3f) * r2 + 4.166664568298827e-2f) * r2 * r2 - 0.5f * r2 + 1.0f;
    const float swapped_sine = quadrant & 1 ? c : s, swapped_cosine = quadrant & 1 ? s : c;
    sine[i] = quadrant & 2 ? -swapped_sine : swapped_sine;
    cosine[i] = (quadrant + 1) & 2 ? -swapped_cosine : swapped_cosine;
  }
}

template <class T> Status rope_of(const Arguments& a) {
  const int64_t tokens = a.in[0].shape[0], heads = a.in[0].shape[1], head = a.in[0].shape[2], half = a.integer(0) / 2;
  const T* x = a.in[0].as<T>();
  const int32_t* positions = a.in[1].as<int32_t>();
  T* y = a.out[0].as<T>();
  const float theta = static_cast<float>(a.attribute[1]), sign = a.flag(2) ? -1.0f : 1.0f;
  float* frequency = reinterpret_cast<float*>(a.workspace);
  for (int64_t j = 0; j < half; j++) frequency[j] = 1.0f / std::pow(theta, static_cast<float>(2 * j) / static_cast<float>(2 * half));

  a.pool->run_ranges(tokens, grain, [&](int64_t begin, int64_t end, int thread) {
    float* angle = frequency + half * (1 + 3 * thread);
    float *sine = angle + half, *cosine = sine + half;
    for (int64_t t = begin; t < end; t++) {
      for (int64_t j = 0; j < half; j++) angle[j] = static_cast<float>(positions[t]) * frequency[j];
      sine_cosine(angle, half, sine, cosine);
      for (int64_t j = 0; j < half; j++) sine[j] *= sign;
      for (int64_t i = 0; i < heads; i++) {
        const T* from = x + (t * heads + i) * head;
        T* to = y + (t * heads + i) * head;
#pragma GCC ivdep  // y may be x: a pair is read before it is written, and pairs are disjoint
        for (int64_t j = 0; j < half; j++) {
          const T first = from[j], second = from[j + half];
          to[j] = first * cosine[j] - second * sine[j];
          to[j + half] = second * cosine[j] + first * sine[j];
        }
        if (to != from) std::copy(from + 2 * half, from + head, to + 2 * half);
      }
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
