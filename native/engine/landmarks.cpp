#include "shardprof/landmarks.h"

#include <algorithm>
#include <array>

namespace shardprof {
namespace {

constexpr std::array<std::string_view, 11> event_keys{"ph",  "cat",  "name", "pid", "tid", "ts",
                                                      "dur", "args", "id",   "bp",  "s"};
constexpr size_t longest_event_key = 4;
constexpr std::string_view events_key = "\"traceEvents\"";
constexpr std::array<std::string_view, 3> vital_keys{"\"distributedInfo\"", "\"baseTimeNanoseconds\"", events_key};

bool is_blank(char c) { return static_cast<unsigned char>(c) <= ' '; }

// Behind `mark`, if that is what is visible next from `at` on; else npos.
size_t behind(std::string_view text, size_t at, char mark) {
  const size_t next = next_visible(text, at);
  return next < text.size() && text[next] == mark ? next + 1 : std::string_view::npos;
}

bool is_vital_member(std::string_view text) {
  return std::ranges::any_of(vital_keys, [&](std::string_view key) {
    return text.starts_with(key) && behind(text, key.size(), ':') != std::string_view::npos;
  });
}

}  // namespace

size_t next_visible(std::string_view text, size_t at) {
  while (at < text.size() && is_blank(text[at])) ++at;
  return std::min(at, text.size());
}

bool begins_event_member(std::string_view text, size_t at) {
  if (at >= text.size() || text[at] != '"') return false;
  const size_t length = text.substr(at + 1, longest_event_key + 1).find('"');
  if (length == std::string_view::npos) return false;
  const bool is_known = std::ranges::find(event_keys, text.substr(at + 1, length)) != event_keys.end();
  return is_known && behind(text, at + length + 2, ':') != std::string_view::npos;
}

bool begins_event(std::string_view text, size_t at) {
  return at < text.size() && text[at] == '{' && begins_event_member(text, next_visible(text, at + 1));
}

bool begins_next_event(std::string_view text, size_t at) {
  if (!begins_event(text, at)) return false;
  while (at > 0 && is_blank(text[at - 1])) --at;
  return at > 0 && text[at - 1] == ',';
}

size_t next_event(std::string_view text) {
  size_t at = text.find('{', 1);
  while (at != std::string_view::npos && !begins_next_event(text, at)) at = text.find('{', at + 1);
  return at;
}

size_t event_list_of(std::string_view text) {
  if (!text.starts_with(events_key)) return 0;
  const size_t value = behind(text, events_key.size(), ':');
  const size_t list = value == std::string_view::npos ? value : behind(text, value, '[');
  return list == std::string_view::npos ? 0 : list;
}

size_t next_vital_member(std::string_view text) {
  size_t at = text.find('"', 1);
  while (at != std::string_view::npos && !is_vital_member(text.substr(at))) at = text.find('"', at + 1);
  return at;
}

size_t end_of_event_list(std::string_view text) {
  for (size_t at = text.find(']', 1); at != std::string_view::npos; at = text.find(']', at + 1)) {
    const size_t member = behind(text, at + 1, ',');
    if (member != std::string_view::npos && is_vital_member(text.substr(next_visible(text, member)))) return at;
  }
  return std::string_view::npos;
}

}  // namespace shardprof
