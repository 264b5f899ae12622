// What this machine can do at this moment: the denominators of every utilisation that is reported.
#pragma once
#include <vector>

#include "core/operation.h"
#include "core/pool.h"
#include "core/status.h"

namespace zaya {

// what: "float32", "bfloat16" or "int8": multiply-adds from registers with the best instruction for that type in `isa`, 10⁹ multiplications
// and additions a second (without an instruction for bfloat16 that is float32's); "read": memory read in order, beyond the caches, GB/s.
// On all threads of the pool at once, for about `milliseconds`.
Status measure(const char* what, double milliseconds, Isa isa, Pool& pool, double* value);

// GB/s of a loop that does nothing but read pieces of so many bytes one after the other, as a step goes through its weights: every thread reads a part of a
// piece, and all meet before the next. Of the ways to read, the one with the best mean over its part of `milliseconds`.
Status measure_reads(const std::vector<size_t>& pieces, double milliseconds, Pool& pool, double* value);

}  // namespace zaya
