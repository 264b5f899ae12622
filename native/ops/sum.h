// The sum of term(x[i]) over all elements of a tensor, for sum and sum_of_squares.
// Accumulation: runs of task_elements elements in 16 lanes of the type of x, the runs' sums in order in float64.
#pragma once
#include "cpu/rows.h"

namespace zaya::ZAYA_ISA {

// Σ term(i) over [0, n) in that order, by one thread.
template <class T, class F> T sum_in_runs(int64_t n, F term) {
  double result = 0;
  for (int64_t begin = 0; begin < n; begin += task_elements)
    result += static_cast<double>(sum_of<T>(std::min(task_elements, n - begin), [&](int64_t i) { return term(begin + i); }));
  return static_cast<T>(result);
}

template <class T, class F> Status sum_of_terms(const Arguments& a, F term) {
  const T* x = a.in[0].as<T>();
  const int64_t n = a.in[0].size(), runs = (n + task_elements - 1) / task_elements;
  double* partial = reinterpret_cast<double*>(a.workspace);
  a.pool->run_ranges(n, task_elements, [&](int64_t begin, int64_t end, int) {
    partial[begin / task_elements] = static_cast<double>(sum_of<T>(end - begin, [&](int64_t i) { return term(x[begin + i]); }));
  });
  double result = 0;
  for (int64_t run = 0; run < runs; run++) result += partial[run];
  a.out[0].as<T>()[0] = static_cast<T>(result);
  return {};
}

inline size_t sum_of_terms_workspace(const Arguments& a) {
  return align64(static_cast<size_t>((a.in[0].size() + task_elements - 1) / task_elements) * sizeof(double));
}

}  // namespace zaya::ZAYA_ISA
