// What tells in damaged text where an event begins, whatever the quotes and brackets around say.
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

// The first event in the text that another one, or the damage before it, is separated from by a comma; npos for none.
size_t next_event(std::string_view text);

}  // namespace shardprof
