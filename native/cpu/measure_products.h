// Multiply-adds from registers as fast as an instruction set can issue them: one body for each instruction set and type.
#pragma once
#include "core/operation.h"

namespace zaya {

enum class Product { float32, bfloat16, int8 };

struct ProductBody {
  const char* instruction;  // the best one of the set for the type, which its kernels use too
  void (*run)();
  double operations;  // multiplications and additions of one run
};

ProductBody product_body(Isa isa, Product product);

}  // namespace zaya
