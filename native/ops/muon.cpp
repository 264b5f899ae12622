// muon(p [.., R, C], g, momentum, scale [1], hyper [4]) -> p', momentum'; hyper = learning rate, momentum, weight decay, nesterov (0 or 1).
// torch.optim.Muon with adjust_lr_fn="match_rms_adamw", for each matrix of the leading dimensions, all float32:
//   g = g · scale;  momentum' = momentum + (g − momentum) · (1 − μ);  u = nesterov ? lerp(g, momentum', μ) : momentum'
//   X = u in bfloat16, transposed where R > C;  X = X / max(|X|, 1e-7)
//   five times:  A = X Xᵀ;  B = −4.7750 A + 2.0315 A A;  X = 3.4445 X + B X          (Newton-Schulz: singular values towards 1)
//   p' = p · (1 − lr · decay) − lr · 0.2 · sqrt(max(R, C)) · X
// Every result of the iteration is rounded to bfloat16, its sums are float32 (cpu/gemm.h). Each output may lie where its input does.
// A and A A are symmetric to the bit (the same products in the same order), so only their blocks on and below the diagonal are made. A matrix
// whose u is zero, like that of an expert that never saw a token, needs no iteration: its X is zero.
#include <algorithm>
#include <cmath>

#include "cpu/gemm.h"
#include "cpu/rows.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int iterations = 5;
constexpr int64_t symmetric_parts = 4;  // block rows of a symmetric product
constexpr float weight_x = 3.4445f, weight_a = -4.7750f, weight_aa = 2.0315f;

float rounded(float value) { return to_float(to_bfloat16(value)); }

size_t product_bytes(Operand b, int64_t m, int64_t n, int64_t k) {
  return packed_a_bytes(Math::bfloat16, m, k) + enough_b_bytes(packed_b_bytes(Math::bfloat16, b, n, k), Math::bfloat16, k);
}

// The matrices of one iteration, in float32 that holds bfloat16 values: x and next are [m, n], gram and polynomial [m, m], m ≤ n.
struct Scratch {
  int64_t m, n;
  float *x, *next, *gram, *polynomial;
  uint8_t* products;
  size_t products_bytes;
  size_t bytes;
};

Scratch scratch_of(const Tensor& p, uint8_t* workspace) {
  Scratch s{};
  const int64_t rows = p.shape[p.rank - 2], columns = p.columns();
  s.m = std::min(rows, columns), s.n = std::max(rows, columns);
  const size_t wide = align64(static_cast<size_t>(s.m * s.n) * sizeof(float)), square = align64(static_cast<size_t>(s.m * s.m) * sizeof(float));
  s.x = reinterpret_cast<float*>(workspace);
  s.next = reinterpret_cast<float*>(workspace + wide);
  s.gram = reinterpret_cast<float*>(workspace + 2 * wide);
  s.polynomial = reinterpret_cast<float*>(workspace + 2 * wide + square);
  s.products = workspace + 2 * wide + 2 * square;
  const Operand rows_operand{nullptr, DType::float32, Layout::rows, 1}, columns_operand{nullptr, DType::float32, Layout::columns, 1};
  // The four products of a symmetric one pack two and a half times its rows.
  auto symmetric_bytes = [&](int64_t k) { return 3 * packed_a_bytes(Math::bfloat16, s.m, k) + 64 * symmetric_parts + product_bytes(rows_operand, s.m, s.m, k); };
  s.products_bytes = std::max({symmetric_bytes(s.n), symmetric_bytes(s.m), product_bytes(columns_operand, s.m, s.n, s.m)});
  s.bytes = 2 * wide + 2 * square + s.products_bytes;
  return s;
}

MatrixProduct product_of(Operand a, Operand b, float* c, int64_t c_stride, int64_t m, int64_t n, int64_t k) {
  MatrixProduct p;
  p.a = a;
  p.b = b;
  p.c = c;
  p.c_stride = c_stride;
  p.m = m, p.n = n, p.k = k;
  return p;
}

// c [m, m] = x xᵀ for x [m, k] in float32: ten of sixteen blocks and their mirror images where m can be cut into four, else all at once.
void symmetric_product(Pool& pool, const Scratch& s, const float* x, float* c, int64_t k) {
  const int64_t m = s.m, part = m / symmetric_parts;
  auto rows = [&](int64_t first) { return Operand{x + first * k, DType::float32, Layout::rows, k}; };
  if (m % (symmetric_parts * panel_columns) != 0) {
    MatrixProduct p = product_of(rows(0), rows(0), c, m, m, m, k);
    return multiply(pool, Math::bfloat16, &p, 1, s.products, s.products_bytes);
  }
  MatrixProduct list[symmetric_parts];
  for (int64_t j = 0; j < symmetric_parts; j++)
    list[j] = product_of(rows(j * part), rows(j * part), c + j * part * m + j * part, m, m - j * part, part, k);
  multiply(pool, Math::bfloat16, list, symmetric_parts, s.products, s.products_bytes);
  for_rows(pool, m, m, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++)
      for (int64_t column = (row / part + 1) * part; column < m; column++) c[row * m + column] = c[column * m + row];
  });
}

// x = x / max(|x|, 1e-7); the squares are added up row by row. False where x is zero.
bool normalise(Pool& pool, const Scratch& s) {
  float* squares = s.polynomial;
  for_rows(pool, s.m, s.n, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const float* x = s.x + row * s.n;
      squares[row] = sum_of<float>(s.n, [&](int64_t i) { return x[i] * x[i]; });
    }
  });
  const float total = sum_of<float>(s.m, [&](int64_t i) { return squares[i]; });
  const float norm = std::max(rounded(std::sqrt(total)), rounded(1e-7f));
  for_elements(pool, s.m * s.n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) s.x[i] = rounded(s.x[i] / norm);
  });
  return total != 0;
}

void iterate(Pool& pool, Scratch& s) {
  const Operand polynomial{s.polynomial, DType::float32, Layout::rows, s.m};
  for (int step = 0; step < iterations; step++) {
    symmetric_product(pool, s, s.x, s.gram, s.n);
    for_elements(pool, s.m * s.m, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) s.gram[i] = rounded(s.gram[i]);
    });
    symmetric_product(pool, s, s.gram, s.polynomial, s.m);
    for_elements(pool, s.m * s.m, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) s.polynomial[i] = rounded(weight_a * s.gram[i] + weight_aa * s.polynomial[i]);
    });
    MatrixProduct p = product_of(polynomial, {s.x, DType::float32, Layout::columns, s.n}, s.next, s.n, s.m, s.n, s.m);
    multiply(pool, Math::bfloat16, &p, 1, s.products, s.products_bytes);
    for_elements(pool, s.m * s.n, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) s.next[i] = rounded(weight_x * s.x[i] + s.next[i]);
    });
    std::swap(s.x, s.next);
  }
}

size_t muon_workspace(const Arguments& a) { return scratch_of(a.in[0], nullptr).bytes; }

Status muon(const Arguments& a) {
  const Tensor& p = a.in[0];
  const int64_t rows = p.shape[p.rank - 2], columns = p.columns(), elements = rows * columns;
  if (elements == 0) return {};
  const auto hyper = [&](int64_t i) { return element<double>(a.in[4], i); };
  const double lr = hyper(0), mu = hyper(1);
  const bool nesterov = hyper(3) != 0;
  const float factor = element<float>(a.in[3], 0);
  const float keep = static_cast<float>(1 - lr * hyper(2)), rate = static_cast<float>(lr * 0.2 * std::sqrt(static_cast<double>(std::max(rows, columns))));
  // torch's lerp(start, end, w) goes from the nearer end.
  auto lerp = [](float start, float end, float w) { return w < 0.5f ? start + w * (end - start) : end - (end - start) * (1 - w); };
  const float towards_gradient = static_cast<float>(1 - mu), towards_momentum = static_cast<float>(mu);
  const bool transposed = rows > columns;

  for (int64_t matrix = 0; matrix < p.size() / elements; matrix++) {
    Scratch s = scratch_of(p, a.workspace);
    const float *weight = p.as<float>() + matrix * elements, *g = a.in[1].as<float>() + matrix * elements, *old = a.in[2].as<float>() + matrix * elements;
    float *weight_out = a.out[0].as<float>() + matrix * elements, *momentum = a.out[1].as<float>() + matrix * elements;
    for_rows(*a.pool, rows, columns, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; row++)
        for (int64_t column = 0; column < columns; column++) {
          const int64_t i = row * columns + column;
          const float gradient = g[i] * factor;
          momentum[i] = lerp(old[i], gradient, towards_gradient);
          s.x[transposed ? column * rows + row : i] = rounded(nesterov ? lerp(gradient, momentum[i], towards_momentum) : momentum[i]);
        }
    });
    if (normalise(*a.pool, s)) iterate(*a.pool, s);
    for_rows(*a.pool, rows, columns, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; row++)
        for (int64_t column = 0; column < columns; column++) {
          const int64_t i = row * columns + column;
          weight_out[i] = weight[i] * keep - rate * s.x[transposed ? column * rows + row : i];
        }
    });
  }
  return {};
}

}  // namespace

ZAYA_OPERATION_WITH_WORKSPACE(muon)

}  // namespace zaya::ZAYA_ISA
