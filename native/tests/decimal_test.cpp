#include "shardprof/decimal.h"

#include <string>

#include "check.h"

namespace {

using shardprof::integer_from_text;
using shardprof::nanoseconds_from_microseconds;

bool gives(std::string_view text, int64_t expected) { return nanoseconds_from_microseconds(text) == expected; }
bool is_refused(std::string_view text) { return !nanoseconds_from_microseconds(text).has_value(); }

void every_era_of_timestamps() {
  CHECK(gives("1623143089861619", 1'623'143'089'861'619'000));      // whole microseconds since the epoch
  CHECK(gives("1711964646000000.123", 1'711'964'646'000'000'123));  // 19 digits: too many for a double
  CHECK(gives("4458677009853.422", 4'458'677'009'853'422));         // relative to baseTimeNanoseconds
  CHECK(gives("0.001", 1));
  CHECK(gives("12", 12'000));
  CHECK(gives("0", 0));
  CHECK(gives("000", 0));
}

void digits_beyond_the_nanosecond_are_dropped() {
  CHECK(gives("1.0009999", 1'000));
  CHECK(gives("-1.0009999", -1'000));
  CHECK(gives("0.00099999999999999999999999999999", 0));
  CHECK(gives("1." + std::string(10'000, '9'), 1'999));
}

void exponents() {
  CHECK(gives("1.5e3", 1'500'000));
  CHECK(gives("1.5E+3", 1'500'000));
  CHECK(gives("1234567e-6", 1'234));
  CHECK(gives("1.623143089861619e15", 1'623'143'089'861'619'000));
  CHECK(gives("1e-4", 0));
  CHECK(gives("12345e-40", 0));
  CHECK(gives("0e40", 0));
}

void negatives() {
  CHECK(gives("-0.5", -500));
  CHECK(gives("-0", 0));
  CHECK(gives("-1e3", -1'000'000));
}

void what_does_not_fit_is_refused() {
  CHECK(gives("9223372036854775", 9'223'372'036'854'775'000));
  for (const char* digits : {"9223372036854776", "9999999999999999.999", "18446744073709552", "18446744073710552"}) {
    CHECK(is_refused(digits));
  }
  CHECK(gives("9223372036854775.807", INT64_MAX));
  CHECK(gives("-9223372036854775.807", -INT64_MAX));
  CHECK(is_refused("9223372036854775.808"));
  CHECK(is_refused("18446744073709551.616"));
  CHECK(is_refused("1e16"));
  CHECK(is_refused("1e41"));
  CHECK(is_refused("1e99999999999"));
  CHECK(is_refused(std::string(10'000, '9')));
}

void garbage_is_refused() {
  for (const std::string_view text :
       {"",    "-",        ".",    "-.",   "e3",  "1e",  "1e+", "1e+-3", "1e--3", "1.2.3", "0x10",
        "NaN", "Infinity", "null", "true", "12 ", " 12", "1,5", "--1",   "+1",    "1e3x",  "{}"}) {
    if (!CHECK(is_refused(text))) std::fprintf(stderr, "  for \"%.*s\"\n", static_cast<int>(text.size()), text.data());
  }
}

void integers() {
  CHECK(integer_from_text("42") == 42);
  CHECK(integer_from_text("-1") == -1);
  CHECK(integer_from_text("9223372036854775807") == INT64_MAX);
  CHECK(integer_from_text("18446744073709551615") == -1);  // the bits of the uint64
  for (const std::string_view text : {"", "-", "1.5", "1e3", "18446744073709551616", "stream", "7 "}) {
    CHECK(!integer_from_text(text).has_value());
  }
}

}  // namespace

int main() {
  every_era_of_timestamps();
  digits_beyond_the_nanosecond_are_dropped();
  exponents();
  negatives();
  what_does_not_fit_is_refused();
  garbage_is_refused();
  integers();
  return shardprof::test::exit_code();
}
