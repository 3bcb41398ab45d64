#include "shardprof/json_mender.h"

#include <algorithm>
#include <cctype>

#include "shardprof/landmarks.h"

namespace shardprof {
namespace {

bool is_json_scalar(std::string_view word) {
  if (word == "true" || word == "false" || word == "null") return true;
  if (word.starts_with('-')) word.remove_prefix(1);
  const bool begins_number = !word.empty() && word.front() >= '0' && word.front() <= '9';
  return begins_number && word.find_first_not_of("0123456789.eE+-") == std::string_view::npos &&
         !(word.size() > 1 && word.front() == '0' && word[1] >= '0' && word[1] <= '9');
}

class Mender {
 public:
  Mender(std::string_view text, bool at_end) : text_(text), at_end_(at_end) {}

  Mended run() {
    do {
      at_ = next_visible(text_, at_);
      if (at_ == text_.size()) return {Outcome::incomplete, {}, text_.size()};
      if (!take_token()) return {Outcome::malformed, {}, at_};
      if (incomplete_) return {Outcome::incomplete, {}, text_.size()};
    } while (!open_.empty());
    return {Outcome::done, std::move(json_), at_};
  }

 private:
  // Takes one bracket, comma, colon, string or scalar; false where no value goes on like that.
  bool take_token() {
    const char c = text_[at_];
    if (c == '"' && value_is_done_ && !add_comma()) return false;
    value_is_done_ = c != '{' && c != '[' && c != ',' && c != ':' && !(c == '"' && key_is_next_);
    if (c == '"') return take_string();
    if (c == '{' || c == '[') {
      open_.push_back(c);
    } else if (c == '}' || c == ']') {
      if (open_.empty() || open_.back() != (c == '}' ? '{' : '[')) return false;
      open_.pop_back();
    } else if (c != ',' && c != ':') {
      return take_word();
    } else if (open_.empty()) {
      return false;
    }
    key_is_next_ = (c == '{' || c == ',') && open_.back() == '{';
    json_ += c;
    ++at_;
    return true;
  }

  // In front of a key that nothing separates from the value before it.
  bool add_comma() {
    if (open_.empty() || open_.back() != '{' || !is_key(at_)) return false;
    json_ += ',';
    key_is_next_ = true;
    return true;
  }

  bool take_word() {
    const size_t end = std::min(text_.find_first_of(",}]:{[\"", at_), text_.size());
    incomplete_ = end == text_.size() && !at_end_;
    std::string_view word = text_.substr(at_, end - at_);
    while (!word.empty() && static_cast<unsigned char>(word.back()) <= ' ') word.remove_suffix(1);
    json_ += is_json_scalar(word) ? word : "null";
    at_ = end;
    return true;
  }

  bool take_string() {
    const size_t begin = at_ + 1;
    size_t end = begin;
    for (;; ++end) {
      while (end < text_.size() && text_[end] != '"' && text_[end] != '\\' && text_[end] != '{') ++end;
      if (end >= text_.size()) {
        incomplete_ = true;
        return true;
      }
      if (text_[end] == '{') {
        if (begins_next_event(text_, end)) return false;  // the string has lost its end
      } else if (text_[end] == '\\' && !is_stray(end)) {
        ++end;
      } else if (text_[end] == '"' && (ends_string(end + 1) || incomplete_)) {
        break;
      }
    }
    append_string(text_.substr(begin, end - begin));
    at_ = end + 1;
    key_is_next_ = false;
    return true;
  }

  // A backslash before the quote that ends a string ("C:\dir\"): the next member of an event follows.
  [[nodiscard]] bool is_stray(size_t backslash) const {
    if (backslash + 1 >= text_.size() || text_[backslash + 1] != '"') return false;
    const size_t comma = next_visible(text_, backslash + 2);
    return comma < text_.size() && text_[comma] == ',' && begins_event_member(text_, next_visible(text_, comma + 1));
  }

  // Whether what stands behind a quote can only stand behind the end of a string. Where the text ends too early to
  // tell, that is `incomplete_`.
  bool ends_string(size_t behind) {
    const size_t next = behind_space(behind);
    if (next == text_.size() || open_.empty()) return true;
    const char c = text_[next];
    if (key_is_next_) return c == ':';
    if (open_.back() == '[') return c == ',' || (c == ']' && is_closing(next));
    return (c == ',' && is_key(behind_space(next + 1))) || (c == '}' && is_closing(next)) ||
           (c == '"' && begins_event_member(text_, next));  // with a comma missing
  }

  size_t behind_space(size_t at) {
    const size_t next = next_visible(text_, at);
    incomplete_ = incomplete_ || (next == text_.size() && !at_end_);
    return next;
  }

  bool is_closing(size_t bracket) {
    const size_t next = behind_space(bracket + 1);
    return next == text_.size() || text_[next] == ',' || text_[next] == '}' || text_[next] == ']';
  }

  bool is_key(size_t at) {
    if (at == text_.size()) return true;
    if (text_[at] != '"') return false;
    size_t end = at + 1;
    while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
    const size_t next = behind_space(std::min(end + 1, text_.size()));
    return next == text_.size() || text_[next] == ':';
  }

  void append_string(std::string_view inside) {
    json_ += '"';
    for (size_t i = 0; i < inside.size(); ++i) {
      const char c = inside[i];
      if (c == '\\' && i + 1 < inside.size() && is_escape(inside.substr(i + 1))) {
        json_ += c;
        json_ += inside[++i];
      } else if (c == '"' || c == '\\') {
        json_ += '\\';
        json_ += c;
      } else {
        json_ += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
      }
    }
    json_ += '"';
  }

  static bool is_escape(std::string_view behind_backslash) {
    if (behind_backslash.front() != 'u') {
      return std::string_view{"\"\\/bfnrt"}.find(behind_backslash.front()) != std::string_view::npos;
    }
    const std::string_view digits = behind_backslash.substr(1, 4);
    return digits.size() == 4 && std::ranges::all_of(digits, [](unsigned char c) { return std::isxdigit(c) != 0; });
  }

  std::string_view text_;
  bool at_end_;
  size_t at_ = 0;
  std::string open_;  // the brackets around what is next
  bool key_is_next_ = false;
  bool value_is_done_ = false;
  bool incomplete_ = false;
  std::string json_;
};

}  // namespace

Mended mend_value(std::string_view text, bool at_end) { return Mender{text, at_end}.run(); }

}  // namespace shardprof
