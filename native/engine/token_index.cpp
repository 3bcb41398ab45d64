#include "shardprof/token_index.h"

#include <simdjson.h>

#include <algorithm>
#include <new>

namespace shardprof {
namespace {

// simdjson has the first stage for itself only behind its parsers; this is the interface that these use.
using FirstStage = simdjson::internal::dom_parser_implementation;

constexpr size_t smallest_capacity = size_t{1} << 12;

// The length of the UTF-8 sequence that `text` begins with; 0 where it is none.
size_t utf8_length(std::span<const char> text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return 0;
  }
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool beyond_unicode = (first == 0xed && byte(1) > 0x9f) || (first == 0xf4 && byte(1) > 0x8f);
  return overlong || beyond_unicode ? 0 : length;
}

}  // namespace

struct TokenIndex::Stage {
  std::unique_ptr<FirstStage> implementation;
};

TokenIndex::TokenIndex() : stage_(std::make_unique<Stage>()) {}
TokenIndex::~TokenIndex() = default;

TokenIndex::Status TokenIndex::build(const char* text, size_t size) {
  tokens_ = {};
  std::unique_ptr<FirstStage>& stage = stage_->implementation;
  if (!stage || stage->capacity() < size) {
    const size_t capacity = std::max({size, smallest_capacity, stage ? 2 * stage->capacity() : 0});
    // The depth is that of the second stage, which nobody asks for.
    if (simdjson::get_active_implementation()->create_dom_parser_implementation(capacity, 1, stage) !=
        simdjson::SUCCESS) {
      throw std::bad_alloc{};
    }
  }
  const auto status = stage->stage1(reinterpret_cast<const uint8_t*>(text), size, simdjson::stage1_mode::regular);
  if (status == simdjson::EMPTY) return Status::ok;
  if (status == simdjson::UNCLOSED_STRING) return Status::inside_string;
  if (status != simdjson::SUCCESS) return Status::odd_bytes;
  tokens_ = {stage->structural_indexes.get(), stage->n_structural_indexes};
  return Status::ok;
}

void replace_odd_bytes(std::span<char> text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text.subspan(at));
    if (length == 0) text[at] = '?';
    if (length == 1 && static_cast<unsigned char>(text[at]) < ' ') text[at] = ' ';
    at += std::max<size_t>(length, 1);
  }
}

}  // namespace shardprof
