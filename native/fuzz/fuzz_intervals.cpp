// Sums over sets of time against the plainest program for them: a list of nanoseconds with a mark for each set.
#include <array>
#include <vector>

#include "require.h"
#include "shardprof/intervals.h"

namespace {

using shardprof::Interval;
using shardprof::IntervalSet;

constexpr int64_t span_ns = 256;

using Marks = std::array<bool, span_ns>;

Marks marks(const std::vector<Interval>& intervals) {
  Marks marked{};
  for (const Interval i : intervals) {
    for (int64_t t = i.begin_ns; t < i.end_ns; ++t) marked[static_cast<size_t>(t)] = true;
  }
  return marked;
}

void require_merged(const IntervalSet& set) {
  for (size_t i = 0; i < set.size(); ++i) {
    REQUIRE(set[i].begin_ns < set[i].end_ns);
    REQUIRE(i == 0 || set[i - 1].end_ns < set[i].begin_ns);
  }
}

int64_t count(const Marks& marked, Interval window) {
  int64_t sum = 0;
  for (int64_t t = window.begin_ns; t < window.end_ns; ++t) sum += marked[static_cast<size_t>(t)] ? 1 : 0;
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Three bytes an interval: which list it belongs to (three classes and the windows), and two ends.
  std::array<std::vector<Interval>, 4> lists;
  for (size_t at = 0; at + 3 <= size && at < 600; at += 3) lists[data[at] % 4].push_back({data[at + 1], data[at + 2]});
  std::vector<Interval> windows;
  for (const Interval i : lists[3]) windows.push_back({std::min(i.begin_ns, i.end_ns), std::max(i.begin_ns, i.end_ns)});

  std::vector<IntervalSet> classes;
  std::vector<Marks> marked;
  for (size_t c = 0; c < 3; ++c) {
    classes.push_back(shardprof::merge(lists[c]));
    marked.push_back(marks(lists[c]));
    require_merged(classes[c]);
    REQUIRE(marks(classes[c]) == marked[c]);
    const std::vector<int64_t> covered = shardprof::covered_ns(classes[c], windows);
    for (size_t w = 0; w < windows.size(); ++w) REQUIRE(covered[w] == count(marked[c], windows[w]));
  }
  const IntervalSet both = shardprof::intersect(classes[0], classes[1]);
  const Marks in_both = marks(both);
  require_merged(both);
  for (size_t t = 0; t < span_ns; ++t) REQUIRE(in_both[t] == (marked[0][t] && marked[1][t]));

  const std::vector<int64_t> cells = shardprof::partition_ns(classes, windows);
  for (size_t w = 0; w < windows.size(); ++w) {
    std::array<int64_t, 4> expected{};
    for (int64_t t = windows[w].begin_ns; t < windows[w].end_ns; ++t) {
      size_t c = 0;
      while (c < 3 && !marked[c][static_cast<size_t>(t)]) ++c;
      ++expected[c];
    }
    for (size_t c = 0; c < 4; ++c) REQUIRE(cells[w * 4 + c] == expected[c]);
  }
  return 0;
}
