// What this machine can do at this moment: the denominators of every utilisation that is reported.
#pragma once
#include "core/pool.h"
#include "core/status.h"

namespace zaya {

// what: "float32" or "bfloat16": multiply-adds from registers, GFLOP/s (a processor without vdpbf16ps has no faster bfloat16 than
// float32); "read": memory read in order, beyond the caches, GB/s. On all threads of the pool at once, for about `milliseconds`.
Status measure(const char* what, double milliseconds, Pool& pool, double* value);

}  // namespace zaya
