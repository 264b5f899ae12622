#pragma once
#include <vector>

#include "core/operation.h"

namespace zaya {

// What this processor lacks for an instruction set, as compilers call it; nothing where it has all.
std::vector<const char*> missing_features(Isa isa);

}  // namespace zaya
