#include "shardprof/trace_parser.h"

#include <algorithm>
#include <cstring>

#include "shardprof/json_mender.h"
#include "shardprof/landmarks.h"
#include "shardprof/text_stream.h"

namespace shardprof {
namespace {

constexpr std::string_view events_key = "traceEvents";
constexpr std::string_view separators = " \n\t\r,";
constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

// Behind damage, text is looked at in small pieces, which double while all goes well: if every event is damaged, each
// costs a small piece and not a block.
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr int short_by = 7;  // the short inputs of a fuzzer, too, get beyond a window and waste too much
#else
constexpr int short_by = 0;
#endif
constexpr size_t long_text = size_t{1} << (20 - short_by);
constexpr size_t smallest_window = size_t{1} << (12 - short_by);
constexpr size_t smallest_reach = size_t{1} << (10 - short_by);
// How much text may be looked at in vain: what honest damage never comes near, so that malice costs no more than this.
constexpr uint64_t most_waste = uint64_t{1} << (26 - 2 * short_by);
constexpr uint64_t most_waste_a_byte = 8;
constexpr size_t tail_kept_in_search = 64;
constexpr int most_cuts = 4;

// Where a search that found nothing goes on: what is searched for may begin in this text and end in the next.
size_t searched(std::string_view text, bool last) {
  return last ? text.size() : text.size() - std::min(text.size(), tail_kept_in_search);
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
    const bool may_go_on = step.outcome == Outcome::incomplete && !step.stuck && window < reach();
    if (step.outcome == Outcome::done || (may_go_on && window < rest.size())) {
      window *= 2;
    } else if (may_go_on && !last) {
      break;
    } else {
      waste_ += window;
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
  if (skipping_) return {.outcome = Outcome::malformed, .taken = 0};
  const size_t wanted = window;
  size_t indexed = index(text.first(window), whole);
  while (indexed == 0 && window > smallest_window) {
    window /= 2;
    indexed = index(text.first(window), false);
  }
  if (indexed == 0)
    return {.outcome = is_short_of_text(text, window) ? Outcome::incomplete : Outcome::malformed, .taken = 0};
  TokenCursor cursor{text.data(), index_.tokens()};
  last_ = whole && indexed == text.size();
  uint32_t item = 0;
  const Outcome outcome = walk(cursor, item);
  const size_t taken = outcome == Outcome::done ? indexed : item;
  return {.outcome = outcome, .taken = taken, .stuck = taken == 0 && window < wanted};
}

// The beginning of something long looks like damage.
bool TraceParser::is_short_of_text(std::span<char> text, size_t& window) {
  const bool is_long = state_ == State::events || text.size() > long_text;
  if (is_long && holds_brace({text.data(), text.size()})) return false;
  window = text.size();
  return true;
}

// Whether there is a closing brace in the text; no byte is looked at twice for that.
bool TraceParser::holds_brace(std::string_view text) {
  if (next_brace_ < position_) {
    const size_t known = std::max(brace_free_until_, position_) - position_;
    const size_t found = known < text.size() ? text.find('}', known) : std::string_view::npos;
    brace_free_until_ = position_ + std::min(found, text.size());
    if (found != std::string_view::npos) next_brace_ = position_ + found;
  }
  return next_brace_ >= position_ && next_brace_ < position_ + text.size();
}

// How far an item may stretch from where it begins.
size_t TraceParser::reach() const {
  return waste_ < most_waste + most_waste_a_byte * position_ ? SIZE_MAX : smallest_reach;
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
  if (const char c = cursor.peek(); c == ',' || close(c)) return cursor.step(), Outcome::done;
  if (state_ == State::members) return take_member(cursor);
  return reader_.read(cursor, position_ + cursor.offset(), last_);
}

Outcome TraceParser::take_member(TokenCursor& cursor) {
  std::string_view key;
  if (const Outcome outcome = cursor.take_key(key); outcome != Outcome::done) return outcome;
  if (key == events_key && cursor.peek() == '[') {
    cursor.step();
    enter_events();
    return Outcome::done;
  }
  const uint32_t begin = cursor.offset();
  if (const Outcome outcome = cursor.skip_value(); outcome != Outcome::done) return outcome;
  if (cursor.at_end()) return Outcome::incomplete;
  if (cursor.peek() != ',' && cursor.peek() != '}') return Outcome::malformed;
  if (key != events_key) keep_member(key, cursor.text_since(begin));
  return Outcome::done;
}

void TraceParser::keep_member(std::string_view key, std::string_view json) {
  trace_.metadata.push_back({std::string{key}, std::string{json}});
  trace_.metadata_bytes += sizeof(Member) + key.size() + json.size();
}

size_t TraceParser::index(std::span<char> text, bool whole) {
  if (whole && index_exactly(text) == TokenIndex::Status::ok) return text.size();
  // A closing brace is nearly always outside of strings; where it is not, the one before it may be.
  size_t end = text.size();
  for (int cuts = 0; cuts < most_cuts; ++cuts) {
    const void* brace = memrchr(text.data(), '}', end);
    if (brace == nullptr) return 0;
    end = static_cast<size_t>(static_cast<const char*>(brace) - text.data());
    if (index_exactly(text.first(end + 1)) == TokenIndex::Status::ok) return end + 1;
  }
  return 0;
}

TokenIndex::Status TraceParser::index_exactly(std::span<char> text) {
  const TokenIndex::Status status = index_.build(text.data(), text.size());
  if (status != TokenIndex::Status::odd_bytes) return status;
  replace_odd_bytes(text);
  return index_.build(text.data(), text.size());
}

void TraceParser::enter_events() {
  state_ = State::events;
  found_events_ = true;
}

size_t TraceParser::recover(std::string_view text, bool last) {
  if (skipping_) return skip_to_event(text, last);
  const size_t begin = std::min(text.find_first_not_of(separators), text.size());
  if (begin > 0) return begin;
  if (close(text.front())) return 1;
  if (state_ == State::members && found_events_ && begins_event(text, 0)) {
    state_ = State::events;  // a bracket too many has closed the list
    reader_.count_lost(position_);
  }
  return state_ == State::events ? mend_event(text, last) : mend_member(text, last);
}

// Leaves the list or the object that the bracket closes; false for any other character.
bool TraceParser::close(char bracket) {
  if (state_ == State::events && bracket == ']') {
    state_ = is_bare_list_ ? State::closed : State::members;
  } else if (state_ == State::members && bracket == '}') {
    state_ = State::closed;
  } else {
    return false;
  }
  return true;
}

size_t TraceParser::mend_event(std::string_view text, bool last) {
  Mended mended = mend(text, last);
  if (mended.outcome == Outcome::incomplete) return 0;
  const bool whole = mended.outcome == Outcome::done;
  if (whole && read_mended(std::move(mended.json))) return mended.length;
  reader_.count_lost(position_);
  return whole ? std::min(next_event(text.substr(0, mended.length)), mended.length) : skip_to_event(text, last);
}

// Mends what the text begins with. `incomplete` only where more text may help.
Mended TraceParser::mend(std::string_view text, bool last) {
  const size_t limit = reach();
  const bool limited = text.size() > limit;
  Mended mended = mend_value(text.substr(0, limit), last && !limited);
  waste_ += mended.length;
  if (limited || last) mended.outcome = mended.outcome == Outcome::done ? Outcome::done : Outcome::malformed;
  return mended;
}

// The member that the text begins with, if it can be mended; else on to one that matters.
size_t TraceParser::mend_member(std::string_view text, bool last) {
  if (const size_t list = event_list_of(text); list != 0) return enter_events(), list;
  const size_t quote = text.front() == '"' ? text.find('"', 1) : std::string_view::npos;
  const size_t colon = quote == std::string_view::npos ? text.size() : next_visible(text, quote + 1);
  if (colon < text.size() && text[colon] == ':') {
    const size_t value = colon + 1;
    Mended mended = mend(text.substr(value), last);
    if (mended.outcome == Outcome::incomplete) return 0;
    const size_t next = next_visible(text, value + mended.length);
    if (mended.outcome == Outcome::done && next < text.size() && (text[next] == ',' || text[next] == '}')) {
      keep_member(text.substr(1, quote - 1), mended.json);
      return next;
    }
  }
  if (found_events_) reader_.count_lost(position_);
  return skip_to_member(text, last);
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
  const size_t at = std::min(next_event(text), end_of_event_list(text));
  skipping_ = at == std::string_view::npos;
  return skipping_ ? searched(text, last) : at;
}

size_t TraceParser::skip_to_member(std::string_view text, bool last) {
  return std::min(next_vital_member(text), searched(text, last));
}

}  // namespace shardprof
