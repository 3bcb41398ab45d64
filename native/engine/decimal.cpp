#include "shardprof/decimal.h"

#include <charconv>

namespace shardprof {
namespace {

constexpr int nanosecond_digits = 3;  // behind the decimal point of a microsecond
constexpr int max_exponent = 40;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct Decimal {
  bool negative = false;
  std::string_view whole;
  std::string_view fraction;
  int exponent = 0;
};

std::optional<Decimal> split(std::string_view text) {
  Decimal number;
  size_t at = 0;
  if (at < text.size() && text[at] == '-') {
    number.negative = true;
    ++at;
  }
  const size_t whole_begin = at;
  while (at < text.size() && is_digit(text[at])) ++at;
  number.whole = text.substr(whole_begin, at - whole_begin);
  if (at < text.size() && text[at] == '.') {
    const size_t fraction_begin = ++at;
    while (at < text.size() && is_digit(text[at])) ++at;
    number.fraction = text.substr(fraction_begin, at - fraction_begin);
  }
  if (number.whole.empty() && number.fraction.empty()) return std::nullopt;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    if (++at < text.size() && text[at] == '+') ++at;
    if (at < text.size() && text[at] == '-' && text[at - 1] == '+') return std::nullopt;
    const auto [end, status] = std::from_chars(text.data() + at, text.data() + text.size(), number.exponent);
    if (status != std::errc{}) return std::nullopt;
    at = static_cast<size_t>(end - text.data());
  }
  if (at != text.size() || number.exponent > max_exponent || number.exponent < -max_exponent) return std::nullopt;
  return number;
}

// The digit of the number that stands for 10^-position, counted from the decimal point as it is written.
unsigned digit_at(const Decimal& number, int position) {
  if (position > 0) {
    const auto index = static_cast<size_t>(position - 1);
    return index < number.fraction.size() ? static_cast<unsigned>(number.fraction[index] - '0') : 0U;
  }
  const auto back = static_cast<size_t>(1 - position);
  return back <= number.whole.size() ? static_cast<unsigned>(number.whole[number.whole.size() - back] - '0') : 0U;
}

// What Kineto writes: some digits, a point, three digits. Nothing for all else.
std::optional<int64_t> nanoseconds_of_plain(std::string_view text) {
  constexpr size_t most_whole_digits = 16;  // a thousand times as much still fits into 64 bits without a sign
  uint64_t magnitude = 0;
  size_t at = 0;
  for (; at < text.size() && is_digit(text[at]); ++at) {
    if (at == most_whole_digits) return std::nullopt;
    magnitude = magnitude * 10 + static_cast<uint64_t>(text[at] - '0');
  }
  if (at == 0) return std::nullopt;
  int missing = nanosecond_digits;
  if (at < text.size() && text[at] == '.') {
    for (++at; at < text.size() && is_digit(text[at]) && missing > 0; ++at, --missing) {
      magnitude = magnitude * 10 + static_cast<uint64_t>(text[at] - '0');
    }
  }
  if (at != text.size()) return std::nullopt;
  for (; missing > 0; --missing) magnitude *= 10;
  if (magnitude > INT64_MAX) return std::nullopt;
  return static_cast<int64_t>(magnitude);
}

}  // namespace

std::optional<int64_t> nanoseconds_from_microseconds(std::string_view text) {
  if (const auto plain = nanoseconds_of_plain(text)) return plain;
  const auto number = split(text);
  if (!number) return std::nullopt;
  // An exponent of e makes the digit written at position p stand at position p - e: walk those that count.
  const int last = nanosecond_digits + number->exponent;
  int64_t magnitude = 0;
  for (int position = 1 - static_cast<int>(number->whole.size()); position <= last; ++position) {
    if (__builtin_mul_overflow(magnitude, 10, &magnitude)) return std::nullopt;
    if (__builtin_add_overflow(magnitude, digit_at(*number, position), &magnitude)) return std::nullopt;
  }
  return number->negative ? -magnitude : magnitude;
}

std::optional<int64_t> integer_from_text(std::string_view text) {
  const char* end = text.data() + text.size();
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec == std::errc{} && parsed.ptr == end) return value;
  uint64_t large = 0;
  const auto unsigned_parsed = std::from_chars(text.data(), end, large);
  if (unsigned_parsed.ec == std::errc{} && unsigned_parsed.ptr == end) return static_cast<int64_t>(large);
  return std::nullopt;
}

}  // namespace shardprof
