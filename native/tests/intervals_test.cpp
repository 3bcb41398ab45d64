// Sets of time against the same sets written out instant by instant, on small integers.
#include "shardprof/intervals.h"

#include <array>

#include "check.h"
#include "plain_time.h"

namespace {

using shardprof::Interval;
using shardprof::IntervalSet;
using shardprof::test::count;
using shardprof::test::is_merged;
using shardprof::test::marked;
using shardprof::test::partition;

constexpr size_t span = 24;
using Marks = shardprof::test::Marks<span>;

// Numbers that look random and are the same on every run.
class Numbers {
 public:
  int64_t below(int64_t bound) {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<int64_t>((state_ >> 33) % static_cast<uint64_t>(bound));
  }

 private:
  uint64_t state_ = 7;
};

std::vector<Interval> some_intervals(Numbers& numbers, int64_t most) {
  std::vector<Interval> intervals(static_cast<size_t>(numbers.below(most + 1)));
  for (Interval& interval : intervals) {
    interval.begin_ns = numbers.below(int64_t{span});
    interval.end_ns = interval.begin_ns + numbers.below(int64_t{span} - interval.begin_ns + 1);
  }
  return intervals;
}

void merge_is_the_union(Numbers& numbers) {
  const auto intervals = some_intervals(numbers, 8);
  const IntervalSet merged = shardprof::merge(intervals);
  CHECK(is_merged(merged));
  CHECK(marked<span>(merged) == marked<span>(intervals));
}

void intersect_is_the_time_in_both(Numbers& numbers) {
  const IntervalSet a = shardprof::merge(some_intervals(numbers, 6));
  const IntervalSet b = shardprof::merge(some_intervals(numbers, 6));
  const IntervalSet both = shardprof::intersect(a, b);
  const Marks in_a = marked<span>(a);
  const Marks in_b = marked<span>(b);
  const Marks in_both = marked<span>(both);
  CHECK(is_merged(both));
  for (size_t t = 0; t < span; ++t) CHECK(in_both[t] == (in_a[t] && in_b[t]));
}

void covered_counts_within_each_window(Numbers& numbers) {
  const IntervalSet set = shardprof::merge(some_intervals(numbers, 6));
  const auto windows = some_intervals(numbers, 6);
  const auto covered = shardprof::covered_ns(set, windows);
  CHECK(covered.size() == windows.size());
  for (size_t w = 0; w < windows.size(); ++w) CHECK(covered[w] == count(marked<span>(set), windows[w]));
}

void partition_gives_each_instant_to_the_first_class(Numbers& numbers) {
  std::array<IntervalSet, 4> classes;
  for (IntervalSet& set : classes) set = shardprof::merge(some_intervals(numbers, 4));
  const auto windows = some_intervals(numbers, 4);
  const auto cells = shardprof::partition_ns(classes, windows);
  CHECK(cells.size() == windows.size() * 5);
  std::array<Marks, 4> marks;
  for (size_t c = 0; c < 4; ++c) marks[c] = marked<span>(classes[c]);
  for (size_t w = 0; w < windows.size(); ++w) {
    const auto expected = partition(marks, windows[w]);
    for (size_t c = 0; c < 5; ++c) CHECK(cells[w * 5 + c] == expected[c]);
  }
}

void nothing_in_nothing_out() {
  CHECK(shardprof::merge({}).empty());
  CHECK(shardprof::intersect({}, {}).empty());
  CHECK(shardprof::covered_ns({}, {}).empty());
  CHECK(shardprof::partition_ns({}, {}).empty());
  const std::vector<Interval> window{{10, 30}};
  CHECK(shardprof::partition_ns({}, window) == std::vector<int64_t>{20});
}

void touching_intervals_become_one() {
  const std::vector<Interval> touching{{2, 3}, {1, 2}, {5, 5}};
  CHECK(shardprof::merge(touching) == IntervalSet{{1, 3}});
}

}  // namespace

int main() {
  Numbers numbers;
  for (int round = 0; round < 3000; ++round) {
    merge_is_the_union(numbers);
    intersect_is_the_time_in_both(numbers);
    covered_counts_within_each_window(numbers);
    partition_gives_each_instant_to_the_first_class(numbers);
  }
  nothing_in_nothing_out();
  touching_intervals_become_one();
  return shardprof::test::exit_code();
}
