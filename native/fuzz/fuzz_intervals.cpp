// Sums over sets of time against the plainest program for them: a list of nanoseconds with a mark for each set.
#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "../tests/plain_time.h"
#include "require.h"
#include "shardprof/intervals.h"

namespace {

using shardprof::Interval;
using shardprof::IntervalSet;
using shardprof::test::count;
using shardprof::test::is_merged;
using shardprof::test::marked;

constexpr size_t span_ns = 256;
constexpr size_t classes_at_once = 3;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Three bytes an interval: which list it belongs to (three classes and the windows), and two ends.
  std::array<std::vector<Interval>, 4> lists;
  for (size_t at = 0; at + 3 <= size && at < 600; at += 3) lists[data[at] % 4].push_back({data[at + 1], data[at + 2]});
  std::vector<Interval> windows;
  for (const Interval i : lists[3]) windows.push_back({std::min(i.begin_ns, i.end_ns), std::max(i.begin_ns, i.end_ns)});

  std::vector<IntervalSet> classes;
  std::array<shardprof::test::Marks<span_ns>, classes_at_once> marks;
  for (size_t c = 0; c < classes_at_once; ++c) {
    classes.push_back(shardprof::merge(lists[c]));
    marks[c] = marked<span_ns>(lists[c]);
    REQUIRE(is_merged(classes[c]) && marked<span_ns>(classes[c]) == marks[c]);
    const std::vector<int64_t> covered = shardprof::covered_ns(classes[c], windows);
    for (size_t w = 0; w < windows.size(); ++w) REQUIRE(covered[w] == count(marks[c], windows[w]));
  }
  const IntervalSet both = shardprof::intersect(classes[0], classes[1]);
  const auto in_both = marked<span_ns>(both);
  REQUIRE(is_merged(both));
  for (size_t t = 0; t < span_ns; ++t) REQUIRE(in_both[t] == (marks[0][t] && marks[1][t]));

  const std::vector<int64_t> cells = shardprof::partition_ns(classes, windows);
  for (size_t w = 0; w < windows.size(); ++w) {
    const auto expected = shardprof::test::partition(marks, windows[w]);
    REQUIRE(std::ranges::equal(expected, std::span{cells}.subspan(w * expected.size(), expected.size())));
  }
  return 0;
}
