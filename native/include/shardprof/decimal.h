// Timestamps as written: decimal microseconds in, integer nanoseconds out, with no floating point in between.
// A double has 53 bits: at 19 digits it is wrong by up to 0.25 us.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace shardprof {

// The nanoseconds in a JSON number of microseconds ("1711964646000000.123", "12", "1.5e3"). Digits beyond the
// nanosecond are dropped. Nothing for what is no finite decimal number or does not fit into int64.
std::optional<int64_t> nanoseconds_from_microseconds(std::string_view text);

// A JSON integer; values of uint64 beyond int64 keep their bits. Nothing for what is no integer.
std::optional<int64_t> integer_from_text(std::string_view text);

}  // namespace shardprof
