// Mending of any text ends; what is valid JSON already stays what it is, and a value that was mended stays when mended
// again.
#include <simdjson.h>

#include "require.h"
#include "shardprof/json_mender.h"

namespace {

using shardprof::mend_value;
using shardprof::Mended;
using shardprof::Outcome;

// The text with all white space outside strings left out; empty where it is no JSON.
std::string minified(std::string_view text) {
  static simdjson::dom::parser parser;
  simdjson::dom::element element;
  if (parser.parse(text.data(), text.size()).get(element) != simdjson::SUCCESS) return {};
  return simdjson::minify(element);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  for (const bool at_end : {true, false}) {
    const Mended mended = mend_value(text, at_end);
    if (mended.outcome != Outcome::done) continue;
    REQUIRE(mended.length > 0 && mended.length <= text.size());
    const Mended again = mend_value(mended.json, true);
    REQUIRE(again.outcome == Outcome::done && again.json == mended.json);
  }
  const std::string valid = minified(text);
  if (!valid.empty()) {
    const Mended mended = mend_value(text, true);
    REQUIRE(mended.outcome == Outcome::done && minified(mended.json) == valid);
  }
  return 0;
}
