// Rotation of a head by the angles of a position. The operation rope and the fused cca_heads share it; the formula is in rope.cpp.
#pragma once
#include <algorithm>

#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {

// Cody-Waite by π/2, then the Cephes polynomials on [−π/4, π/4].
inline void sine_cosine(const float* angle, int64_t n, float* sine, float* cosine) {
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

// frequency[j] = theta^(−2j/P) for j < half = P/2.
inline void rope_frequencies(float theta, int64_t half, float* frequency) {
  for (int64_t j = 0; j < half; j++) frequency[j] = 1.0f / std::pow(theta, static_cast<float>(2 * j) / static_cast<float>(2 * half));
}

// Sines and cosines of a position's angles, half of each; `angle` is room for as many.
inline void rope_angles(int32_t position, const float* frequency, int64_t half, float* angle, float* sine, float* cosine) {
  for (int64_t j = 0; j < half; j++) angle[j] = static_cast<float>(position) * frequency[j];
  sine_cosine(angle, half, sine, cosine);
}

// Turns the first 2 · half of a head; the rest is copied. `to` may be `from`.
template <class T> inline void rotate(const T* from, T* to, int64_t head, int64_t half, const float* sine, const float* cosine) {
#pragma GCC ivdep  // a pair is read before it is written, and pairs are disjoint
  for (int64_t j = 0; j < half; j++) {
    const T first = from[j], second = from[j + half];
    to[j] = first * cosine[j] - second * sine[j];
    to[j + half] = second * cosine[j] + first * sine[j];
  }
  if (to != from) std::copy(from + 2 * half, from + head, to + 2 * half);
}

}  // namespace zaya::ZAYA_ISA
