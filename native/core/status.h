// What a kernel returns instead of throwing: empty when it went well, else one line for a person.
#pragma once
#include <cstdarg>
#include <cstdio>

namespace zaya {

struct Status {
  char message[240] = {};
  bool ok() const { return message[0] == 0; }
};

__attribute__((format(printf, 1, 2))) inline Status error(const char* format, ...) {
  Status status;
  va_list args;
  va_start(args, format);
  std::vsnprintf(status.message, sizeof status.message, format, args);
  va_end(args);
  return status;
}

}  // namespace zaya
