#include "shardprof/event_reader.h"

#include <algorithm>
#include <cstring>

#include "shardprof/decimal.h"

namespace shardprof {
namespace {

// Times within it (146 years either way) leave room for the differences and sums that follow.
constexpr int64_t max_time_ns = INT64_MAX / 2;

bool is_in_range(int64_t time_ns) { return -max_time_ns <= time_ns && time_ns <= max_time_ns; }

// With a length that the compiler knows, which makes it a comparison of registers.
template <size_t size>
bool equals(std::string_view text, const char (&word)[size]) {
  return text.size() == size - 1 && std::memcmp(text.data(), word, size - 1) == 0;
}

// FNV-1a; never 0.
uint32_t hash(std::string_view text) {
  uint32_t value = 2166136261U;
  for (const char character : text) value = (value ^ static_cast<unsigned char>(character)) * 16777619U;
  return std::max(value, 1U);
}

}  // namespace

// One event while its fields arrive, in whatever order. Of a key that comes twice, the last counts.
struct EventReader::Fields {
  std::string_view phase;
  std::string_view category;
  std::string_view name;
  std::string_view process;
  std::string_view thread;
  std::string_view begin;
  std::string_view duration = "0";
  TokenCursor arguments;
  int64_t correlation = absent;
  int64_t external_id = absent;
  int64_t stream = absent;
  uint32_t shape = 0;
  bool has_detail_mark = false;

  [[nodiscard]] std::string_view* named(std::string_view key) {
    switch (key.size()) {
      case 2:
        return equals(key, "ph") ? &phase : equals(key, "ts") ? &begin : nullptr;
      case 3:
        return equals(key, "pid")   ? &process
               : equals(key, "tid") ? &thread
               : equals(key, "cat") ? &category
               : equals(key, "dur") ? &duration
                                    : nullptr;
      case 4:
        return equals(key, "name") ? &name : nullptr;
      default:
        return nullptr;
    }
  }

  [[nodiscard]] int64_t* identifier(std::string_view key) {
    if (key.size() == 6) return equals(key, "stream") ? &stream : nullptr;
    if (key.size() != 11) return nullptr;
    if (equals(key, "correlation")) return &correlation;
    return equals(key, "External id") || equals(key, "external id") ? &external_id : nullptr;
  }
};

Outcome EventReader::read(TokenCursor& cursor, uint64_t position, bool last) {
  Fields fields;
  const Outcome outcome = cursor.take_object([&](std::string_view key) {
    if (equals(key, "args") && cursor.peek() == '{') return read_arguments(cursor, fields);
    std::string_view* field = fields.named(key);
    if (field == nullptr || cursor.peek() == '{' || cursor.peek() == '[') return cursor.skip_value();
    return cursor.take_scalar(*field);
  });
  if (outcome != Outcome::done) return outcome;
  if (cursor.at_end() && !last) return Outcome::incomplete;
  if (!cursor.at_end() && cursor.peek() != ',' && cursor.peek() != ']') return Outcome::malformed;
  if (equals(fields.phase, "X") && !append(fields)) count_lost(position);
  return Outcome::done;
}

void EventReader::count_lost(uint64_t position) {
  if (trace_.lost_events++ == 0) trace_.first_lost_byte = position;
}

Outcome EventReader::read_arguments(TokenCursor& cursor, Fields& fields) {
  // What has its phase and category already, as Kineto writes it, need not be read further when it is not wanted.
  const bool unwanted = (!fields.phase.empty() && !equals(fields.phase, "X")) ||
                        (!fields.category.empty() && category_is_skipped_[category_id(fields.category)]);
  if (unwanted) return cursor.skip_value();
  fields.arguments = cursor;
  return cursor.take_object([&](std::string_view key) {
    int64_t* identifier = fields.identifier(key);
    if (identifier == nullptr && is_shape(key)) return read_shape(cursor, fields);
    if (identifier == nullptr && key == options_.detail_mark) fields.has_detail_mark = true;
    if (identifier == nullptr || cursor.peek() == '{' || cursor.peek() == '[') return cursor.skip_value();
    std::string_view text;
    const Outcome taken = cursor.take_scalar(text);
    *identifier = integer_from_text(text).value_or(absent);
    return taken;
  });
}

bool EventReader::is_shape(std::string_view key) const {
  return std::ranges::find(options_.shape_arguments, key) != options_.shape_arguments.end();
}

Outcome EventReader::read_shape(TokenCursor& cursor, Fields& fields) {
  const uint32_t begin = cursor.offset();
  const Outcome outcome = cursor.skip_value();
  if (outcome == Outcome::done) fields.shape = hash(cursor.text_since(begin));
  return outcome;
}

// False for an event whose time cannot be read.
bool EventReader::append(const Fields& fields) {
  const uint32_t category = category_id(fields.category);
  if (category_is_skipped_[category]) return true;
  const auto begin = nanoseconds_from_microseconds(fields.begin);
  const auto duration = nanoseconds_from_microseconds(fields.duration);
  if (!begin || !duration || *duration < 0 || !is_in_range(*begin) || !is_in_range(*duration)) return false;
  const int64_t end = *begin + *duration;
  if (!is_in_range(end)) return false;
  TraceColumns& columns = trace_.columns;
  const uint32_t name = name_id(fields.name);
  if (fields.has_detail_mark || name_wants_detail_[name]) append_details(fields.arguments);
  columns.begin_ns.push_back(*begin);
  columns.end_ns.push_back(end);
  columns.name.push_back(name);
  columns.category.push_back(category);
  columns.thread.push_back(thread_id(fields.process, fields.thread));
  columns.correlation.push_back(fields.correlation);
  columns.external_id.push_back(fields.external_id);
  columns.stream.push_back(fields.stream);
  columns.shape.push_back(fields.shape);
  return true;
}

// Events without arguments have no details; those without any that are wanted have empty ones.
void EventReader::append_details(TokenCursor arguments) {
  if (arguments.at_end()) return;
  details_ = "{";
  int64_t sequence = absent;
  arguments.take_object([&](std::string_view key) {
    if (key == options_.detail_sequence && arguments.peek() != '{' && arguments.peek() != '[') {
      std::string_view text;
      const Outcome taken = arguments.take_scalar(text);
      sequence = integer_from_text(text).value_or(absent);
      return taken;
    }
    const uint32_t begin = arguments.offset();
    const Outcome outcome = arguments.skip_value();
    if (outcome == Outcome::done &&
        std::ranges::find(options_.detail_arguments, key) != options_.detail_arguments.end()) {
      if (details_.size() > 1) details_ += ", ";
      details_.append("\"").append(key).append("\": ").append(arguments.text_since(begin));
    }
    return outcome;
  });
  details_ += "}";
  trace_.detail_row.push_back(static_cast<uint32_t>(trace_.columns.size()));
  trace_.detail.push_back(trace_.details.intern(details_));
  trace_.detail_sequence.push_back(sequence);
}

uint32_t EventReader::category_id(std::string_view category) {
  const auto& known = trace_.categories.strings();
  if (last_category_ < known.size() && known[last_category_] == category) return last_category_;
  const uint32_t id = trace_.categories.intern(category);
  if (id == category_is_skipped_.size()) {
    category_is_skipped_.push_back(std::ranges::find(options_.skip_categories, category) !=
                                   options_.skip_categories.end());
  }
  return last_category_ = id;
}

uint32_t EventReader::name_id(std::string_view name) {
  const uint32_t id = trace_.names.intern(name);
  if (id == name_wants_detail_.size()) {
    const auto begins_name = [&](const std::string& prefix) { return name.starts_with(prefix); };
    name_wants_detail_.push_back(std::ranges::any_of(options_.detail_name_prefixes, begins_name));
  }
  return id;
}

uint32_t EventReader::thread_id(std::string_view process, std::string_view thread) {
  thread_.assign(process).append("/").append(thread);
  return trace_.threads.intern(thread_);
}

}  // namespace shardprof
