// Walks the tokens of JSON text: the little grammar that traces need, without recursion.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace shardprof {

enum class Outcome {
  done,
  incomplete,  // the tokens end before the value does
  malformed,
};

class TokenCursor {
 public:
  TokenCursor() = default;  // at the end of nothing
  TokenCursor(const char* text, std::span<const uint32_t> tokens)
      : text_(text), at_(tokens.data()), end_(tokens.data() + tokens.size()) {}

  [[nodiscard]] bool at_end() const { return at_ == end_; }
  [[nodiscard]] char peek() const { return text_[*at_]; }
  [[nodiscard]] uint32_t offset() const { return *at_; }
  void step() { ++at_; }

  // Takes `"key":`. Needs the next token too, so that every value is told by its first byte.
  Outcome take_key(std::string_view& key) {
    if (end_ - at_ < 3) return Outcome::incomplete;
    if (text_[at_[0]] != '"' || text_[at_[1]] != ':' || !unquote(at_[0], at_[1], key)) return Outcome::malformed;
    at_ += 2;
    return Outcome::done;
  }

  // Takes a string, without its quotes but still escaped, or a number or word, as it is written.
  Outcome take_scalar(std::string_view& value) {
    if (end_ - at_ < 2) return Outcome::incomplete;
    const char first = peek();
    if (is_structural(first)) return Outcome::malformed;
    if (first == '"') {
      if (!unquote(at_[0], at_[1], value)) return Outcome::malformed;
    } else {
      value = {text_ + at_[0], trimmed_end(at_[0], at_[1]) - at_[0]};
    }
    ++at_;
    return Outcome::done;
  }

  // Takes any value. Inside lists and objects only the brackets are looked at.
  Outcome skip_value() {
    if (end_ - at_ < 2) return Outcome::incomplete;
    const char first = peek();
    if (first != '{' && first != '[') return step(), is_structural(first) ? Outcome::malformed : Outcome::done;
    int depth = 0;
    do {
      if (at_end()) return Outcome::incomplete;
      depth += nesting(peek());
      step();
    } while (depth > 0);
    return Outcome::done;
  }

  // Takes an object; `take_value(key)` has to take each value.
  template <typename TakeValue>
  Outcome take_object(TakeValue&& take_value) {
    if (at_end()) return Outcome::incomplete;
    if (peek() != '{') return Outcome::malformed;
    step();
    if (!at_end() && peek() == '}') return step(), Outcome::done;
    while (true) {
      std::string_view key;
      if (const Outcome outcome = take_key(key); outcome != Outcome::done) return outcome;
      if (const Outcome outcome = take_value(key); outcome != Outcome::done) return outcome;
      if (at_end()) return Outcome::incomplete;
      const char next = peek();
      if (next != ',' && next != '}') return Outcome::malformed;
      step();
      if (next == '}') return Outcome::done;
    }
  }

  // The text from a token up to the one that is next, without the white space between.
  [[nodiscard]] std::string_view text_since(uint32_t begin) const {
    const uint32_t end = at_ == end_ ? at_[-1] + 1 : trimmed_end(begin, *at_);
    return {text_ + begin, end - begin};
  }

 private:
  static bool is_structural(char c) { return c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':'; }
  static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

  static int nesting(char c) {
    static constexpr auto table = [] {
      std::array<signed char, 256> values{};
      values['{'] = values['['] = 1;
      values['}'] = values[']'] = -1;
      return values;
    }();
    return table[static_cast<unsigned char>(c)];
  }

  // Behind the last byte before `end` that is no white space.
  [[nodiscard]] uint32_t trimmed_end(uint32_t begin, uint32_t end) const {
    while (end > begin && is_space(text_[end - 1])) --end;
    return end;
  }

  // The inside of the string that begins at `begin`; the next token is at `next`. False where it does not end there.
  bool unquote(uint32_t begin, uint32_t next, std::string_view& inside) const {
    const uint32_t end = text_[next - 1] == '"' ? next : trimmed_end(begin, next);
    if (end - begin < 2 || text_[end - 1] != '"') return false;
    inside = {text_ + begin + 1, end - begin - 2};
    return true;
  }

  const char* text_ = nullptr;
  const uint32_t* at_ = nullptr;
  const uint32_t* end_ = nullptr;
};

}  // namespace shardprof
