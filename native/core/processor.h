#pragma once
#include <vector>

#include "core/operation.h"

namespace zaya {

// What this processor lacks for an instruction set, as compilers call it; nothing where it has all.
std::vector<const char*> missing_features(Isa isa);

// Whether instructions of 512 bits go through in one piece, as on Zen 5, and not as two halves, as on Zen 4: then products need their operands twice as fast,
// and the prefetchers of the hardware keep up with several streams of memory. False where a processor does not tell;
// ZAYA_FULL_WIDTH=0 or 1 in the environment overrules it, so that tests reach both ways on one machine. Results are the same, bit for bit.
bool has_full_width();

}  // namespace zaya
