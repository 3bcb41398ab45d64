// Errors as values: what a function of the core returns when it can fail. Nothing in the core throws.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace shardprof {

enum class ErrorCode {
  cannot_read,      // the operating system refuses, at once or half-way
  damaged,          // it begins like compressed data and then is none
  not_a_trace,      // no list of events in it
  too_large,        // a header or an event that is larger than any trace's
  too_much_text,    // more than was allowed
  too_many_events,  // the same
};

struct Error {
  ErrorCode code;
  std::string message;
};

// Either a value or the Error that stands in its place.
template <typename T>
class Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  [[nodiscard]] T& value() { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const { return std::get<0>(state_); }
  [[nodiscard]] const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

}  // namespace shardprof
