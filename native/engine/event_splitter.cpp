#include "shardprof/event_splitter.h"

#include <array>
#include <cstring>

namespace shardprof {
namespace {

constexpr std::string_view events_key = "\"traceEvents\"";
constexpr size_t max_metadata_bytes = size_t{64} << 20;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

constexpr std::array<bool, 256> structural_table() {
  std::array<bool, 256> table{};
  for (const char c : {'"', '{', '}', '[', ']'}) table[static_cast<unsigned char>(c)] = true;
  return table;
}
constexpr auto is_structural = structural_table();

size_t trimmed_end(std::string_view text, size_t end) {
  while (end > 0 && is_space(text[end - 1])) --end;
  return end;
}

}  // namespace

void EventSplitter::feed(std::string_view piece) {
  if (state_ == State::trailer) {
    if (trailer_.size() < max_metadata_bytes) trailer_.append(piece);
    return;
  }
  buffer_.append(piece);
  if (state_ == State::header) scan_header();
  if (state_ == State::events) scan_events();
}

void EventSplitter::drop_complete() {
  buffer_.erase(0, complete_end_);
  scanned_ -= complete_end_;
  begin_ = complete_end_ = 0;
}

std::string EventSplitter::metadata() const {
  if (state_ == State::header) return buffer_;
  if (header_.empty()) return "{}";
  return header_ + "[]" + (finished() ? trailer_ : "}");
}

bool EventSplitter::finished() const {
  if (state_ != State::trailer) return false;
  const size_t end = trimmed_end(trailer_, trailer_.size());
  return header_.empty() || (end > 0 && trailer_[end - 1] == '}');
}

size_t EventSplitter::string_end(size_t at) const {
  while (true) {
    const void* quote = std::memchr(buffer_.data() + at, '"', buffer_.size() - at);
    if (quote == nullptr) return std::string::npos;
    const auto position = static_cast<size_t>(static_cast<const char*>(quote) - buffer_.data());
    size_t backslashes = 0;
    while (backslashes < position && buffer_[position - 1 - backslashes] == '\\') ++backslashes;
    at = position + 1;
    if (backslashes % 2 == 0) return at;
  }
}

// A list directly in the outermost object whose key is "traceEvents", or the outermost list itself.
bool EventSplitter::at_event_list(size_t opening_bracket) const {
  const std::string_view text = buffer_;
  size_t end = trimmed_end(text, opening_bracket);
  if (depth_ == 0) return end == 0;
  if (depth_ != 1 || end == 0 || text[end - 1] != ':') return false;
  end = trimmed_end(text, end - 1);
  return text.substr(0, end).ends_with(events_key);
}

void EventSplitter::scan_header() {
  while (scanned_ < buffer_.size()) {
    const char c = buffer_[scanned_];
    if (c == '"') {
      const size_t end = string_end(scanned_ + 1);
      if (end == std::string::npos) return;
      scanned_ = end;
      continue;
    }
    if (c == '[' && at_event_list(scanned_)) {
      if (depth_ == 1) header_.assign(buffer_, 0, scanned_);
      begin_ = complete_end_ = ++scanned_;
      depth_ = 0;
      state_ = State::events;
      drop_complete();
      return;
    }
    if (c == '{' || c == '[') ++depth_;
    if (c == '}' || c == ']') --depth_;
    ++scanned_;
  }
}

void EventSplitter::scan_events() {
  const char* text = buffer_.data();
  const size_t size = buffer_.size();
  while (true) {
    while (scanned_ < size && !is_structural[static_cast<unsigned char>(text[scanned_])]) ++scanned_;
    if (scanned_ == size) return;
    const char c = text[scanned_];
    if (c == '"') {
      const size_t end = string_end(scanned_ + 1);
      if (end == std::string::npos) return;
      scanned_ = end;
      continue;
    }
    if (c == ']' && depth_ == 0) {
      trailer_.assign(buffer_, scanned_ + 1);
      state_ = State::trailer;
      return;
    }
    if (c == '{' || c == '[') {
      if (depth_++ == 0 && begin_ == complete_end_) begin_ = complete_end_ = scanned_;
    } else if (depth_ > 0 && --depth_ == 0) {
      complete_end_ = scanned_ + 1;
    }
    ++scanned_;
  }
}

}  // namespace shardprof
