#include "cpu/measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <iterator>

#include "core/memory.h"
#include "cpu/measure_products.h"
#include "cpu/measure_read.h"

namespace zaya {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Rounds of this length, of which the best counts: long enough to be steady, short enough that some are not disturbed.
constexpr double round_seconds = 4e-3;
// What is read lies in so much memory. Where two cores reach 64 MB of last-level cache, 256 MiB that are read again and again seem to come a tenth faster than
// memory gives them, 512 MiB a thirtieth; larger ones come as fast as this.
constexpr size_t buffer_bytes = size_t(1) << 30;
constexpr size_t round_bytes = buffer_bytes / 4;

// Runs body() once on every thread of the pool, all at the same time: a task that has begun waits for the others.
template <class F> void on_every_thread(Pool& pool, F&& body) {
  std::atomic<int> arrived{0};
  const int threads = pool.threads();
  pool.run(threads, [&](int64_t task, int) {
    arrived.fetch_add(1);
    while (arrived.load(std::memory_order_relaxed) < threads) {
    }
    body(static_cast<int>(task));
  });
}

// Every thread multiplies until the round's time is over; the rate is all operations over the time until the last has stopped.
double product_rate(const ProductBody& body, double seconds, Pool& pool) {
  double best = 0;
  const auto start = Clock::now();
  do {
    std::atomic<int64_t> runs{0};
    const auto begin = Clock::now();
    on_every_thread(pool, [&](int) {
      do {
        body.run();
        runs.fetch_add(1, std::memory_order_relaxed);
      } while (seconds_since(begin) < std::min(seconds, round_seconds));
    });
    best = std::max(best, static_cast<double>(runs.load()) * body.operations / seconds_since(begin) / 1e9);
  } while (seconds_since(start) < seconds);
  return best;
}

constexpr Read ways_to_read[] = {read_in_order, read_four_streams, read_four_streams_prefetched};

// Every thread reads its share of `bytes`, and waits for the others. Returns what was read, a little less.
size_t read_on_every_thread(Pool& pool, Read read, const uint8_t* p, size_t bytes) {
  const size_t share = bytes / static_cast<size_t>(pool.threads()) & ~size_t(1023);
  on_every_thread(pool, [&](int thread) {
    volatile int64_t sink = read(p + static_cast<size_t>(thread) * share, share);
    (void)sink;
  });
  return share * static_cast<size_t>(pool.threads());
}

// A round reads the next quarter of the buffer.
double read_rate(double seconds, Pool& pool, const uint8_t* buffer) {
  double best = 0;
  size_t place = 0;
  const auto start = Clock::now();
  do {
    for (const Read read : ways_to_read) {
      const auto begin = Clock::now();
      const size_t bytes = read_on_every_thread(pool, read, buffer + place, round_bytes);
      best = std::max(best, static_cast<double>(bytes) / seconds_since(begin) / 1e9);
      place = (place + round_bytes) % buffer_bytes;
    }
  } while (seconds_since(start) < seconds);
  return best;
}

// Each way reads all pieces again and again for its part of the time, going through the buffer in a circle; none of its rounds is left out.
double read_pieces_rate(const std::vector<size_t>& pieces, double seconds, Pool& pool, const uint8_t* buffer) {
  double best = 0;
  size_t place = 0;
  for (const Read read : ways_to_read) {
    size_t bytes = 0;
    const auto start = Clock::now();
    do {
      for (size_t left : pieces)
        for (size_t part; left > 0; left -= part, place += part) {
          place = place < buffer_bytes ? place & ~size_t(1023) : 0;
          part = std::min(left, buffer_bytes - place);
          bytes += read_on_every_thread(pool, read, buffer + place, part);
        }
    } while (seconds_since(start) < seconds / std::size(ways_to_read));
    best = std::max(best, static_cast<double>(bytes) / seconds_since(start) / 1e9);
  }
  return best;
}

constexpr double least_milliseconds = 0.1;

}  // namespace

Status ReadBuffer::make(Pool& pool) {
  if (data_ != nullptr) return {};
  data_ = static_cast<uint8_t*>(allocate(buffer_bytes));
  if (data_ == nullptr) return error("[measure] no memory for a buffer of %zu MiB", buffer_bytes >> 20);
  constexpr size_t page = 4096;
  pool.run(buffer_bytes / huge_page, [&](int64_t i, int) {
    uint8_t* begin = data_ + static_cast<size_t>(i) * huge_page;
    for (size_t at = 0; at < huge_page; at += page) begin[at] = 1;
  });
  return {};
}

void ReadBuffer::give_back() {
  release(data_, buffer_bytes);
  data_ = nullptr;
}

Status measure(const char* what, double milliseconds, Isa isa, Pool& pool, ReadBuffer& buffer, double* value) {
  const double seconds = std::max(least_milliseconds, milliseconds) * 1e-3;
  const auto product = [&](Product kind) {
    *value = product_rate(product_body(isa, kind), seconds, pool);
    return Status{};
  };
  if (std::strcmp(what, "float32") == 0) return product(Product::float32);
  if (std::strcmp(what, "bfloat16") == 0) return product(Product::bfloat16);
  if (std::strcmp(what, "int8") == 0) return product(Product::int8);
  if (std::strcmp(what, "read") != 0) return error("[measure] expected float32, bfloat16, int8 or read, received %s", what);
  if (Status status = buffer.make(pool); !status.ok()) return status;
  *value = read_rate(seconds, pool, buffer.data());
  return {};
}

Status measure_reads(const std::vector<size_t>& pieces, double milliseconds, Pool& pool, ReadBuffer& buffer, double* value) {
  if (Status status = buffer.make(pool); !status.ok()) return status;
  *value = read_pieces_rate(pieces, std::max(least_milliseconds, milliseconds) * 1e-3, pool, buffer.data());
  return {};
}

}  // namespace zaya
