// What has to hold for every input; a fuzzer takes the trap for a finding.
#pragma once

#include <cstdio>
#include <cstdlib>

#define REQUIRE(...)                                                                        \
  do {                                                                                      \
    if (!(__VA_ARGS__)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #__VA_ARGS__); \
      std::abort();                                                                         \
    }                                                                                       \
  } while (false)
