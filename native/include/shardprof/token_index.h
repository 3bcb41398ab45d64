// Where the tokens of a piece of JSON begin: brackets, commas, colons, and the first bytes of strings and scalars.
// simdjson's first stage finds them, with the widest vectors that the machine has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace shardprof {

class TokenIndex {
 public:
  enum class Status {
    ok,
    inside_string,  // the text ends within a string
    odd_bytes,      // a string holds control characters, or the text is no UTF-8
  };

  TokenIndex();
  ~TokenIndex();
  TokenIndex(const TokenIndex&) = delete;
  TokenIndex& operator=(const TokenIndex&) = delete;

  // Indexes the first `size` bytes of `text`, behind which 64 more must be readable. `size` is below 4 GiB.
  Status build(const char* text, size_t size);

  // Offsets into that text, in order.
  [[nodiscard]] std::span<const uint32_t> tokens() const { return tokens_; }

 private:
  struct Stage;
  std::unique_ptr<Stage> stage_;
  std::span<const uint32_t> tokens_;
};

// Makes text acceptable in place: control characters become spaces, bytes that are no UTF-8 question marks.
void replace_odd_bytes(std::span<char> text);

}  // namespace shardprof
