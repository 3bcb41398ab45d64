#include "shardprof/event_reader.h"

#include <string>

#include "check.h"
#include "traces.h"

namespace {

using shardprof::absent;
using shardprof::TraceFile;
using shardprof::test::category_of;
using shardprof::test::name_of;
using shardprof::test::parse;
using shardprof::test::thread_of;

TraceFile read(const std::string& events) { return parse("[" + events + "]").trace; }

void a_kernel() {
  const TraceFile trace =
      read(R"({"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 1711964646000000.123, "dur": 2.5,)"
           R"( "args": {"External id": 5, "correlation": 6, "stream": 7}})");
  CHECK(trace.columns.size() == 1);
  CHECK(trace.columns.begin_ns[0] == 1'711'964'646'000'000'123);
  CHECK(trace.columns.end_ns[0] == 1'711'964'646'000'002'623);
  CHECK(name_of(trace, 0) == "gemm");
  CHECK(category_of(trace, 0) == "kernel");
  CHECK(thread_of(trace, 0) == "0/7");
  CHECK(trace.columns.external_id[0] == 5);
  CHECK(trace.columns.correlation[0] == 6);
  CHECK(trace.columns.stream[0] == 7);
  CHECK(trace.detail_row.size() == 0);
}

void the_order_of_the_fields_does_not_matter() {
  const TraceFile trace = read(
      R"({"args": {"stream": 7, "correlation": 6}, "dur": 1, "ts": 2, "tid": 7, "pid": 0, "name": "k", "cat": "kernel",)"
      R"( "ph": "X", "id": 3})");
  CHECK(trace.columns.size() == 1);
  CHECK(trace.columns.begin_ns[0] == 2000);
  CHECK(trace.columns.correlation[0] == 6);
  CHECK(trace.columns.external_id[0] == absent);
}

void only_events_with_a_duration_become_rows() {
  const TraceFile trace = read(
      R"({"ph": "M", "name": "process_name", "args": {"name": "python"}}, {"ph": "i", "ts": 1}, {"ph": "s", "id": 1},)"
      R"({"ph": "X", "name": "no dur", "ts": 4}, {}, {"ph": "X", "cat": "python_function", "name": "f", "ts": 1})");
  CHECK(trace.columns.size() == 1);
  CHECK(trace.columns.end_ns[0] == 4000);
  CHECK(thread_of(trace, 0) == "/");
  CHECK(trace.lost_events == 0);
}

void process_and_thread_may_be_strings() {
  const TraceFile trace = read(R"({"ph": "X", "name": "a", "ts": 1, "pid": "Spans", "tid": "PyTorch Profiler"},)"
                               R"({"ph": "X", "name": "b", "ts": "2", "dur": "3", "pid": 1, "tid": 2})");
  CHECK(trace.columns.size() == 2);
  CHECK(thread_of(trace, 0) == "Spans/PyTorch Profiler");
  CHECK(trace.columns.end_ns[1] == 5000);
}

void identifiers_of_64_bits_keep_them() {
  const TraceFile trace = read(
      R"({"ph": "X", "ts": 1, "args": {"External id": 18446744073709551615, "stream": 4294967295, "correlation": -1}},)"
      R"({"ph": "X", "ts": 1, "args": {"External id": "12", "stream": "none", "correlation": 1.5}})");
  CHECK(trace.columns.external_id[0] == -1);
  CHECK(trace.columns.stream[0] == 4'294'967'295);
  CHECK(trace.columns.correlation[0] == -1);
  CHECK(trace.columns.external_id[1] == 12);
  CHECK(trace.columns.stream[1] == absent);
  CHECK(trace.columns.correlation[1] == absent);
}

void details_are_kept_where_asked_for() {
  const TraceFile trace =
      read(R"({"ph": "X", "name": "aten::mm", "ts": 1, "args": {"Input Dims": [[2, 2]]}},)"
           R"({"ph": "X", "name": "c10d::allreduce_", "ts": 1, "args": {"Input Dims": [[4]] , "Ev Idx": 1}},)"
           R"({"ph": "X", "name": "ncclKernel", "ts": 1, "args": {"Collective name": "allreduce", "x": {"y": "}"}}},)"
           R"({"ph": "X", "name": "gloo:all_reduce", "ts": 1},)"
           R"({"args": {"Ev Idx": 2, "Input Dims": [[4]]}, "ph": "X", "name": "gloo:all_reduce", "ts": 1},)"
           R"({"ph": "X", "name": "gloo:barrier", "ts": 1, "args": {"Ev Idx": 3}})");
  CHECK(trace.columns.size() == 6);
  const auto rows = trace.detail_row.values();
  const auto details = trace.detail.values();
  CHECK(std::vector<uint32_t>(rows.begin(), rows.end()) == std::vector<uint32_t>{1, 2, 4, 5});
  CHECK(std::vector<uint32_t>(details.begin(), details.end()) == std::vector<uint32_t>{0, 1, 0, 2});
  CHECK(trace.details.strings() ==
        std::vector<std::string>{R"({"Input Dims": [[4]]})", R"({"Collective name": "allreduce"})", "{}"});
}

void a_sequence_is_kept_beside_the_details() {
  const TraceFile trace =
      read(R"({"ph": "X", "ts": 1, "args": {"Seq": 41, "Collective name": "allreduce"}},)"
           R"({"ph": "X", "ts": 1, "args": {"Collective name": "allreduce", "Seq": 42}},)"
           R"({"ph": "X", "ts": 1, "args": {"Collective name": "allreduce", "Seq": [43], "Input Dims": [[4]]}},)"
           R"({"ph": "X", "ts": 1, "args": {"Seq": 44}})");
  const auto sequences = trace.detail_sequence.values();
  CHECK(std::vector<int64_t>(sequences.begin(), sequences.end()) == std::vector<int64_t>{41, 42, absent});
  CHECK(trace.details.strings() ==
        std::vector<std::string>{R"({"Collective name": "allreduce"})",
                                 R"({"Collective name": "allreduce", "Input Dims": [[4]]})"});
}

void a_shape_tells_events_of_one_name_apart() {
  const TraceFile trace =
      read(R"({"ph": "X", "ts": 1, "args": {"grid": [4, 1, 1]}}, {"ph": "X", "ts": 1, "args": {"grid": [8, 1, 1]}},)"
           R"({"ph": "X", "ts": 1, "args": {"stream": 7, "grid": [4, 1, 1], "block": [32, 1, 1]}},)"
           R"({"ph": "X", "ts": 1, "args": {"block": [4, 1, 1]}}, {"ph": "X", "ts": 1},)"
           R"({"ph": "X", "ts": 1, "args": {"Input Dims": [[4], [], [2, 3]]}})");
  const auto shapes = trace.columns.shape.values();
  CHECK(shapes[0] != 0 && shapes[0] != shapes[1]);
  CHECK(shapes[2] == shapes[0]);
  CHECK(shapes[3] == 0 && shapes[4] == 0);
  CHECK(shapes[5] != 0 && shapes[5] != shapes[0]);
  CHECK(trace.columns.stream[2] == 7);
}

void arguments_that_are_no_object_do_no_harm() {
  const TraceFile trace =
      read(R"({"ph": "X", "ts": 1, "args": null}, {"ph": "X", "ts": 1, "args": [1, {"stream": 3}]},)"
           R"({"ph": "X", "ts": 1, "args": "text"}, {"ph": "X", "ts": 1, "args": {}})");
  CHECK(trace.columns.size() == 4);
  CHECK(trace.lost_events == 0);
  CHECK(trace.columns.stream[1] == absent);
}

void an_unreadable_time_costs_its_event_only() {
  const TraceFile trace =
      read(R"({"ph": "X", "name": "a", "ts": 1, "dur": 1}, {"ph": "X", "name": "b", "ts": NaN, "dur": 1},)"
           R"({"ph": "X", "name": "c", "ts": 1, "dur": -1}, {"ph": "X", "name": "d", "ts": 9e15, "dur": 9e15},)"
           R"({"ph": "X", "name": "e", "dur": 1}, {"ph": "X", "name": "f", "ts": 5, "dur": Infinity},)"
           R"({"ph": "X", "name": "g", "ts": 5, "dur": 1, "args": {"occupancy": NaN}})");
  CHECK(trace.columns.size() == 2);
  CHECK(name_of(trace, 0) == "a");
  CHECK(name_of(trace, 1) == "g");
  CHECK(trace.lost_events == 5);
}

void times_leave_room_for_their_differences() {
  const TraceFile trace = read(R"({"ph": "X", "ts": -9e15, "dur": 1}, {"ph": "X", "ts": 9e15, "dur": 1})");
  CHECK(trace.columns.size() == 0);
  CHECK(trace.lost_events == 2);
}

void odd_bytes_in_a_name_cost_the_bytes_only() {
  const std::string control = std::string{R"({"ph": "X", "name": "a)"} + '\x01' + "\n" + R"(b", "ts": 1})";
  const std::string no_utf8 = R"({"ph": "X", "name": "c)" + std::string{"\xff\xfe"} + R"(d", "ts": 2})";
  const TraceFile trace = read(R"({"ph": "X", "name": "ä", "ts": 0},)" + control + "," + no_utf8);
  CHECK(trace.columns.size() == 3);
  CHECK(trace.lost_events == 0);
  CHECK(name_of(trace, 0) == "ä");
  CHECK(name_of(trace, 1) == "a  b");
  CHECK(name_of(trace, 2) == "c??d");
}

void what_is_no_event_is_lost_alone() {
  const TraceFile trace =
      read(R"([1, 2], {"ph": "X", "name": "a", "ts": 1}, null, 7, {"ph": "X", "name": "b", "ts": 2})");
  CHECK(trace.columns.size() == 2);
  CHECK(trace.lost_events == 3);
  CHECK(trace.first_lost_byte == 1);
}

void of_keys_that_come_twice_the_last_counts() {
  const TraceFile trace =
      read(R"({"ph": "M", "ph": "X", "name": "a", "ts": 1, "ts": 2, "name": "b", "args": {"stream": 1, "stream": 2}})");
  CHECK(trace.columns.size() == 1);
  CHECK(name_of(trace, 0) == "b");
  CHECK(trace.columns.begin_ns[0] == 2000);
  CHECK(trace.columns.stream[0] == 2);
}

}  // namespace

int main() {
  a_kernel();
  the_order_of_the_fields_does_not_matter();
  only_events_with_a_duration_become_rows();
  process_and_thread_may_be_strings();
  identifiers_of_64_bits_keep_them();
  details_are_kept_where_asked_for();
  a_sequence_is_kept_beside_the_details();
  a_shape_tells_events_of_one_name_apart();
  arguments_that_are_no_object_do_no_harm();
  an_unreadable_time_costs_its_event_only();
  times_leave_room_for_their_differences();
  odd_bytes_in_a_name_cost_the_bytes_only();
  what_is_no_event_is_lost_alone();
  of_keys_that_come_twice_the_last_counts();
  return shardprof::test::exit_code();
}
