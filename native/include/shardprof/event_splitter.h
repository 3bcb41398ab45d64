// Where one event ends and the next begins in a Chrome trace that arrives in pieces.
//
//   {"schemaVersion": 1, ...        metadata before the events
//    "traceEvents": [ {...}, {...}, ... ],
//    "traceName": "..." }           metadata behind them
//
// or a bare list of events: [ {...}, {...} ].
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace shardprof {

class EventSplitter {
 public:
  // Takes the next piece of text.
  void feed(std::string_view piece);

  // The complete events that have arrived and were not taken yet, as JSON objects with commas between them. Valid until
  // the next call of `feed` or `drop_complete`.
  [[nodiscard]] std::string_view complete() const { return {buffer_.data() + begin_, complete_end_ - begin_}; }

  void drop_complete();

  // What stands around the events, as one JSON object with an empty "traceEvents". A file that was cut off gives what
  // had arrived, closed as well as can be.
  [[nodiscard]] std::string metadata() const;

  [[nodiscard]] bool found_events() const { return state_ >= State::events; }

  // Whether the text has come to its end: the list of events, and the object around it, are closed.
  [[nodiscard]] bool is_bare_list() const { return found_events() && header_.empty(); }
  [[nodiscard]] bool finished() const;

  // What is held back until the event or the header that it belongs to is complete.
  [[nodiscard]] size_t pending_bytes() const { return buffer_.size(); }

  // Whether the text ended inside an event.
  [[nodiscard]] bool holds_partial_event() const { return state_ == State::events && depth_ > 0; }

 private:
  enum class State { header, events, trailer };

  void scan_header();
  void scan_events();
  [[nodiscard]] bool at_event_list(size_t opening_bracket) const;
  // The index behind the string that starts in front of `at`, or npos when its end has not arrived.
  [[nodiscard]] size_t string_end(size_t at) const;

  State state_ = State::header;
  std::string header_;
  std::string trailer_;
  std::string buffer_;
  size_t scanned_ = 0;       // where scanning goes on in buffer_
  size_t begin_ = 0;         // the first byte of an event not yet taken
  size_t complete_end_ = 0;  // behind the last complete event
  int depth_ = 0;            // of open objects and lists, inside the event list or the header
};

}  // namespace shardprof
