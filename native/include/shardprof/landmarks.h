// What tells in damaged text where an event or a member that matters begins, whatever the quotes and brackets around
// say. Where a search finds nothing, it gives npos; what stands at the text's first byte is no find, so that searching
// goes on.
#pragma once

#include <cstddef>
#include <string_view>

namespace shardprof {

// Where, from `at` on, there is something visible; the text's size where there is nothing.
size_t next_visible(std::string_view text, size_t at);

// Whether text[at] begins `"key":` of a key that events have.
bool begins_event_member(std::string_view text, size_t at);

// Whether text[at] is the brace that opens an event: such a key comes first in it.
bool begins_event(std::string_view text, size_t at);

// The same, behind a comma: whatever came before it is over.
bool begins_next_event(std::string_view text, size_t at);

size_t next_event(std::string_view text);

// Behind the bracket that opens the list of events, where the text begins with its key; else 0.
size_t event_list_of(std::string_view text);

// The next member without which a report knows less: the list of events, the rank, what times are relative to.
size_t next_vital_member(std::string_view text);

// The bracket that closes the list of events, if such a member follows.
size_t end_of_event_list(std::string_view text);

}  // namespace shardprof
