// Traces of any bytes, whole and in pieces. Nothing may crash or hang; rows hold together; and what simdjson's own
// parser accepts as JSON gives the rows that a plain walk over its document gives.
#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "../tests/traces.h"
#include "require.h"

namespace {

namespace dom = simdjson::dom;
using shardprof::test::parse;
using shardprof::test::Parsed;

void require_consistent(const Parsed& parsed) {
  const auto& columns = parsed.trace.columns;
  const size_t rows = columns.size();
  for (const size_t size :
       {columns.end_ns.size(), columns.name.size(), columns.category.size(), columns.thread.size(),
        columns.correlation.size(), columns.external_id.size(), columns.stream.size(), columns.shape.size()}) {
    REQUIRE(size == rows);
  }
  for (size_t row = 0; row < rows; ++row) {
    REQUIRE(columns.begin_ns[row] <= columns.end_ns[row]);
    REQUIRE(columns.name[row] < parsed.trace.names.strings().size());
    REQUIRE(columns.category[row] < parsed.trace.categories.strings().size());
    REQUIRE(columns.thread[row] < parsed.trace.threads.strings().size());
  }
  REQUIRE(parsed.trace.detail.size() == parsed.trace.detail_row.size());
  REQUIRE(parsed.trace.detail_sequence.size() == parsed.trace.detail_row.size());
  for (size_t i = 0; i < parsed.trace.detail_row.size(); ++i) {
    REQUIRE(parsed.trace.detail_row[i] < rows);
    REQUIRE(i == 0 || parsed.trace.detail_row[i - 1] < parsed.trace.detail_row[i]);
    REQUIRE(parsed.trace.detail[i] < parsed.trace.details.strings().size());
  }
}

// Of keys that come twice, the last; nothing where there is none.
std::optional<dom::element> last(dom::object object, std::string_view key) {
  std::optional<dom::element> found;
  for (const auto field : object) {
    if (field.key == key) found = field.value;
  }
  return found;
}

// A time in microseconds, if it is a plain small number.
std::optional<double> time_of(dom::object event, std::string_view key) {
  const auto value = last(event, key);
  if (!value) return std::nullopt;
  double number = 0;
  if (value->get(number) != simdjson::SUCCESS || std::abs(number) > 1e12) return std::nullopt;
  return number;
}

// The begins that a trace certainly has, in nanoseconds; nothing where its rows are not that simple to tell.
std::optional<std::vector<double>> plain_begins(dom::element document) {
  dom::element events = document;
  if (document.is_object()) {
    size_t lists = 0;
    dom::object members;
    if (document.get(members) != simdjson::SUCCESS) return std::nullopt;
    for (const auto field : members) lists += field.key == "traceEvents" ? 1 : 0;
    const auto list = last(members, "traceEvents");
    if (lists != 1 || !list) return std::nullopt;
    events = *list;
  }
  if (!events.is_array()) return std::nullopt;
  std::vector<double> begins;
  for (const dom::element item : dom::array{events}) {
    dom::object event;
    if (item.get(event) != simdjson::SUCCESS) return std::nullopt;
    const auto phase = last(event, "ph");
    std::string_view letter;
    if (phase && phase->get(letter) != simdjson::SUCCESS) return std::nullopt;
    if (!phase || letter != "X") continue;
    const auto category = last(event, "cat");
    if (category && !category->is_string()) return std::nullopt;
    if (category && std::string_view{*category} == "python_function") continue;
    const auto begin = time_of(event, "ts");
    const auto duration = last(event, "dur") ? time_of(event, "dur") : 0;
    if (!begin || !duration || *duration < 0) return std::nullopt;
    begins.push_back(*begin * 1000);
  }
  return begins;
}

// Keys and phases with escapes in them read otherwise here than there: nobody writes them.
void require_twin_rows(std::string_view text, const Parsed& parsed) {
  static dom::parser parser;
  dom::element document;
  if (text.find('\\') != std::string_view::npos) return;
  if (parser.parse(text.data(), text.size()).get(document) != simdjson::SUCCESS) return;
  const auto begins = plain_begins(document);
  if (!begins) return;
  REQUIRE(parsed.found_events && parsed.finished && parsed.trace.lost_events == 0);
  REQUIRE(parsed.trace.columns.size() == begins->size());
  for (size_t row = 0; row < begins->size(); ++row) {
    const auto begin_ns = static_cast<double>(parsed.trace.columns.begin_ns[row]);
    REQUIRE(std::abs(begin_ns - (*begins)[row]) <= 2 + 1e-9 * std::abs(begin_ns));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text{reinterpret_cast<const char*>(data) + 1, size - 1};
  const Parsed whole = parse(text);
  require_consistent(whole);
  require_twin_rows(text, whole);
  const Parsed pieces = parse(text, 8 + 4 * size_t{data[0]});  // tests cut at every byte
  require_consistent(pieces);
  if (whole.finished && whole.trace.lost_events == 0) require_twin_rows(text, pieces);
  return 0;
}
