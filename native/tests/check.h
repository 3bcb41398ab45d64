// Checks that report where they failed and go on; main ends with `return shardprof::test::exit_code();`.
#pragma once

#include <cstdio>

namespace shardprof::test {

inline int failed_checks = 0;

inline bool check(bool holds, const char* condition, const char* file, int line) {
  if (!holds) {
    ++failed_checks;
    std::fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
  }
  return holds;
}

inline int exit_code() { return failed_checks == 0 ? 0 : 1; }

}  // namespace shardprof::test

// Variadic, so that commas in braces need no parentheses.
#define CHECK(...) shardprof::test::check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
