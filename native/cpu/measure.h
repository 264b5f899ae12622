// What this machine can do at this moment: the denominators of every utilisation that is reported.
#pragma once
#include <vector>

#include "core/operation.h"
#include "core/pool.h"
#include "core/status.h"

namespace zaya {

// The memory that reading is measured in: much larger than the caches, every page of it touched. It can be kept from one measurement to the next. A system
// tells its hypervisor of pages that were given back, and two seconds later spends a tenth of a second on that for each GiB: what is measured between is then
// measured beside it.
class ReadBuffer {
 public:
  ReadBuffer() = default;
  ~ReadBuffer() { give_back(); }
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;

  // Makes it, unless it is there.
  Status make(Pool& pool);
  void give_back();
  const uint8_t* data() const { return data_; }

 private:
  uint8_t* data_ = nullptr;
};

// what: "float32", "bfloat16" or "int8": multiply-adds from registers with the best instruction for that type in `isa`, 10⁹ multiplications
// and additions a second (without an instruction for bfloat16 that is float32's); "read": memory read in order, beyond the caches, GB/s.
// On all threads of the pool at once, for about `milliseconds`. Only "read" makes the buffer.
Status measure(const char* what, double milliseconds, Isa isa, Pool& pool, ReadBuffer& buffer, double* value);

// GB/s of a loop that does nothing but read pieces of so many bytes one after the other, as a step goes through its weights: every thread reads a part of a
// piece, and all meet before the next. Of the ways to read, the one with the best mean over its part of `milliseconds`.
Status measure_reads(const std::vector<size_t>& pieces, double milliseconds, Pool& pool, ReadBuffer& buffer, double* value);

}  // namespace zaya
