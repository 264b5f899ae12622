#include "core/pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace zaya {
namespace {

constexpr int32_t closed = 1 << 20;  // more than there are threads
constexpr int spins = 20000;  // about 100 µs of pause instructions; a futex wake costs about 25 µs in a virtual machine

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void futex_wait(std::atomic<int32_t>& word, int32_t seen) {
  syscall(SYS_futex, reinterpret_cast<int32_t*>(&word), FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<int32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<int32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

Pool::Pool(int threads) : threads_(threads < 1 ? 1 : threads), shares_(static_cast<size_t>(threads_)) {
  busy_.store(-closed);
  for (int i = 1; i < threads_; i++) workers_.emplace_back([this, i] { work(i); });
}

Pool::~Pool() {
  stop_.store(true);
  generation_.fetch_add(1);
  futex_wake(generation_);
  for (auto& worker : workers_) worker.join();
}

void Pool::take(int thread) {
  for (int i = 0; i < threads_; i++) {
    Share& share = share_of((thread + i) % threads_);
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
      if (task < share.end) call_(body_, task, thread);
    }
  }
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
