#include "shardprof/trace_parser.h"

#include <algorithm>
#include <array>

#include "shardprof/json_mender.h"
#include "shardprof/text_stream.h"

namespace shardprof {
namespace {

constexpr std::string_view events_key = "traceEvents";
// The members without which a report knows less; behind damage in the metadata, reading goes on at the next of them.
constexpr std::array<std::string_view, 3> vital_keys{"\"distributedInfo\"", "\"baseTimeNanoseconds\"",
                                                     "\"traceEvents\""};
constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

// Behind damage, text is looked at in small pieces, which double while all goes well: if every event is damaged, each
// costs a small piece and not a block.
constexpr size_t smallest_window = size_t{1} << 12;
constexpr size_t largest_mended_event = size_t{1} << 20;
constexpr size_t tail_kept_in_search = 64;  // what is searched for may begin in one piece of text and end in the next
constexpr int most_cuts = 4;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

size_t next_visible(std::string_view text, size_t at) {
  while (at < text.size() && is_space(text[at])) ++at;
  return at;
}

// Where the next event begins: an opening brace behind `},`, with a key in it. npos where none does.
size_t next_event(std::string_view text) {
  for (size_t at = text.find('}'); at != std::string_view::npos; at = text.find('}', at + 1)) {
    size_t next = next_visible(text, at + 1);
    if (next == text.size() || text[next] != ',') continue;
    next = next_visible(text, next + 1);
    if (next == text.size() || text[next] != '{') continue;
    const size_t key = next_visible(text, next + 1);
    if (key < text.size() && text[key] == '"') return next;
  }
  return std::string_view::npos;
}

// Behind the bracket that opens the list of events, where `text` begins with its key; else 0.
size_t event_list_of(std::string_view text) {
  constexpr std::string_view key = vital_keys.back();
  if (!text.starts_with(key)) return 0;
  const size_t colon = next_visible(text, key.size());
  if (colon == text.size() || text[colon] != ':') return 0;
  const size_t bracket = next_visible(text, colon + 1);
  return bracket != text.size() && text[bracket] == '[' ? bracket + 1 : 0;
}

size_t next_vital_member(std::string_view text) {
  size_t nearest = std::string_view::npos;
  for (const std::string_view key : vital_keys) {
    const size_t at = text.find(key, 1);
    if (at == std::string_view::npos) continue;
    const size_t colon = next_visible(text, at + key.size());
    if (colon < text.size() && text[colon] == ':') nearest = std::min(nearest, at);
  }
  return nearest;
}

}  // namespace

size_t TraceParser::feed(std::span<char> text, bool last) {
  size_t done = state_ == State::outside ? enter({text.data(), text.size()}) : 0;
  position_ += done;
  size_t window = text.size();
  while (done < text.size() && state_ != State::outside && !at_end()) {
    const std::span<char> rest = text.subspan(done);
    window = std::min(window, rest.size());
    const Step step = read_window(rest, window, last && window == rest.size());
    done += step.taken;
    position_ += step.taken;
    if (step.outcome == Outcome::done || (step.outcome == Outcome::incomplete && window < rest.size())) {
      window *= 2;
    } else if (step.outcome == Outcome::incomplete && !last) {
      break;
    } else {
      const std::span<char> damaged = text.subspan(done);
      const size_t left = recover({damaged.data(), damaged.size()}, last);
      if (left == 0) break;
      done += left;
      position_ += left;
      window = smallest_window;
    }
  }
  if (!last && !at_end()) return done;
  position_ += text.size() - done;
  return text.size();
}

size_t TraceParser::enter(std::string_view text) {
  if (byte_order_mark.starts_with(text)) return 0;
  const size_t mark = text.starts_with(byte_order_mark) ? byte_order_mark.size() : 0;
  const size_t begin = next_visible(text, mark);
  if (begin == text.size()) return begin;
  is_bare_list_ = found_events_ = text[begin] == '[';
  state_ = is_bare_list_ ? State::events : text[begin] == '{' ? State::members : State::no_trace;
  return begin + 1;
}

// Reads the first `window` bytes, or as many of them as go well: where no piece of them can be told apart from the
// inside of a string, smaller ones are tried.
TraceParser::Step TraceParser::read_window(std::span<char> text, size_t& window, bool whole) {
  if (skipping_) return {Outcome::malformed, 0};
  size_t indexed = index(text.first(window), whole);
  while (indexed == 0 && window > smallest_window) {
    window /= 2;
    indexed = index(text.first(window), false);
  }
  if (indexed == 0) return {is_short_of_text(text, window) ? Outcome::incomplete : Outcome::malformed, 0};
  TokenCursor cursor{text.data(), index_.tokens()};
  last_ = whole && indexed == text.size();
  uint32_t item = 0;
  const Outcome outcome = walk(cursor, item);
  return {outcome, outcome == Outcome::done ? indexed : item};
}

// The beginning of something long looks like damage.
bool TraceParser::is_short_of_text(std::span<char> text, size_t& window) const {
  const bool holds_a_brace = std::ranges::find(text, '}') != text.end();
  if (holds_a_brace && (state_ == State::events || text.size() > largest_mended_event)) return false;
  window = text.size();
  return true;
}

// Takes items while tokens last; `item` becomes where the one begins that is not done.
Outcome TraceParser::walk(TokenCursor& cursor, uint32_t& item) {
  while (!cursor.at_end() && !at_end()) {
    item = cursor.offset();
    if (const Outcome outcome = take_item(cursor); outcome != Outcome::done) return outcome;
  }
  return Outcome::done;
}

Outcome TraceParser::take_item(TokenCursor& cursor) {
  const char c = cursor.peek();
  if (state_ == State::events && c != ',' && c != ']') return reader_.read(cursor, position_ + cursor.offset(), last_);
  if (state_ == State::members && c != ',' && c != '}') return take_member(cursor);
  if (c == ']') state_ = is_bare_list_ ? State::closed : State::members;
  if (c == '}') state_ = State::closed;
  cursor.step();
  return Outcome::done;
}

Outcome TraceParser::take_member(TokenCursor& cursor) {
  std::string_view key;
  if (const Outcome outcome = cursor.take_key(key); outcome != Outcome::done) return outcome;
  if (key == events_key && cursor.peek() == '[') {
    cursor.step();
    state_ = State::events;
    found_events_ = true;
    return Outcome::done;
  }
  const uint32_t begin = cursor.offset();
  if (const Outcome outcome = cursor.skip_value(); outcome != Outcome::done) return outcome;
  if (cursor.at_end()) return Outcome::incomplete;
  if (cursor.peek() != ',' && cursor.peek() != '}') return Outcome::malformed;
  if (key != events_key) trace_.metadata.push_back({std::string{key}, std::string{cursor.text_since(begin)}});
  return Outcome::done;
}

size_t TraceParser::index(std::span<char> text, bool whole) {
  if (whole && index_exactly(text) == TokenIndex::Status::ok) return text.size();
  // A closing brace is nearly always outside of strings; where it is not, the one before it may be.
  std::string_view rest{text.data(), text.size()};
  for (int cuts = 0; cuts < most_cuts; ++cuts) {
    const size_t brace = rest.rfind('}');
    if (brace == std::string_view::npos) return 0;
    if (index_exactly(text.first(brace + 1)) == TokenIndex::Status::ok) return brace + 1;
    rest = rest.substr(0, brace);
  }
  return 0;
}

TokenIndex::Status TraceParser::index_exactly(std::span<char> text) {
  const TokenIndex::Status status = index_.build(text.data(), text.size());
  if (status != TokenIndex::Status::odd_bytes) return status;
  replace_odd_bytes(text);
  return index_.build(text.data(), text.size());
}

size_t TraceParser::recover(std::string_view text, bool last) {
  if (state_ == State::members) return skip_to_member(text, last);
  return skipping_ ? skip_to_event(text, last) : mend_event(text, last);
}

size_t TraceParser::mend_event(std::string_view text, bool last) {
  if (is_space(text.front()) || text.front() == ',') return 1;
  if (text.front() == ']') return state_ = is_bare_list_ ? State::closed : State::members, 1;
  const bool limited = text.size() > largest_mended_event;
  Mended mended = mend_value(text.substr(0, largest_mended_event), last && !limited);
  if (mended.outcome == Outcome::incomplete && !limited && !last) return 0;
  const bool whole = mended.outcome == Outcome::done;
  if (!whole || !read_mended(std::move(mended.json))) reader_.count_lost(position_);
  return whole ? mended.length : skip_to_event(text, last);
}

bool TraceParser::read_mended(std::string json) {
  const size_t size = json.size();
  replace_odd_bytes(json);
  json.append(TextStream::padding_bytes, ' ');
  if (mended_index_.build(json.data(), size) != TokenIndex::Status::ok) return false;
  TokenCursor cursor{json.data(), mended_index_.tokens()};
  return reader_.read(cursor, position_, true) == Outcome::done && cursor.at_end();
}

size_t TraceParser::skip_to_event(std::string_view text, bool last) {
  const size_t at = next_event(text);
  skipping_ = at == std::string_view::npos;
  if (!skipping_) return at;
  return last ? text.size() : text.size() - std::min(text.size(), tail_kept_in_search);
}

size_t TraceParser::skip_to_member(std::string_view text, bool last) {
  if (const size_t list = event_list_of(text); list != 0) {
    state_ = State::events;
    found_events_ = true;
    return list;
  }
  const size_t at = next_vital_member(text);
  if (at != std::string_view::npos) return at;
  return last ? text.size() : text.size() - std::min(text.size(), tail_kept_in_search);
}

}  // namespace shardprof
