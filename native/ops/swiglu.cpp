// swiglu(gate_up [T,2F]) -> y [T,F]: y = silu(gate) · up, gate the first F columns and up the last F; silu(g) = g / (1 + exp(−g)).
// swiglu_grad(dy [T,F], gate_up [T,2F]) -> [T,2F]: with σ = 1 / (1 + exp(−g)),
//   dgate = dy · up · σ · (1 + g · (1 − σ)), dup = dy · g · σ
#include "cpu/streaming.h"
#include "cpu/swiglu.h"

namespace zaya::ZAYA_ISA {
namespace {

template <class T> Status activate(const Arguments& a) {
  const int64_t columns = a.out[0].columns();
  const ResultRows<T> rows(*a.pool, a.out[0]);
  for_rows(*a.pool, a.out[0].rows(), 2 * columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const T* gate = a.in[0].as<T>() + t * 2 * columns;
      rows.make(t, [&](T* y) { swiglu_row(gate, gate + columns, y, columns); });
    }
  });
  return {};
}

template <class T> Status activate_grad(const Arguments& a) {
  const int64_t columns = a.in[0].columns();
  const ResultRows<T> rows(*a.pool, a.out[0]);
  for_rows(*a.pool, a.in[0].rows(), 2 * columns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const T* dy = a.in[0].as<T>() + t * columns;
      const T* gate = a.in[1].as<T>() + t * 2 * columns;
      auto both = [](Lanes<T> d, Lanes<T> g, Lanes<T> up, Lanes<T>* dg) {
        const Lanes<T> sigmoid = T(1) / (exponential(-g) + T(1));
        *dg = d * up * sigmoid * (g * (T(1) - sigmoid) + T(1));
        return d * g * sigmoid;
      };
      rows.make(t, [&](T* dgate) {
        Lanes<T> dg;
        int64_t i = 0;
        for (; i + lanes <= columns; i += lanes) {
          const Lanes<T> dup = both(load<T>(dy + i), load<T>(gate + i), load<T>(gate + columns + i), &dg);
          store<T>(dgate + i, dg);
          store<T>(dgate + columns + i, dup);
        }
        if (const int64_t n = columns - i; n > 0) {
          const Lanes<T> dup = both(load_first<T>(dy + i, n), load_first<T>(gate + i, n), load_first<T>(gate + columns + i, n), &dg);
          store_first<T>(dgate + i, dg, n);
          store_first<T>(dgate + columns + i, dup, n);
        }
      });
    }
  });
  return {};
}

Status swiglu(const Arguments& a) { return a.out[0].dtype == DType::float64 ? activate<double>(a) : activate<float>(a); }
Status swiglu_grad(const Arguments& a) { return a.out[0].dtype == DType::float64 ? activate_grad<double>(a) : activate_grad<float>(a); }

}  // namespace

ZAYA_OPERATION(swiglu)
ZAYA_OPERATION(swiglu_grad)

}  // namespace zaya::ZAYA_ISA
