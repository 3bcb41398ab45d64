#include "shardprof/event_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <string>

#include "shardprof/decimal.h"

namespace shardprof {
namespace {

namespace ondemand = simdjson::ondemand;

// Times within it (146 years either way) leave room for the differences and sums that follow.
constexpr int64_t max_time_ns = INT64_MAX / 2;

bool is_in_range(int64_t time_ns) { return -max_time_ns <= time_ns && time_ns <= max_time_ns; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && static_cast<unsigned char>(text.back()) <= ' ') text.remove_suffix(1);
  return text;
}

// A scalar as written: a string loses its quotes, so that numbers in quotes read like numbers.
std::string_view scalar_text(ondemand::value value) {
  std::string_view text = trimmed(value.raw_json_token());
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return text;
}

int64_t integer_or_absent(ondemand::value value) { return integer_from_text(scalar_text(value)).value_or(absent); }

// One event while its fields arrive, in whatever order.
struct EventFields {
  std::string_view phase;
  std::string_view category;
  std::string_view name;
  std::string_view process;
  std::string_view thread;
  std::string_view begin;
  std::string_view duration;
  std::string_view arguments;
  int64_t correlation = absent;
  int64_t external_id = absent;
  int64_t stream = absent;
  bool has_detail_argument = false;
};

// The end of the JSON object that begins at text[at], for text that the parser refuses.
size_t object_end(std::string_view text, size_t at) {
  int depth = 0;
  bool in_string = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') {
        ++at;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}' && --depth == 0) {
      return at + 1;
    }
  }
  return text.size();
}

// What makes an event readable that holds control characters or bytes that are no UTF-8 (both seen in kernel names).
std::string without_odd_bytes(std::string_view event) {
  std::string clean{event};
  for (char& c : clean) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) c = ' ';
    if (byte >= 0x80) c = '?';
  }
  return clean;
}

}  // namespace

class EventReader::Parser {
 public:
  Parser(TraceFile& trace, const ReadOptions& options) : trace_(trace), options_(options) {}

  void read(std::string_view batch) {
    const size_t rows = trace_.columns.size();
    const size_t details = trace_.detail_row.size();
    if (try_read(batch)) return;
    trace_.columns.resize(rows);
    trace_.detail_row.resize(details);
    trace_.detail_json.resize(details);
    read_one_by_one(batch);
  }

 private:
  void read_one_by_one(std::string_view batch) {
    for (size_t at = batch.find('{'); at < batch.size(); at = batch.find('{', at)) {
      const size_t end = object_end(batch, at);
      const std::string_view event = batch.substr(at, end - at);
      if (!try_read(event) && !try_read(without_odd_bytes(event))) ++trace_.lost_events;
      at = end;
    }
  }

  bool try_read(std::string_view batch) {
    padded_.assign("[");
    padded_.append(batch);
    padded_.append("]");
    const size_t size = padded_.size();
    padded_.append(simdjson::SIMDJSON_PADDING, ' ');
    ondemand::document document;
    if (parser_.iterate(padded_.data(), size, padded_.size()).get(document) != simdjson::SUCCESS) return false;
    ondemand::array events;
    if (document.get_array().get(events) != simdjson::SUCCESS) return false;
    for (auto element : events) {
      ondemand::object event;
      if (element.get_object().get(event) != simdjson::SUCCESS || !read_event(event)) return false;
    }
    return true;
  }

  bool read_event(ondemand::object event) {
    EventFields fields;
    for (auto field : event) {
      ondemand::raw_json_string key;
      ondemand::value value;
      if (field.key().get(key) != simdjson::SUCCESS) return false;
      if (field.value().get(value) != simdjson::SUCCESS) return false;
      if (key == "args") {
        if (!take_arguments(fields, value)) return false;
      } else {
        take_field(fields, key, value);
      }
    }
    return fields.phase != "X" || append(fields);
  }

  static void take_field(EventFields& fields, ondemand::raw_json_string key, ondemand::value value) {
    std::string_view* target = nullptr;
    if (key == "ph") target = &fields.phase;
    if (key == "cat") target = &fields.category;
    if (key == "name") target = &fields.name;
    if (key == "pid") target = &fields.process;
    if (key == "tid") target = &fields.thread;
    if (key == "ts") target = &fields.begin;
    if (key == "dur") target = &fields.duration;
    if (target != nullptr) *target = scalar_text(value);
  }

  // Arguments that are no object (none seen, but legal) teach nothing and harm nothing.
  bool take_arguments(EventFields& fields, ondemand::value value) {
    ondemand::object arguments;
    if (value.get_object().get(arguments) != simdjson::SUCCESS) return true;
    if (arguments.raw_json().get(fields.arguments) != simdjson::SUCCESS) return false;
    if (skipped(fields.category)) return true;
    if (arguments.reset().error() != simdjson::SUCCESS) return false;
    for (auto argument : arguments) {
      ondemand::raw_json_string key;
      ondemand::value content;
      if (argument.key().get(key) != simdjson::SUCCESS) return false;
      if (argument.value().get(content) != simdjson::SUCCESS) return false;
      if (key == "correlation") fields.correlation = integer_or_absent(content);
      if (key == "External id" || key == "external id") fields.external_id = integer_or_absent(content);
      if (key == "stream") fields.stream = integer_or_absent(content);
      if (key == options_.detail_argument.c_str()) fields.has_detail_argument = true;
    }
    return true;
  }

  [[nodiscard]] bool skipped(std::string_view category) const {
    return std::ranges::find(options_.skip_categories, category) != options_.skip_categories.end();
  }

  [[nodiscard]] bool wants_detail(const EventFields& fields) const {
    const auto begins_name = [&](const std::string& prefix) { return fields.name.starts_with(prefix); };
    return !fields.arguments.empty() &&
           (fields.has_detail_argument || std::ranges::any_of(options_.detail_name_prefixes, begins_name));
  }

  // False for an event whose time cannot be read.
  bool append(const EventFields& fields) {
    if (skipped(fields.category)) return true;
    const auto begin = nanoseconds_from_microseconds(fields.begin);
    const auto duration = nanoseconds_from_microseconds(fields.duration.empty() ? "0" : fields.duration);
    if (!begin || !duration || *duration < 0 || !is_in_range(*begin) || !is_in_range(*duration)) return false;
    const int64_t end = *begin + *duration;
    if (!is_in_range(end)) return false;
    TraceColumns& columns = trace_.columns;
    if (wants_detail(fields)) {
      trace_.detail_row.push_back(static_cast<uint32_t>(columns.size()));
      trace_.detail_json.emplace_back(fields.arguments);
    }
    thread_.assign(fields.process).append("/").append(fields.thread);
    columns.begin_ns.push_back(*begin);
    columns.end_ns.push_back(end);
    columns.name.push_back(trace_.names.intern(fields.name));
    columns.category.push_back(trace_.categories.intern(fields.category));
    columns.thread.push_back(trace_.threads.intern(thread_));
    columns.correlation.push_back(fields.correlation);
    columns.external_id.push_back(fields.external_id);
    columns.stream.push_back(fields.stream);
    return true;
  }

  TraceFile& trace_;
  const ReadOptions& options_;
  ondemand::parser parser_;
  std::string padded_;  // the batch as a JSON list, with room behind it for the parser to overread
  std::string thread_;
};

EventReader::EventReader(TraceFile& trace, const ReadOptions& options)
    : parser_(std::make_unique<Parser>(trace, options)) {}

EventReader::~EventReader() = default;

void EventReader::read(std::string_view batch) { parser_->read(batch); }

}  // namespace shardprof
