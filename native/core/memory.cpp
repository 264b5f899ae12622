#include "core/memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace zaya {
namespace {

std::atomic<int64_t> current{0};
std::atomic<int64_t> peak{0};

size_t padded(size_t bytes, size_t alignment) { return bytes == 0 ? alignment : (bytes + alignment - 1) / alignment * alignment; }

}  // namespace

void* allocate_untouched(size_t bytes) {
  const bool huge = bytes >= 2 * huge_page;
  const size_t alignment = huge ? huge_page : 64;
  void* data = std::aligned_alloc(alignment, padded(bytes, alignment));
  if (data == nullptr) return nullptr;
  if (huge) madvise(data, padded(bytes, alignment), MADV_HUGEPAGE);
  const int64_t now = current.fetch_add(static_cast<int64_t>(bytes)) + static_cast<int64_t>(bytes);
  int64_t seen = peak.load();
  while (now > seen && !peak.compare_exchange_weak(seen, now)) {
  }
  return data;
}

void* allocate(size_t bytes) {
  void* data = allocate_untouched(bytes);
  if (data != nullptr) std::memset(data, 0, bytes);
  return data;
}

void release(void* data, size_t bytes) {
  if (data == nullptr) return;
  std::free(data);
  current.fetch_sub(static_cast<int64_t>(bytes));
}

MemoryUse memory_use() { return {current.load(), peak.load()}; }
void reset_peak() { peak.store(current.load()); }

}  // namespace zaya
