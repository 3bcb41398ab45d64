#include "shardprof/intervals.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace shardprof {

namespace {

// The union of intervals sorted by their begin, none of them empty.
IntervalSet joined(IntervalSet sorted) {
  size_t kept = 0;
  for (const Interval next : sorted) {
    if (kept > 0 && next.begin_ns <= sorted[kept - 1].end_ns) {
      sorted[kept - 1].end_ns = std::max(sorted[kept - 1].end_ns, next.end_ns);
    } else {
      sorted[kept++] = next;
    }
  }
  sorted.resize(kept);
  return sorted;
}

}  // namespace

IntervalSet merge(std::span<const Interval> intervals) {
  IntervalSet sorted;
  sorted.reserve(intervals.size());
  std::ranges::copy_if(intervals, std::back_inserter(sorted), [](Interval i) { return i.begin_ns < i.end_ns; });
  if (!std::ranges::is_sorted(sorted, {}, &Interval::begin_ns)) std::ranges::sort(sorted, {}, &Interval::begin_ns);
  return joined(std::move(sorted));
}

IntervalSet intersect(std::span<const Interval> a, std::span<const Interval> b) {
  IntervalSet both;
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() && j < b.size()) {
    const int64_t begin = std::max(a[i].begin_ns, b[j].begin_ns);
    const int64_t end = std::min(a[i].end_ns, b[j].end_ns);
    if (begin < end) both.push_back({begin, end});
    (a[i].end_ns < b[j].end_ns ? i : j) += 1;
  }
  return both;
}

std::vector<int64_t> covered_ns(std::span<const Interval> set, std::span<const Interval> windows) {
  std::vector<int64_t> covered;
  covered.reserve(windows.size());
  for (const Interval window : windows) {
    int64_t sum = 0;
    auto next = std::ranges::upper_bound(set, window.begin_ns, {}, &Interval::end_ns);
    for (; next != set.end() && next->begin_ns < window.end_ns; ++next) {
      sum += std::min(next->end_ns, window.end_ns) - std::max(next->begin_ns, window.begin_ns);
    }
    covered.push_back(sum);
  }
  return covered;
}

// Class c alone covers what the union of the classes up to c covers and the union of those before it does not.
std::vector<int64_t> partition_ns(std::span<const IntervalSet> classes, std::span<const Interval> windows) {
  const size_t columns = classes.size() + 1;
  std::vector<int64_t> cells(windows.size() * columns);
  std::vector<int64_t> before(windows.size(), 0);
  IntervalSet claimed;
  for (size_t c = 0; c < classes.size(); ++c) {
    if (classes[c].empty()) continue;
    IntervalSet both;
    both.reserve(claimed.size() + classes[c].size());
    std::ranges::merge(claimed, classes[c], std::back_inserter(both), {}, &Interval::begin_ns, &Interval::begin_ns);
    claimed = joined(std::move(both));
    const std::vector<int64_t> until = covered_ns(claimed, windows);
    for (size_t w = 0; w < windows.size(); ++w) cells[w * columns + c] = until[w] - before[w];
    before = until;
  }
  for (size_t w = 0; w < windows.size(); ++w) {
    cells[w * columns + classes.size()] = windows[w].end_ns - windows[w].begin_ns - before[w];
  }
  return cells;
}

}  // namespace shardprof
