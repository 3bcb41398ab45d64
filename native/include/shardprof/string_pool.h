// Strings that occur many times, each kept once, numbered in order of arrival.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shardprof {

class StringPool {
 public:
  uint32_t intern(std::string_view text);
  [[nodiscard]] const std::vector<std::string>& strings() const { return strings_; }

 private:
  struct Slot {
    uint32_t hash = 0;
    uint32_t id_plus_one = 0;  // 0 is an empty slot
  };

  void grow();

  std::vector<Slot> slots_;  // a power of two of them, probed linearly
  std::vector<std::string> strings_;
};

}  // namespace shardprof
