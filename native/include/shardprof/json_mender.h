// JSON that Kineto and those who copy it write wrongly, made right: quotes inside strings that nobody escaped (Kineto
// until July 2026), control characters, stray backslashes, NaN, Infinity and N/A.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "shardprof/token_cursor.h"

namespace shardprof {

struct Mended {
  Outcome outcome = Outcome::malformed;  // `incomplete`: the text ends before the value does
  std::string json;                      // where done: the value as valid JSON,
  size_t length = 0;                     // in the place of so much text; else how much was looked at
};

// Mends the value that `text` begins with. `at_end`: nothing follows the text.
Mended mend_value(std::string_view text, bool at_end);

}  // namespace shardprof
