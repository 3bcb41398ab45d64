#include "shardprof/trace_parser.h"

#include <string>

#include "check.h"
#include "traces.h"

namespace {

using shardprof::test::names;
using shardprof::test::parse;
using shardprof::test::Parsed;

std::string event(const std::string& name, int ts = 1) {
  return R"({"ph": "X", "cat": "kernel", "name": ")" + name + R"(", "pid": 0, "tid": 7, "ts": )" + std::to_string(ts) +
         R"(, "dur": 1, "args": {"stream": 7}})";
}

std::string listed(const std::string& events) { return R"({"schemaVersion": 1, "traceEvents": [)" + events + "]}"; }

// Whatever the pieces in which text arrives, the same comes out of it.
void check_in_pieces(const std::string& text, const std::string& expected_names, int64_t lost, bool finished = true) {
  for (size_t piece = 1; piece <= text.size(); piece += 1 + piece / 8) {
    const Parsed parsed = parse(text, piece);
    const bool same = names(parsed.trace) == expected_names && parsed.trace.lost_events == lost &&
                      parsed.found_events && parsed.finished == finished;
    if (!CHECK(same)) {
      std::fprintf(stderr, "  in pieces of %zu: %s, %ld lost, finished %d: %s\n", piece, names(parsed.trace).c_str(),
                   static_cast<long>(parsed.trace.lost_events), parsed.finished, text.c_str());
      return;
    }
  }
}

void whole_traces() {
  check_in_pieces(listed(event("a") + ",\n" + event("b")), "a|b", 0);
  check_in_pieces("[" + event("a") + "," + event("b") + "]\n", "a|b", 0);
  check_in_pieces("\xef\xbb\xbf  [" + event("a") + "]", "a", 0);
  check_in_pieces("{\"traceEvents\":[]}", "", 0);
  check_in_pieces("[]", "", 0);
  check_in_pieces(R"({"traceEvents": [)" + event("a") + R"(], "x": 1, "traceEvents": [)" + event("b") + "]}", "a|b", 0);
}

void names_hold_what_looks_like_structure() {
  const std::string name = R"(f(int)::{lambda(int, {\"a\": [1]})#1}, {\")";
  check_in_pieces(listed(event(name) + "," + event("b")), name + "|b", 0);
}

// Kineto did not escape quotes in names before July 2026.
void bare_quotes_in_a_name_are_mended() {
  for (const std::string name : {R"(say "hi" twice)", R"("all")", R"(odd " one)", R"(f("a", "b"))", R"(end")",
                                 R"({"a"})", R"(odd "} one)", R"(x "y": z)"}) {
    std::string escaped;
    for (const char c : name) escaped += c == '"' ? "\\\"" : std::string{c};
    check_in_pieces(listed(event("a") + ", " + event(name) + ", " + event("b")), "a|" + escaped + "|b", 0);
    check_in_pieces(listed(event(name)), escaped, 0);
  }
}

void control_characters_and_bare_quotes_together_are_mended() {
  check_in_pieces(listed(event("a") + "," + event("say\n\"hi\"\x01") + "," + event("b")), R"(a|say \"hi\" |b)", 0);
}

void stray_backslashes_are_kept() {
  check_in_pieces(listed(event(R"(C:\dir "x")") + "," + event("b")), R"(C:\\dir \"x\"|b)", 0);
}

void words_that_are_no_json_cost_nothing() {
  const std::string odd =
      R"({"ph": "X", "name": "k", "ts": 1, "args": {"a": NaN, "b": -Infinity, "c": N/A, "d": nan}})";
  check_in_pieces(listed(odd + "," + event("b")), "k|b", 0);
}

void what_cannot_be_mended_costs_itself() {
  check_in_pieces(listed(event("a") + R"(, {"ph": "X", "name": }, )" + event("b") + "," + event("c")), "a|b|c", 1);
  check_in_pieces(listed(event("a") + R"(, {"ph": "X", "name": "b", "ts": 1], )" + event("c") + "," + event("d")),
                  "a|c|d", 1);
}

// What damage takes away from one event must not be taken from the next, nor given to it.
void an_event_without_its_end_leaves_the_next_alone() {
  const std::string rest = ", " + event("b") + ", " + event("c") + "]}";
  const std::string begin = R"({"traceEvents": [)" + event("a") + ", ";
  for (const std::string damaged :
       {R"({"ph": "X", "name": "q)", R"({"ph": "X", "name": "q, "ts": 9, "dur": 1})",
        R"({"ph": "X", "name": q", "ts": 9, "dur": 1})", R"({"ph": "X", "name": "q", "ts": )",
        R"({"ph": "X", "name": "q", "ts": 9, "args": {"x": [1, )",
        R"({"ph": "X", "name": "q", "ts": 9, "args": {"x": "text)"}) {
    std::string text = begin;
    check_in_pieces(text.append(damaged).append(rest), "a|b|c", 1);
  }
  std::string filled = begin + R"({"ph": "X", "name": "q)";
  filled.append(20, '\0').append(rest);
  check_in_pieces(filled, "a|b|c", 1);
}

void missing_commas_are_added() {
  check_in_pieces(R"([{"ph": "X", "name": "q", "ts": 9 "dur": 1, "args": {"stream": 3}}, )" + event("b") + "]", "q|b",
                  0);
  check_in_pieces(R"([{"ph": "X" "cat": "kernel" "name": "q", "ts": 9}, )" + event("b") + "]", "q|b", 0);
  const Parsed parsed = parse(R"([{"ph": "X" "cat": "kernel" "name": "q" "ts": 9 "args": {"stream": 3}}])");
  CHECK(shardprof::test::category_of(parsed.trace, 0) == "kernel" && parsed.trace.columns.stream[0] == 3);
}

void a_backslash_at_the_end_of_a_name() {
  const Parsed parsed = parse(R"([{"ph": "X", "name": "dir\", "cat": "kernel", "ts": 1}, )" + event("b") + "]");
  CHECK(names(parsed.trace) == R"(dir\\|b)" && shardprof::test::category_of(parsed.trace, 0) == "kernel");
}

void a_list_with_a_bracket_too_many_goes_on() {
  check_in_pieces(R"({"traceEvents": [)" + event("a") + "], " + event("b") + R"(], "baseTimeNanoseconds": 5})", "a|b",
                  1);
}

void damage_at_the_end_of_the_list_leaves_what_follows() {
  for (const std::string damaged : {R"({"ph": "X", "name": })", R"({"ph": "X", "name": "q)"}) {
    const Parsed parsed =
        parse(R"({"traceEvents": [)" + event("a") + ", " + damaged + R"(], "baseTimeNanoseconds": 5})");
    CHECK(names(parsed.trace) == "a" && parsed.trace.lost_events >= 1 && parsed.finished);
    CHECK(!parsed.trace.metadata.empty() && parsed.trace.metadata.back().json == "5");
  }
}

void an_odd_quote_near_the_head_leaves_the_header() {
  const std::string text =
      R"({"distributedInfo": {"rank": 1}, "traceEvents": [)" + event(R"(A"a)") + "," + event("b") + "]}";
  check_in_pieces(text, R"(A\"a|b)", 0);
  CHECK(parse(text).trace.metadata.front().json == R"({"rank":1})");
}

void a_text_cut_off_gives_what_is_complete() {
  const std::string text = listed(event("a") + "," + event("b"));
  const size_t second = text.rfind("{\"ph\"");
  for (size_t cut = second + 1; cut < text.size() - 2; ++cut) {
    const Parsed parsed = parse(std::string_view{text}.substr(0, cut));
    CHECK(names(parsed.trace) == "a" && parsed.trace.lost_events == 1 && !parsed.finished);
    CHECK(parsed.trace.first_lost_byte == second);
  }
  check_in_pieces(text.substr(0, text.size() - 1), "a|b", 0, false);
}

void many_damaged_events_in_a_row() {
  std::string events;
  std::string expected;
  for (int i = 0; i < 3000; ++i) {
    events += (i > 0 ? "," : "") + event(i % 3 == 0 ? "odd \" one" : "even", i);
    expected += std::string{i > 0 ? "|" : ""} + (i % 3 == 0 ? "odd \\\" one" : "even");
  }
  const Parsed parsed = parse(listed(events));
  CHECK(names(parsed.trace) == expected);
  CHECK(parsed.trace.lost_events == 0);
}

// Behind the odd quote, what is inside strings seems outside: a short piece of text can be told apart, a longer one
// not.
void pieces_that_seem_whole_do_not_go_round_in_circles() {
  std::string text = R"([{"ph": "X", "args": {"x": [[[[ "odd, )" + event("first");
  for (int i = 0; i < 2000; ++i) text += "," + event("f()::{lambda(int)#1}");
  for (int i = 0; i < 4000; ++i) text += "," + event("plain");
  text += "]";
  for (const size_t piece : {size_t{1} << 19, size_t{1} << 16}) {
    const Parsed parsed = parse(text, piece);
    CHECK(parsed.finished && parsed.trace.columns.size() == 6001 && parsed.trace.lost_events == 1);
  }
}

std::string metadata(const Parsed& parsed) {
  std::string all;
  for (const auto& member : parsed.trace.metadata) all += member.key + "=" + member.json + ";";
  return all;
}

void metadata_stands_on_both_sides() {
  const std::string text =
      R"({"a": {"b": [1, "]}"]} , "c": NaN, "traceEvents": [)" + event("x") + R"(], "distributedInfo": {"rank": 3}})";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    CHECK(metadata(parse(text, piece)) == R"(a={"b": [1, "]}"]};c=NaN;distributedInfo={"rank": 3};)");
  }
}

// A header that nobody can read costs what is damaged, not the events and not the rank.
void damaged_metadata_costs_itself() {
  const std::string text = R"({"schemaVersion": 1, "cmd": "run "x", "distributedInfo": {"rank": 3}, "traceEvents": [)" +
                           event("a") + "," + event("b") + "]}";
  check_in_pieces(text, "a|b", 0);
  CHECK(metadata(parse(text)) == R"(schemaVersion=1;distributedInfo={"rank": 3};)");
  const std::string hopeless =
      R"({"cmd": "run "x": {], "distributedInfo": {"rank": 3}, "traceEvents": [)" + event("a") + "]}";
  CHECK(metadata(parse(hopeless)) == R"(distributedInfo={"rank": 3};)" && names(parse(hopeless).trace) == "a");
}

void long_values_are_waited_for() {
  const std::string config = R"({\"layers\": [{\"a\": 1}, {\"b\": 2}]} )";
  std::string value;
  while (value.size() < 40'000) value += config;
  const std::string text = R"({"config": ")" + value + R"(", "traceEvents": [)" + event("a") + "," +
                           R"({"ph": "X", "name": "b", "ts": 1, "args": {"stack": ")" + value + R"("}}, )" +
                           event("c") + "]}";
  for (const size_t piece : {1000U, 4096U, 30'000U, 200'000U}) {
    const Parsed parsed = parse(text, piece);
    CHECK(names(parsed.trace) == "a|b|c" && parsed.trace.lost_events == 0);
    CHECK(parsed.trace.metadata.size() == 1);
  }
}

void what_is_no_trace_has_no_events() {
  for (const char* text :
       {"", "  ", "text", "42", "{\"a\": 1}", "{\"traceEvents\": 1}", "{\"a\": {\"traceEvents\": []}}", "}{", "\"["}) {
    for (const size_t piece : {1U, 3U, 100U}) CHECK(!parse(text, piece).found_events);
  }
}

}  // namespace

int main() {
  whole_traces();
  names_hold_what_looks_like_structure();
  bare_quotes_in_a_name_are_mended();
  control_characters_and_bare_quotes_together_are_mended();
  stray_backslashes_are_kept();
  words_that_are_no_json_cost_nothing();
  what_cannot_be_mended_costs_itself();
  an_event_without_its_end_leaves_the_next_alone();
  missing_commas_are_added();
  a_backslash_at_the_end_of_a_name();
  a_list_with_a_bracket_too_many_goes_on();
  damage_at_the_end_of_the_list_leaves_what_follows();
  an_odd_quote_near_the_head_leaves_the_header();
  a_text_cut_off_gives_what_is_complete();
  many_damaged_events_in_a_row();
  pieces_that_seem_whole_do_not_go_round_in_circles();
  metadata_stands_on_both_sides();
  damaged_metadata_costs_itself();
  long_values_are_waited_for();
  what_is_no_trace_has_no_events();
  return shardprof::test::exit_code();
}
