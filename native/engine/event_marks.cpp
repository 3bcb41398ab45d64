#include "shardprof/event_marks.h"

#include <algorithm>
#include <array>

namespace shardprof {
namespace {

constexpr std::array<std::string_view, 11> event_keys{"ph",  "cat",  "name", "pid", "tid", "ts",
                                                      "dur", "args", "id",   "bp",  "s"};
constexpr size_t longest_event_key = 4;

bool is_blank(char c) { return static_cast<unsigned char>(c) <= ' '; }

}  // namespace

size_t next_visible(std::string_view text, size_t at) {
  while (at < text.size() && is_blank(text[at])) ++at;
  return std::min(at, text.size());
}

bool begins_event_member(std::string_view text, size_t at) {
  if (at >= text.size() || text[at] != '"') return false;
  const size_t length = text.substr(at + 1, longest_event_key + 1).find('"');
  if (length == std::string_view::npos) return false;
  if (std::ranges::find(event_keys, text.substr(at + 1, length)) == event_keys.end()) return false;
  const size_t colon = next_visible(text, at + length + 2);
  return colon < text.size() && text[colon] == ':';
}

bool begins_event(std::string_view text, size_t at) {
  return at < text.size() && text[at] == '{' && begins_event_member(text, next_visible(text, at + 1));
}

size_t next_event(std::string_view text) {
  for (size_t at = text.find('{', 1); at != std::string_view::npos; at = text.find('{', at + 1)) {
    if (!begins_event(text, at)) continue;
    size_t before = at;
    while (before > 0 && is_blank(text[before - 1])) --before;
    if (before > 0 && text[before - 1] == ',') return at;
  }
  return std::string_view::npos;
}

}  // namespace shardprof
