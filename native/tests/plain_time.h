// The plainest program for sets of time, which the real one is compared with: a mark for every nanosecond.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "shardprof/intervals.h"

namespace shardprof::test {

template <size_t span_ns>
using Marks = std::array<bool, span_ns>;

template <size_t span_ns>
Marks<span_ns> marked(std::span<const Interval> intervals) {
  Marks<span_ns> marks{};
  for (const Interval interval : intervals) {
    for (int64_t t = interval.begin_ns; t < interval.end_ns; ++t) marks[static_cast<size_t>(t)] = true;
  }
  return marks;
}

template <size_t span_ns>
int64_t count(const Marks<span_ns>& marks, Interval window) {
  int64_t sum = 0;
  for (int64_t t = window.begin_ns; t < window.end_ns; ++t) sum += marks[static_cast<size_t>(t)] ? 1 : 0;
  return sum;
}

// How much of the window each class has, of which the first takes an instant; the last cell is what none has.
template <size_t span_ns, size_t classes>
std::array<int64_t, classes + 1> partition(const std::array<Marks<span_ns>, classes>& marks, Interval window) {
  std::array<int64_t, classes + 1> cells{};
  for (int64_t t = window.begin_ns; t < window.end_ns; ++t) {
    size_t c = 0;
    while (c < classes && !marks[c][static_cast<size_t>(t)]) ++c;
    ++cells[c];
  }
  return cells;
}

inline bool is_merged(const IntervalSet& set) {
  for (size_t i = 0; i < set.size(); ++i) {
    if (set[i].begin_ns >= set[i].end_ns) return false;
    if (i > 0 && set[i - 1].end_ns >= set[i].begin_ns) return false;
  }
  return true;
}

}  // namespace shardprof::test
