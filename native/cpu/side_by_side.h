// The order in which a thread goes through panels that lie one after the other when it reads several at a time: as many streams, far from each other.
#pragma once
#include <cstdint>
#include <type_traits>

namespace zaya::ZAYA_ISA {

// fn(streams, panel, apart) for panels [0, panels): that panel and those `apart`, 2 · apart, … behind it; what is left in fewer streams. `streams` is a constant
// of the compiler, at most `most`: 4, 2 or 1.
template <int most, class F> void side_by_side(int64_t panels, F&& fn) {
  int64_t panel = 0;
  auto go_through = [&]<int streams>(std::integral_constant<int, streams> constant) {
    const int64_t apart = (panels - panel) / streams;
    for (int64_t i = 0; i < apart; i++) fn(constant, panel + i, apart);
    panel += streams * apart;
  };
  if constexpr (most >= 4) go_through(std::integral_constant<int, 4>());
  if constexpr (most >= 2) go_through(std::integral_constant<int, 2>());
  go_through(std::integral_constant<int, 1>());
}

}  // namespace zaya::ZAYA_ISA
