#include "shardprof/event_splitter.h"

#include <string>
#include <vector>

#include "check.h"

namespace {

using shardprof::EventSplitter;

struct Split {
  std::string events;
  std::string metadata;
  bool found = false;
  bool finished = false;
  bool partial = false;

  friend bool operator==(const Split&, const Split&) = default;
};

// The JSON that `complete` gave, without what stands between the events.
std::string without_separators(std::string_view batch) {
  std::string kept;
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < batch.size(); ++i) {
    const char c = batch[i];
    if (in_string && c == '\\') {
      kept.append(batch, i++, 2);
      continue;
    }
    if (c == '"') in_string = !in_string;
    if (!in_string && (c == '{' || c == '[')) ++depth;
    if (depth > 0) kept += c;
    if (!in_string && (c == '}' || c == ']') && --depth == 0) kept += '|';
  }
  return kept;
}

Split split(std::string_view text, const std::vector<size_t>& cuts) {
  EventSplitter splitter;
  Split result;
  size_t begin = 0;
  const auto feed = [&](size_t end) {
    splitter.feed(text.substr(begin, end - begin));
    result.events += without_separators(splitter.complete());
    splitter.drop_complete();
    begin = end;
  };
  for (const size_t cut : cuts) feed(cut);
  feed(text.size());
  result.metadata = splitter.metadata();
  result.found = splitter.found_events();
  result.finished = splitter.finished();
  result.partial = splitter.holds_partial_event();
  return result;
}

Split split(std::string_view text) { return split(text, {}); }

constexpr std::string_view trace =
    "{\n \"schemaVersion\": 1, \"distributedInfo\": {\"rank\": 3, \"pg_config\": [{\"ranks\": [0, 1]}]},\n"
    " \"note\": \"\\\"traceEvents\\\": [\", \"traceEvents\" : [\n"
    "  {\"name\": \"a{]\\\\\", \"args\": {\"l\": [1, [2]], \"q\": \"\\\\\\\"}\"}}, {}\n  ,{\"name\": \"b\"}\n ],\n"
    " \"traceName\": \"x ] }\"}";
constexpr std::string_view trace_events =
    "{\"name\": \"a{]\\\\\", \"args\": {\"l\": [1, [2]], \"q\": \"\\\\\\\"}\"}}|{}|{\"name\": \"b\"}|";
constexpr std::string_view trace_metadata =
    "{\n \"schemaVersion\": 1, \"distributedInfo\": {\"rank\": 3, \"pg_config\": [{\"ranks\": [0, 1]}]},\n"
    " \"note\": \"\\\"traceEvents\\\": [\", \"traceEvents\" : [],\n \"traceName\": \"x ] }\"}";

void a_whole_trace() {
  const Split whole = split(trace);
  CHECK(whole.events == trace_events);
  CHECK(whole.metadata == trace_metadata);
  CHECK(whole.found && whole.finished && !whole.partial);
}

void pieces_do_not_matter() {
  const Split whole = split(trace);
  for (size_t first = 0; first <= trace.size(); ++first) {
    CHECK(split(trace, {first}) == whole);
    for (size_t second = first; second <= trace.size(); second += 3) CHECK(split(trace, {first, second}) == whole);
  }
  std::vector<size_t> every;
  for (size_t i = 1; i < trace.size(); ++i) every.push_back(i);
  CHECK(split(trace, every) == whole);
}

void a_bare_list() {
  const Split bare = split(" \n[{\"a\": 1}, {\"b\": 2}]\n");
  CHECK(bare.events == "{\"a\": 1}|{\"b\": 2}|");
  CHECK(bare.metadata == "{}");
  CHECK(bare.finished);
}

void metadata_behind_the_events() {
  const Split trailing = split("{\"traceEvents\": [{}], \"distributedInfo\": {\"rank\": 1}}");
  CHECK(trailing.events == "{}|");
  CHECK(trailing.metadata == "{\"traceEvents\": [], \"distributedInfo\": {\"rank\": 1}}");
}

void no_events_in_the_list() {
  const Split empty = split("{\"traceEvents\": []}");
  CHECK(empty.events.empty());
  CHECK(empty.found && empty.finished && !empty.partial);
}

void an_inner_list_of_that_name_is_not_the_one() {
  const Split inner = split("{\"a\": {\"traceEvents\": [{\"no\": 1}]}, \"traceEvents\": [{\"yes\": 1}]}");
  CHECK(inner.events == "{\"yes\": 1}|");
}

void what_is_no_trace() {
  for (const std::string_view text :
       {"", "{}", "{\"a\": [1, 2]}", "no JSON", "\"[\"", "{\"traceEvents\": 3}", "}}}]"}) {
    CHECK(!split(text).found);
  }
}

void a_cut_off_file_gives_the_complete_events() {
  const size_t events_begin = trace.find("{\"name\": \"a");
  const size_t events_end = trace.find(" ],\n \"traceName\"");
  for (size_t end = events_begin; end <= events_end; ++end) {
    const Split cut = split(trace.substr(0, end));
    CHECK(cut.found && !cut.finished);
    CHECK(trace_events.starts_with(cut.events));
    CHECK(cut.metadata.ends_with("\"traceEvents\" : []}"));
  }
  CHECK(split(trace.substr(0, events_begin + 5)).partial);
  CHECK(!split(trace.substr(0, events_begin)).partial);
}

void metadata_that_is_cut_off_behind_the_events_is_closed() {
  const std::string_view cut = trace.substr(0, trace.find("\"traceName\"") + 14);
  CHECK(split(cut).metadata.ends_with("\"traceEvents\" : []}"));
  CHECK(!split(cut).finished);
}

}  // namespace

int main() {
  a_whole_trace();
  pieces_do_not_matter();
  a_bare_list();
  metadata_behind_the_events();
  no_events_in_the_list();
  an_inner_list_of_that_name_is_not_the_one();
  what_is_no_trace();
  a_cut_off_file_gives_the_complete_events();
  metadata_that_is_cut_off_behind_the_events_is_closed();
  return shardprof::test::exit_code();
}
