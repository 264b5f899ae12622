// One persistent pool of threads. The caller works too; idle workers spin briefly, then sleep on a futex.
// Every thread has a share of the tasks, in order, and when they are done takes those that others have not begun. So the same rows tend to stay with
// the same thread from one operation to the next, which counts where threads have no cache in common. Which thread runs a task is not fixed: a task must
// own what it writes, and what it computes must depend on its index alone. Then every number of threads gives the same bits.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

namespace zaya {

class Pool {
 public:
  // shared_cache: whether threads are taken to share a cache; without it that is measured.
  explicit Pool(int threads, std::optional<bool> shared_cache = {});
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }
  // False where there was none for own(): then nothing may run.
  bool has_memory() const { return own_ != nullptr; }

  // Whether two threads share no cache: then what both have had is dear to write (cpu/streaming.h). No result may depend on it.
  bool apart() const { return apart_; }
  // Finds that out: how long a line takes to another thread and back, a few microseconds. A hypervisor moves threads at any time, so it is called again and
  // again, and looks when the last time is some milliseconds ago.
  void look_around(std::chrono::steady_clock::time_point now);

  // Memory of a thread's own for one task at a time, 64-byte aligned: no other thread's cache has any of it.
  static constexpr size_t own_bytes = size_t(768) << 10;
  uint8_t* own(int thread) const { return own_ + static_cast<size_t>(thread) * own_bytes; }
  // So many bytes of it; a part of `elsewhere`, where there are as many for each thread, when that is more than it has.
  uint8_t* own(int thread, size_t bytes, uint8_t* elsewhere) const {
    return bytes <= own_bytes ? own(thread) : elsewhere + static_cast<size_t>(thread) * bytes;
  }

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

  // Runs fn(begin, end, thread) over [0, n), n < 2³², for threads that each read a stream of memory: one that stops and starts elsewhere loses time. A thread
  // goes through a range of its own in runs, long ones first, and when it is done takes over half of what is left of another's. whole(end) moves the end of a
  // run up to where one may lie; whole(n) is n. What is no longer than `few`, 3 at least, is one run; what may not be cut but is longer than half of that is
  // no stream, and its runs are short. A core may read half as fast again as another, so ranges are as long as what their threads got done before.
  template <class Whole, class F> void run_streams(int64_t n, int64_t few, Whole&& whole, F&& fn) {
    const int64_t count = std::min<int64_t>(threads_, n);
    float before = 0, all = 0;
    for (int64_t i = 0; i < count; i++) all += share_of(i).speed;
    for (int64_t i = 0, begin = 0; i < count; i++) {
      before += share_of(i).speed;
      const int64_t end = i + 1 == count ? n : std::max(begin, whole(static_cast<int64_t>(static_cast<float>(n) * (before / all))));
      share_of(i).left.store(Range::of(begin, end), std::memory_order_relaxed);
      begin = end;
    }
    run(count, [&](int64_t own, int thread) {
      int64_t done = 0;
      do {
        for (Range part = take_front(own, few, whole); part.begin < part.end; part = take_front(own, few, whole)) {
          fn(part.begin, part.end, thread);
          done += part.end - part.begin;
        }
      } while (take_over(own, count, whole));
      share_of(own).done = done;
    });
    if (count == threads_ && n >= 4 * few * count)  // less does not tell how fast a thread is
      for (int64_t i = 0; i < count; i++) follow(share_of(i), static_cast<float>(share_of(i).done * count) / static_cast<float>(n));
  }
  // Over panels.
  template <class F> void run_streams(int64_t n, F&& fn) {
    run_streams(n, few_panels, [](int64_t end) { return end; }, fn);
  }
  // One row is multiplied with four at a time, at most; a run that ends after one of each stream costs as much as two (1 µs where threads share no cache).
  static constexpr int64_t few_panels = 8;

 private:
  using Call = void (*)(void* body, int64_t task, int thread);
  // What is left of a stream. It is the whole state of one, so whoever finds it as it was may cut it, whatever it was in between.
  struct alignas(8) Range {
    uint32_t begin = 0, end = 0;
    static Range of(int64_t begin, int64_t end) { return {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)}; }
  };
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
    std::atomic<Range> left{Range{}};
    int64_t done = 0;
    float speed = 1;  // of the thread that begins with it, the mean of all being 1
    std::chrono::nanoseconds round_trip{0};  // of a line from the caller to that thread and back
  };
  static void follow(Share& share, float speed) { share.speed += (std::max(speed, 0.25f) - share.speed) / 8; }
  Share& share_of(int64_t i) { return shares_[static_cast<size_t>(i)]; }

  // Three quarters of what is left of a share, a quarter where it is no stream, or all where it is few; empty when nothing is.
  template <class Whole> Range take_front(int64_t i, int64_t few, Whole&& whole) {
    std::atomic<Range>& left = share_of(i).left;
    Range range = left.load(std::memory_order_relaxed);
    while (range.begin < range.end) {
      const int64_t length = int64_t(range.end) - range.begin, least = whole(int64_t(range.begin) + 1) - range.begin;
      const int64_t run = length <= few ? length : 2 * least <= few ? 3 * length / 4 : length / 4;
      const int64_t end = std::min<int64_t>(range.end, whole(range.begin + run));
      if (left.compare_exchange_weak(range, Range::of(end, range.end), std::memory_order_relaxed)) return Range::of(range.begin, end);
    }
    return {};
  }

  // Moves the second half of what is left of another share, rounded up, to share i, which is empty: then nobody else writes it. False where none has such a half.
  template <class Whole> bool take_over(int64_t i, int64_t count, Whole&& whole) {
    for (int64_t other = (i + 1) % count; other != i; other = (other + 1) % count) {
      std::atomic<Range>& left = share_of(other).left;
      Range range = left.load(std::memory_order_relaxed);
      while (range.begin < range.end) {
        const int64_t middle = whole((int64_t(range.begin) + range.end) / 2);
        if (middle >= range.end) break;
        if (!left.compare_exchange_weak(range, Range::of(range.begin, middle), std::memory_order_relaxed)) continue;
        share_of(i).left.store(Range::of(middle, range.end), std::memory_order_relaxed);
        return true;
      }
    }
    return false;
  }

  std::chrono::nanoseconds round_trip(int to);
  void run_erased(int64_t tasks, Call call, void* body);
  void work(int thread);
  void take(int thread);

  int threads_;
  uint8_t* own_;
  std::vector<Share> shares_;
  std::vector<std::thread> workers_;
  // What a thread that waits looks at, in one line; what is written while others wait lies in lines of its own.
  alignas(64) std::atomic<int32_t> generation_{0};
  std::atomic<bool> stop_{false};
  const bool measures_;
  bool apart_;
  int looked_for_ = 0;  // the thread that was looked for last
  std::chrono::steady_clock::time_point next_look_{};
  Call call_ = nullptr;
  void* body_ = nullptr;
  alignas(64) std::atomic<int32_t> busy_{0};  // threads at work in the round, less a large number while no round is open
  alignas(64) std::atomic<int32_t> sleepers_{0};
};

}  // namespace zaya
