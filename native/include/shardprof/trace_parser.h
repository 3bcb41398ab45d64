// The grammar around the events of a Chrome trace that arrives in pieces, and the ways on behind damage.
//
//   {"schemaVersion": 1, ...        metadata before the events
//    "traceEvents": [ {...}, {...}, ... ],
//    "traceName": "..." }           metadata behind them
//
// or a bare list of events: [ {...}, {...} ].
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "shardprof/event_reader.h"
#include "shardprof/json_mender.h"
#include "shardprof/token_index.h"
#include "shardprof/trace_file.h"

namespace shardprof {

class TraceParser {
 public:
  TraceParser(TraceFile& trace, const ReadOptions& options) : trace_(trace), reader_(trace, options) {}

  // Reads what is complete of `text` and returns how much of it that was; the rest has to come again, with more behind
  // it. `last`: there is no more. Behind the text 64 bytes must be readable; odd bytes in it are replaced.
  size_t feed(std::span<char> text, bool last);

  [[nodiscard]] bool found_events() const { return found_events_; }
  [[nodiscard]] bool is_bare_list() const { return is_bare_list_; }
  [[nodiscard]] bool is_no_trace() const { return state_ == State::no_trace; }

  // Whether the text has come to its end: the list of events, and the object around it, are closed.
  [[nodiscard]] bool finished() const { return state_ == State::closed; }

 private:
  enum class State { outside, members, events, closed, no_trace };

  struct Step {
    Outcome outcome;
    size_t taken;        // how much text is done with
    bool stuck = false;  // nothing, and a larger window cannot be read at all
  };

  [[nodiscard]] bool at_end() const { return state_ == State::closed || state_ == State::no_trace; }
  size_t enter(std::string_view text);
  Step read_window(std::span<char> text, size_t& window, bool whole);
  bool is_short_of_text(std::span<char> text, size_t& window);
  bool holds_brace(std::string_view text);
  [[nodiscard]] size_t reach() const;
  Outcome walk(TokenCursor& cursor, uint32_t& item);
  Outcome take_item(TokenCursor& cursor);
  Outcome take_member(TokenCursor& cursor);
  void enter_events();
  bool close(char bracket);
  void keep_member(std::string_view key, std::string_view json);

  // Indexes as much from the text's begin on as ends outside a string; `whole`: all of it, if that can be.
  size_t index(std::span<char> text, bool whole);
  TokenIndex::Status index_exactly(std::span<char> text);

  // Ways on from text[0], where it does not go on as it should: how much to leave behind, 0 for "wait for more".
  size_t recover(std::string_view text, bool last);
  size_t mend_event(std::string_view text, bool last);
  size_t mend_member(std::string_view text, bool last);
  Mended mend(std::string_view text, bool last);
  size_t skip_to_event(std::string_view text, bool last);
  size_t skip_to_member(std::string_view text, bool last);
  bool read_mended(std::string json);

  TraceFile& trace_;
  EventReader reader_;
  TokenIndex index_;
  TokenIndex mended_index_;
  State state_ = State::outside;
  bool found_events_ = false;
  bool is_bare_list_ = false;
  bool last_ = false;        // nothing comes behind the tokens in hand
  bool skipping_ = false;    // behind an event that cannot be mended, to the next one
  uint64_t waste_ = 0;       // text that was looked at in vain
  uint64_t next_brace_ = 0;  // where in the whole text the next closing brace is, if not before position_
  uint64_t brace_free_until_ = 0;
  uint64_t position_ = 0;  // of the text in hand, in the whole text
};

}  // namespace shardprof
