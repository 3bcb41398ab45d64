// Sets of time as half-open intervals of nanoseconds, and the sums that reports are made of.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace shardprof {

struct Interval {
  int64_t begin_ns;
  int64_t end_ns;

  friend bool operator==(const Interval&, const Interval&) = default;
};

// A set of time: sorted intervals that neither overlap nor touch, none of them empty.
using IntervalSet = std::vector<Interval>;

// The union of intervals in any order. Empty ones (end <= begin) vanish.
IntervalSet merge(std::span<const Interval> intervals);

// The time in both sets. Both must be merged.
IntervalSet intersect(std::span<const Interval> a, std::span<const Interval> b);

// How much of each window the set covers. The set must be merged; windows may be in any order and overlap.
std::vector<int64_t> covered_ns(std::span<const Interval> set, std::span<const Interval> windows);

// What each window's time went to: row w holds, for every class c, the time of windows[w] that classes[c] covers and
// no class before it does; the last column is what none covers. A row sums to its window's length, exactly.
// Every class must be merged.
std::vector<int64_t> partition_ns(std::span<const IntervalSet> classes, std::span<const Interval> windows);

}  // namespace shardprof
