#include "core/pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <utility>

#include "core/memory.h"

namespace zaya {
namespace {

constexpr int32_t closed = 1 << 20;  // more than there are threads
constexpr int spins = 20000;  // about 100 µs of pause instructions; a futex wake costs about 25 µs in a virtual machine

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// What tasks have stored past the caches (cpu/streaming.h) is not ordered by other stores.
void finish_streaming() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

void futex_wait(std::atomic<int32_t>& word, int32_t seen) {
  syscall(SYS_futex, reinterpret_cast<int32_t*>(&word), FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<int32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<int32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

Pool::Pool(int threads, std::optional<bool> shared_cache)
    : threads_(threads < 1 ? 1 : threads), own_(static_cast<uint8_t*>(allocate(static_cast<size_t>(threads_) * own_bytes))), shares_(static_cast<size_t>(threads_)),
      measures_(!shared_cache && threads_ > 1), apart_(!shared_cache.value_or(true)) {
  busy_.store(-closed);
  for (int i = 1; i < threads_; i++) workers_.emplace_back([this, i] { work(i); });
}

Pool::~Pool() {
  stop_.store(true);
  generation_.fetch_add(1);
  futex_wake(generation_);
  for (auto& worker : workers_) worker.join();
  release(own_, static_cast<size_t>(threads_) * own_bytes);
}

void Pool::take(int thread) {
  for (int i = 0; i < threads_; i++) {
    Share& share = share_of((thread + i) % threads_);
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
      if (task < share.end) call_(body_, task, thread);
    }
  }
  finish_streaming();
}

void Pool::work(int thread) {
  int32_t seen = 0;
  for (;;) {
    for (int i = 0; i < spins && generation_.load(std::memory_order_acquire) == seen; i++) pause();
    if (generation_.load(std::memory_order_acquire) == seen) {
      // Counted before the word is looked at again, so that either the caller sees a sleeper or the sleeper sees the new word.
      sleepers_.fetch_add(1);
      while (generation_.load() == seen) futex_wait(generation_, seen);
      sleepers_.fetch_sub(1);
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    // One that comes when the caller has closed the round finds nothing to do, and is not waited for.
    if (busy_.fetch_add(1, std::memory_order_acq_rel) >= 0) take(thread);
    busy_.fetch_sub(1, std::memory_order_acq_rel);
  }
}

// The least of some; 0 where the other thread did not come in time.
std::chrono::nanoseconds Pool::round_trip(int to) {
  constexpr int32_t trips = 12;
  struct alignas(64) {
    std::atomic<int32_t> at{0};
  } ball;
  auto awaits = [&](int32_t wanted) {
    for (int i = 0; i < 2000; i++)
      if (ball.at.load(std::memory_order_acquire) == wanted) return true;
    return false;
  };
  bool thrown = false;
  std::chrono::nanoseconds least{0};
  run(threads_, [&](int64_t, int thread) {
    if (thread == to)
      for (int32_t trip = 0; trip < trips && awaits(2 * trip + 1); trip++) ball.at.store(2 * trip + 2, std::memory_order_release);
    if (thread != 0 || std::exchange(thrown, true)) return;
    auto before = std::chrono::steady_clock::now();
    for (int32_t trip = 0; trip < trips; trip++) {
      ball.at.store(2 * trip + 1, std::memory_order_release);
      if (!awaits(2 * trip + 2)) break;
      const auto now = std::chrono::steady_clock::now();
      const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(now - before);
      if (trip == 1 || (trip > 1 && took < least)) least = took;  // the first waits for the other thread to come
      before = now;
    }
  });
  return least;
}

void Pool::look_around(std::chrono::steady_clock::time_point now) {
  using std::chrono::milliseconds, std::chrono::nanoseconds;
  // With the time to look at a clock: 60 to 120 ns between cores that share a cache, 210 to 250 between those that do not (Zen 4).
  constexpr nanoseconds far{160};
  if (!measures_ || now < next_look_) return;
  looked_for_ = 1 + looked_for_ % (threads_ - 1);
  const nanoseconds took = round_trip(looked_for_);
  next_look_ = now + (took > nanoseconds{0} ? milliseconds{20} : milliseconds{1});
  if (took == nanoseconds{0}) return;
  share_of(looked_for_).round_trip = took;
  apart_ = std::any_of(shares_.begin(), shares_.end(), [&](const Share& share) { return share.round_trip > far; });
}

void Pool::run_erased(int64_t tasks, Call call, void* body) {
  if (tasks <= 0) return;
  call_ = call;
  body_ = body;
  for (int i = 0; i < threads_; i++) {
    Share& share = share_of(i);
    share.next.store(tasks * i / threads_, std::memory_order_relaxed);
    share.end = tasks * (i + 1) / threads_;
  }
  if (threads_ == 1 || tasks == 1) return take(0);
  busy_.fetch_add(closed, std::memory_order_acq_rel);  // opens the round
  generation_.fetch_add(1);
  if (sleepers_.load() > 0) futex_wake(generation_);
  take(0);
  busy_.fetch_sub(closed, std::memory_order_acq_rel);
  while (busy_.load(std::memory_order_acquire) != -closed) pause();
}

}  // namespace zaya
