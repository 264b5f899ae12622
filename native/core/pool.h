// One persistent pool of threads. The caller works too; idle workers spin briefly, then sleep on a futex.
// Every thread has a share of the tasks, in order, and when they are done takes those that others have not begun. So the same rows tend to stay with
// the same thread from one operation to the next, which counts where threads have no cache in common. Which thread runs a task is not fixed: a task must
// own what it writes, and what it computes must depend on its index alone. Then every number of threads gives the same bits.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace zaya {

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Runs fn(task, thread) for every task in [0, tasks); thread is in [0, threads()). Returns when all are done.
  template <class F> void run(int64_t tasks, F&& fn) {
    using Body = std::remove_reference_t<F>;
    run_erased(tasks, [](void* body, int64_t task, int thread) { (*static_cast<Body*>(body))(task, thread); },
               const_cast<void*>(static_cast<const void*>(&fn)));
  }

  // Runs fn(begin, end, thread) over [0, n) cut into runs of `grain` (the last may be shorter).
  template <class F> void run_ranges(int64_t n, int64_t grain, F&& fn) {
    run((n + grain - 1) / grain, [&](int64_t task, int thread) {
      int64_t begin = task * grain;
      fn(begin, begin + grain < n ? begin + grain : n, thread);
    });
  }

  // Runs fn(begin, end, thread) over [0, n) in runs that are long at first, for a stream of memory that stops and starts again loses time, and short at
  // the end, for threads to end together. whole(end) moves the end of a run up to where one may lie; whole(n) is n.
  template <class Whole, class F> void run_guided(int64_t n, Whole&& whole, F&& fn) {
    std::atomic<int64_t> next{0};
    run(std::min<int64_t>(threads_, n), [&](int64_t, int thread) {
      for (int64_t begin = next.load(std::memory_order_relaxed); begin < n;) {
        const int64_t end = whole(begin + std::max<int64_t>(1, 3 * (n - begin) / (4 * threads_)));
        if (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
        fn(begin, end, thread);
        begin = next.load(std::memory_order_relaxed);
      }
    });
  }

 private:
  using Call = void (*)(void* body, int64_t task, int thread);
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  void run_erased(int64_t tasks, Call call, void* body);
  void work(int thread);
  void take(int thread);

  int threads_;
  std::vector<Share> shares_;
  std::vector<std::thread> workers_;
  alignas(64) std::atomic<int32_t> generation_{0};
  alignas(64) std::atomic<int32_t> busy_{0};
  std::atomic<int32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
  Call call_ = nullptr;
  void* body_ = nullptr;
};

}  // namespace zaya
